#include "cpu/kvm/probe.h"

#include <utility>

#include "cpu/kvm/device.h"
#include "cpu/kvm/partition.h"
#include "cpu/speed_probe.h"

namespace bygone::cpu::kvm {
namespace {

constexpr std::chrono::milliseconds kTimeLimit(300);

/// Below this share of the bare processor's rate guest code is not run by the processor itself.
constexpr double kNativeOrder = 0.1;

Result<std::unique_ptr<KvmPartition>> make_partition(const Device& device, memory::GuestMemory& memory) {
  BYGONE_CHECK(prepare_probe_memory(memory));
  PartitionOptions options;
  options.memory = &memory;
  BYGONE_ASSIGN(options.cpuid, device.supported_cpuid());
  return KvmPartition::create(device, std::move(options));
}

EngineStatus unusable(const Error& error) {
  return {.is_usable = false, .million_instructions_per_second = 0, .reason = error.message, .hint = error.hint};
}

EngineStatus judge(const std::string& device_path, double guest, double native, bool is_beyond_emulator) {
  EngineStatus status;
  status.million_instructions_per_second = guest;
  status.is_usable = !is_beyond_emulator && guest >= native * kNativeOrder;
  if (status.is_usable) {
    status.reason = fmt::format("kernel mode runs at {:.0f} million instructions a second, {:.0f} % of the bare processor",
                                guest, guest / native * 100);
    return status;
  }
  status.reason = fmt::format(
      "{} is there, but kernel mode is emulated{}: {:.2f} million instructions a second where the bare processor does {:.0f}",
      device_path, is_beyond_emulator ? " and has no vector instructions" : "", guest, native);
  status.hint = "This host is itself a virtual machine without nested virtualization; its owner can turn that on";
  return status;
}

}  // namespace

EngineStatus probe(const std::string& device_path) {
  auto device = Device::open(device_path);
  if (!device) return unusable(device.error());
  memory::GuestMemory memory;
  auto partition = make_partition(*device, memory);
  if (!partition) return unusable(partition.error());
  Vcpu& vcpu = (*partition)->vcpu(VpIndex{0});
  const double native = measure_native_speed();
  const auto deadline = ProbeClock::now() + kTimeLimit;
  auto guest = measure_speed(memory, vcpu, ProbeLoop::kVector, native * kNativeOrder, deadline);
  const bool is_beyond_emulator = guest && guest->is_beyond_engine;
  // For the figure alone: one measurement says enough.
  if (is_beyond_emulator) guest = measure_speed(memory, vcpu, ProbeLoop::kInteger, 0, deadline);
  if (!guest) return unusable(guest.error());
  return judge(device_path, guest->million_instructions_per_second, native, is_beyond_emulator);
}

}  // namespace bygone::cpu::kvm
