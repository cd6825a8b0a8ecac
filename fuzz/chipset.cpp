// Links: bygone_chipset
// A guest that does what it likes with the chipset's ports, the I/O APIC and a local APIC. The input is a program of accesses.
#include <cstring>

#include "chipset/function_line.h"
#include "chipset/io_apic.h"
#include "chipset/local_apic/local_apic.h"
#include "chipset/power_management.h"
#include "chipset/rtc.h"
#include "chipset/serial.h"
#include "chipset/watchdog.h"
#include "spec/gen2/platform.h"
#include "support/manual_clock.h"

namespace {

using namespace bygone;
namespace platform = spec::gen2;

class QuietHost final : public cpu::LocalApicHost {
 public:
  explicit QuietHost(const Clock& clock) : clock_(clock) {}
  void notify(cpu::VpIndex) override {}
  void deliver_nmi(cpu::VpIndex) override {}
  void deliver_init(cpu::VpIndex vp) override { apics->at(vp).reset(true); }
  void deliver_start_up(cpu::VpIndex, std::uint8_t) override {}
  [[nodiscard]] std::uint64_t guest_tsc(cpu::VpIndex) const override { return static_cast<std::uint64_t>(clock_.now().count()) * 2; }
  [[nodiscard]] std::uint64_t guest_tsc_frequency() const override { return 2'000'000'000; }
  void level_eoi(std::uint8_t vector) override { io_apic->end_of_interrupt(vector); }
  chipset::LocalApicModelSet* apics = nullptr;
  chipset::IoApic* io_apic = nullptr;

 private:
  const Clock& clock_;
};

struct Access {
  std::uint8_t kind;
  std::uint8_t size;
  std::uint16_t address;
  std::uint32_t value;
};
static_assert(sizeof(Access) == 8);

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ManualTimerService time;
  QuietHost host(time.clock());
  chipset::LocalApicModelSet apics(host, time, 2);
  chipset::IoApic io_apic([&](const cpu::InterruptRequest& request) { apics.request(request); });
  host.apics = &apics;
  host.io_apic = &io_apic;
  chipset::SerialPort serial(platform::kCom1Ports.first, io_apic.line(platform::kCom1Interrupt), nullptr);
  chipset::PowerManagement power(time, io_apic.line(platform::kSciInterrupt), {});
  chipset::Rtc rtc(time, io_apic.line(platform::kRtcInterrupt), [&] {
    return std::chrono::seconds(1'204'329'598) + std::chrono::duration_cast<std::chrono::microseconds>(time.now());
  });
  chipset::Watchdog watchdog(time, [] {});
  struct Range {
    chipset::PortDevice* device;
    platform::Ports ports;
  };
  const Range ranges[] = {{&serial, platform::kCom1Ports}, {&power, platform::kPowerPorts}, {&rtc, platform::kRtcPorts}, {&watchdog, platform::kWatchdogPorts}};
  chipset::Savable* const savables[] = {&io_apic, &serial, &power, &rtc, &watchdog};

  for (; size >= sizeof(Access); data += sizeof(Access), size -= sizeof(Access)) {
    Access access;
    std::memcpy(&access, data, sizeof(access));
    const std::uint8_t bytes = static_cast<std::uint8_t>(1U << access.size % 3);
    chipset::LocalApicModel& apic = apics.at({access.size / 4U % 2U});
    switch (access.kind % 12) {
      case 0:
      case 1:
      case 2:
      case 3: {
        const Range& range = ranges[access.kind % 4];
        const auto port = static_cast<std::uint16_t>(range.ports.first + access.address % range.ports.count);
        if ((access.size & 0x80) != 0) {
          range.device->write_port(port, bytes, access.value);
        } else {
          (void)range.device->read_port(port, bytes);
        }
        break;
      }
      case 4:
        io_apic.write_mmio(0, 4, access.address % 0x42);
        io_apic.write_mmio(0x10, 4, access.value);
        break;
      case 5: io_apic.set_pin(access.address % 26, (access.value & 1) != 0); break;
      case 6: apic.write_register(access.address & 0xFFF, access.value); break;
      case 7: (void)apic.read_register(access.address & 0xFFF); break;
      case 8: (void)apic.write_msr(access.size < 16 ? 0x1B : 0x800U + access.address % 0x100, access.value); break;
      case 9:
        if (const auto vector = apic.acknowledge(); vector && !apic.save().registers.empty()) apic.write_register(0xB0, 0);
        break;
      case 10: time.advance(std::chrono::microseconds(access.value % 3'000'000)); break;
      default:
        for (chipset::Savable* savable : savables) {
          if (!savable->restore(savable->save())) __builtin_trap();
        }
        apic.restore(apic.save());
    }
  }
  return 0;
}
