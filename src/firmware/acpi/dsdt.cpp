#include "firmware/acpi/dsdt.h"

#include <fmt/format.h>

#include "spec/gen2/platform.h"
#include "spec/x86/local_apic.h"

namespace bygone::firmware {
namespace {

namespace gen2 = spec::gen2;
using namespace aml;  // NOLINT(google-build-using-namespace): this file reads as the ASL it stands for

constexpr std::uint8_t kStatusAll = 0xF;  // present, enabled, shown, working (6.3.7)

Bytes sleep_state(std::string_view name, std::uint8_t type) {
  return named(name, package({integer(type), integer(0), integer(0), integer(0)}));
}

Bytes processors(std::uint32_t count) {
  Bytes result;
  for (std::uint32_t i = 0; i < count; ++i) {
    const Bytes one = device(fmt::format("P{:03X}", i + 1), join({named("_HID", string("ACPI0007")), named("_UID", integer(i + 1))}));
    result.insert(result.end(), one.begin(), one.end());
  }
  return result;
}

// Linux and Windows take the ranges of VMBus devices from the _CRS of the bus's parent.
Bytes vmbus_module(const AcpiMachine& machine) {
  const Bytes bus = device("VMBS", join({
      named("_HID", string("MSFT1000")),
      named("_CID", string("VMBus")),
      named("_DDN", string("VMBUS")),
      named("_UID", integer(0)),
      named("_STA", integer(kStatusAll)),
      named("_CRS", resource_template({irq(gen2::kVmbusInterrupt)})),
  }));
  return device("VMOD", join({
      named("_HID", string("ACPI0004")),
      named("_UID", integer(0)),
      named("_CRS", resource_template({
          dword_memory_window(static_cast<std::uint32_t>(machine.low_mmio.base), static_cast<std::uint32_t>(machine.low_mmio.size)),
          qword_memory_window(machine.high_mmio.base, machine.high_mmio.size),
      })),
      bus,
  }));
}

Bytes serial_port(std::string_view name, std::uint8_t number, gen2::Ports ports, std::uint8_t interrupt) {
  return device(name, join({
      named("_HID", eisa_id("PNP0501")),
      named("_UID", integer(number)),
      named("_DDN", string(fmt::format("COM{}", number))),
      named("_STA", integer(kStatusAll)),
      named("_CRS", resource_template({io(ports.first, ports.count), irq(interrupt)})),
  }));
}

Bytes generation_counter(std::uint64_t address) {
  return device("GENC", join({
      named("_HID", string("MSFT0002")),
      named("_CID", string("VM_Gen_Counter")),
      named("_DDN", string("VM_Gen_Counter")),
      named("_UID", integer(0)),
      named("ADDR", package({integer(address & 0xFFFFFFFF), integer(address >> 32)})),
  }));
}

}  // namespace

Bytes build_dsdt(const AcpiMachine& machine) {
  Bytes devices = join({
      processors(machine.processor_count),
      vmbus_module(machine),
      device("APIC", join({named("_HID", eisa_id("PNP0003")),
                           named("_CRS", resource_template({
                               memory32_fixed(static_cast<std::uint32_t>(spec::x86::kLocalApicDefaultBase), spec::x86::kLocalApicPageBytes),
                               memory32_fixed(static_cast<std::uint32_t>(gen2::kIoApicBase), static_cast<std::uint32_t>(gen2::kIoApicSize)),
                           }))})),
      device("RTC0", join({named("_HID", eisa_id("PNP0B00")), named("_CRS", resource_template({io(gen2::kRtcPorts.first, gen2::kRtcPorts.count), irq(gen2::kRtcInterrupt)}))})),
  });
  if (machine.has_com1) devices = join({devices, serial_port("UAR1", 1, gen2::kCom1Ports, gen2::kCom1Interrupt)});
  if (machine.has_com2) devices = join({devices, serial_port("UAR2", 2, gen2::kCom2Ports, gen2::kCom2Interrupt)});
  if (machine.generation_id_address != 0) devices = join({devices, generation_counter(machine.generation_id_address)});

  Bytes result = join({
      sleep_state("\\_S0", 0),
      sleep_state("\\_S5", 0),
      scope("\\_SB", devices),
  });
  if (machine.generation_id_address != 0) {
    result = join({result, scope("\\_GPE", method("_E00", 0, notify("\\_SB.GENC", 0x80)))});
  }
  return result;
}

}  // namespace bygone::firmware
