// Links: bygone_hyperv
// A guest that does what it likes with the hypervisor: registers, hypercalls, memory, time. The input is a program of
// small steps; nothing it does may crash, hang or write outside guest memory.
#include <cstring>

#include "fuzz_input.h"
#include "hyperv/fake_partition.h"
#include "hyperv/hypervisor.h"
#include "support/manual_clock.h"

namespace {

using namespace bygone;

constexpr std::uint64_t kRamBytes = 64 * 1024;

/// Values that are often interesting: small ones, pages inside and outside memory, anything.
std::uint64_t take_value(FuzzInput& input) {
  switch (input.take<std::uint8_t>() % 4) {
    case 0: return input.take<std::uint8_t>();
    case 1: return (input.take<std::uint8_t>() % 20ULL) << 12 | (input.take<std::uint8_t>() & 3);
    case 2: return input.take<std::uint32_t>();
    default: return input.take<std::uint64_t>();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  memory::GuestMemory memory;
  if (!memory.add_ram({0}, kRamBytes)) return 0;
  ManualTimerService time;
  hyperv::FakePartition partition(time.clock());
  hyperv::HypervisorOptions options;
  options.memory = &memory;
  options.partition = &partition;
  options.timers = &time;
  options.vp_count = 3;
  options.features = *hyperv::FeatureSet::parse("linux,+tsc-invariant");
  auto created = hyperv::Hypervisor::create(std::move(options));
  if (!created) return 0;
  hyperv::Hypervisor& hypervisor = **created;
  hyperv::SynicPort& synic = hypervisor.synic();
  synic.connect_message_port(1, [&](cpu::VpIndex, std::uint32_t, std::span<const std::byte> payload) -> std::uint16_t {
    return synic.post_message({1}, 2, 1, payload) == hyperv::PostOutcome::kDelivered ? 0 : 0x13;
  });
  synic.connect_event_port(0x2001, [&](std::uint16_t flag) { synic.signal_event({0}, 2, flag); }, nullptr);
  synic.set_slot_free_handler([&](cpu::VpIndex vp, std::uint8_t sint) { (void)synic.post_message(vp, sint, 1, {}); });

  FuzzInput input(data, size);
  while (!input.is_empty()) {
    const std::uint8_t step = input.take<std::uint8_t>();
    const cpu::VpIndex vp{step / 16U % 4U};
    switch (step % 8) {
      case 0:
      case 1:
      case 2: {
        cpu::MsrExit exit;
        exit.index = 0x40000000U + input.take<std::uint16_t>() % 0x120U;
        exit.is_write = step % 8 != 0;
        exit.value = take_value(input);
        (void)(exit.is_write ? hypervisor.write_msr(vp, exit) : hypervisor.read_msr(vp, exit));
        break;
      }
      case 3:
      case 4: {
        cpu::HypercallExit exit;
        exit.control = input.take<std::uint8_t>() | (std::uint64_t{input.take<std::uint32_t>()} << 16 & 0xFFF0FFF000FF0000);
        exit.input = take_value(input);
        exit.output = take_value(input);
        exit.xmm[0][0] = input.take<std::uint32_t>();
        hypervisor.handle_hypercall(vp, exit);
        break;
      }
      case 5: {
        const std::uint64_t value = input.take<std::uint64_t>();
        (void)memory.write_object({input.take<std::uint16_t>() % (kRamBytes - 8)}, value);
        break;
      }
      case 6: time.advance(std::chrono::microseconds(input.take<std::uint16_t>())); break;
      default: {
        const nlohmann::json state = hypervisor.save();
        if (!hypervisor.restore(state)) __builtin_trap();  // what was saved must be readable
        break;
      }
    }
    partition.events.clear();
  }
  return 0;
}
