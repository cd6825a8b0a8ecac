#include "cpu/kvm/probe.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <span>
#include <thread>
#include <utility>

#include "cpu/entry_state.h"
#include "cpu/kvm/device.h"
#include "cpu/kvm/partition.h"

// The measured loop, RCX times eight instructions on the 64 bytes at RDI; position-independent, so that the same bytes run in
// the guest and here. bygone_probe_loop is a function of the System V ABI with (bytes, unused, unused, times).
asm(R"(
  .pushsection .text
  .globl bygone_probe_loop, bygone_probe_loop_end
  .hidden bygone_probe_loop, bygone_probe_loop_end
  .balign 64
bygone_probe_loop:
  mov (%rdi), %rax
  add %rcx, %rax
  mov %rax, 8(%rdi)
  movups (%rdi), %xmm0
  paddq %xmm0, %xmm0
  movups %xmm0, 16(%rdi)
  dec %rcx
  jnz bygone_probe_loop
  ret
bygone_probe_loop_end:
  .popsection
)");
extern "C" void bygone_probe_loop(void* bytes, std::uint64_t unused2, std::uint64_t unused3, std::uint64_t times);
extern "C" const std::byte bygone_probe_loop_end[];

namespace bygone::cpu::kvm {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::uint64_t kInstructionsPerTurn = 8;
constexpr milliseconds kLimit(250);         // of the whole measurement; the watchdog's
constexpr milliseconds kEnough(20);         // of guest time for a good figure
constexpr std::uint64_t kFirstTurns = 250;  // 2000 instructions: 3 ms at 0.7 million a second

/// Below this share of the bare processor's rate guest code is not run by the processor itself.
constexpr double kNativeOrder = 0.2;

// Guest layout, inside one 2 MiB slot.
constexpr memory::Gpa kPageTables{0x1000};
constexpr memory::Gpa kDescriptors{0x8000};
constexpr memory::Gpa kCode{0x9000};
constexpr memory::Gpa kData{0xA000};
constexpr memory::Gpa kStackTop{0xC000};
constexpr std::uint64_t kMemory = 2 << 20;
constexpr std::uint16_t kPort = 0x80;

// call loop; out 0x80, al; jmp back to the call. The host reloads RCX at each OUT.
Result<void> write_guest(memory::GuestMemory& memory) {
  const auto* loop = reinterpret_cast<const std::byte*>(&bygone_probe_loop);
  const auto loop_bytes = static_cast<std::size_t>(bygone_probe_loop_end - loop);
  constexpr std::array<std::uint8_t, 9> kDriver{0xE8, 0x3B, 0, 0, 0,  // call +0x3B: the loop at 0x40
                                                0xE6, kPort,         // out
                                                0xEB, 0xF7};         // jmp -9
  BYGONE_CHECK(memory.write(kCode, std::as_bytes(std::span(kDriver))));
  return memory.write(kCode + 0x40, {loop, loop_bytes});
}

/// Kicks a processor when the time is up; the destructor calls it off.
class Watchdog {
 public:
  explicit Watchdog(Vcpu& vcpu)
      : thread_([this, &vcpu] {
          std::unique_lock lock(mutex_);
          if (!stop_.wait_for(lock, kLimit, [this] { return is_done_; })) vcpu.kick();
        }) {}
  ~Watchdog() {
    {
      const std::lock_guard lock(mutex_);
      is_done_ = true;
    }
    stop_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable stop_;
  bool is_done_ = false;  // guarded by mutex_
  std::jthread thread_;
};

double rate(std::uint64_t turns, Clock::duration time) {
  const double microseconds = std::chrono::duration<double, std::micro>(time).count();
  return static_cast<double>(turns * kInstructionsPerTurn) / std::max(microseconds, 0.001);
}

/// Million instructions a second of the same loop on the bare processor, as this process may use it.
double native_rate() {
  alignas(64) std::array<std::byte, 64> bytes = {};
  std::uint64_t turns = 100'000;
  for (;;) {
    const auto start = Clock::now();
    bygone_probe_loop(bytes.data(), 0, 0, turns);
    const auto time = Clock::now() - start;
    if (time > milliseconds(3)) return rate(turns, time);
    turns *= 4;
  }
}

Result<std::unique_ptr<KvmPartition>> make_partition(const Device& device, memory::GuestMemory& memory) {
  BYGONE_CHECK(memory.add_ram({0}, kMemory));
  BYGONE_CHECK(write_guest(memory));
  PartitionOptions options;
  options.memory = &memory;
  BYGONE_ASSIGN(options.cpuid, device.supported_cpuid());
  BYGONE_ASSIGN(auto partition, KvmPartition::create(device, std::move(options)));
  BYGONE_ASSIGN(const SystemRegisters system, prepare_long_mode(memory, kPageTables, kDescriptors));
  Vcpu& vcpu = partition->vcpu(VpIndex{0});
  BYGONE_CHECK(vcpu.set_system_registers(system));
  return partition;
}

Result<void> start_turns(Vcpu& vcpu, std::uint64_t turns) {
  GeneralRegisters registers;
  registers.rip = kCode.value;
  registers[Gpr::kRsp] = kStackTop.value;
  registers[Gpr::kRdi] = kData.value;
  registers[Gpr::kRcx] = turns;
  return vcpu.set_general_registers(registers);
}

/// Guest instructions a second in millions. A run that the watchdog ends counts as at most what was asked for.
Result<double> guest_rate(Vcpu& vcpu) {
  const Watchdog watchdog(vcpu);
  for (std::uint64_t turns = kFirstTurns;; turns *= 4) {
    BYGONE_CHECK(start_turns(vcpu, turns));
    const auto start = Clock::now();
    BYGONE_ASSIGN(const Exit* exit, vcpu.run());
    const auto time = Clock::now() - start;
    if (const auto* broken = std::get_if<UnrecoverableExit>(exit)) {
      return fail(ErrorCode::kUnsupported, "the probe's loop did not run: {}", broken->dump);
    }
    if (std::holds_alternative<ShutdownExit>(*exit)) {
      return fail(ErrorCode::kUnsupported, "the probe's loop ended in a triple fault");
    }
    if (time > kEnough || !std::holds_alternative<PortExit>(*exit)) return rate(turns, time);
  }
}

EngineStatus unusable(const Error& error) {
  return {.is_usable = false, .million_instructions_per_second = 0, .reason = error.message, .hint = error.hint};
}

}  // namespace

EngineStatus probe(const std::string& device_path) {
  auto device = Device::open(device_path);
  if (!device) return unusable(device.error());
  memory::GuestMemory memory;
  auto partition = make_partition(*device, memory);
  if (!partition) return unusable(partition.error());
  auto guest = guest_rate((*partition)->vcpu(VpIndex{0}));
  if (!guest) return unusable(guest.error());

  const double native = native_rate();
  EngineStatus status;
  status.million_instructions_per_second = *guest;
  status.is_usable = *guest >= native * kNativeOrder;
  if (status.is_usable) {
    status.reason = fmt::format("kernel mode runs at {:.0f} million instructions a second, {:.0f} % of the bare processor",
                                *guest, *guest / native * 100);
  } else {
    status.reason = fmt::format(
        "{} is there, but kernel mode is emulated: {:.2f} million instructions a second where the bare processor does "
        "{:.0f}",
        device_path, *guest, native);
    status.hint = "This host is itself a virtual machine without nested virtualization; its owner can turn that on";
  }
  return status;
}

}  // namespace bygone::cpu::kvm
