#include "firmware/acpi/tables.h"

#include <algorithm>
#include <cstring>

#include "firmware/acpi/dsdt.h"
#include "spec/acpi/tables.h"
#include "spec/gen2/platform.h"
#include "spec/x86/local_apic.h"

namespace bygone::firmware {
namespace {

namespace acpi = spec::acpi;
namespace gen2 = spec::gen2;

constexpr std::uint16_t power_port(std::uint16_t offset) { return static_cast<std::uint16_t>(gen2::kPowerPorts.first + offset); }
constexpr std::uint16_t kPm1Event = power_port(gen2::kPm1EventOffset), kPm1Control = power_port(gen2::kPm1ControlOffset),
                        kPmTimer = power_port(gen2::kPmTimerOffset), kGpe0 = power_port(gen2::kGpe0Offset), kReset = power_port(gen2::kResetOffset);

// FADT flags, ACPI 6.4 table 5.10.
constexpr std::uint32_t kWbinvd = 1U << 0, kProcC1 = 1U << 2, kPowerButtonIsMethod = 1U << 4, kSleepButtonIsMethod = 1U << 5;
constexpr std::uint32_t kTimer32 = 1U << 8, kResetSupported = 1U << 10, kHeadless = 1U << 12, kUsePlatformClock = 1U << 15;
constexpr std::uint16_t kBootArchNoVga = 1U << 2;

template <typename T>
void append(AcpiTable& table, const T& entry) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(&entry);
  table.insert(table.end(), bytes, bytes + sizeof entry);
}

void copy_text(char* to, std::size_t size, std::string_view text) {
  std::memset(to, ' ', size);
  std::memcpy(to, text.data(), std::min(size, text.size()));
}

std::uint8_t checksum(const std::uint8_t* bytes, std::size_t count) {
  std::uint8_t sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum = static_cast<std::uint8_t>(sum + bytes[i]);
  return static_cast<std::uint8_t>(-sum);
}

acpi::Header header(std::string_view signature, std::uint8_t revision) {
  acpi::Header result;
  std::memcpy(result.signature, signature.data(), 4);
  result.revision = revision;
  copy_text(result.oem_id, sizeof result.oem_id, "BYGONE");
  copy_text(result.oem_table_id, sizeof result.oem_table_id, "GEN2");
  result.oem_revision = 1U;
  copy_text(result.creator_id, sizeof result.creator_id, "BYGN");
  result.creator_revision = 1U;
  return result;
}

void seal(AcpiTable& table) {
  acpi::Header copy;
  std::memcpy(&copy, table.data(), sizeof copy);
  copy.length = static_cast<std::uint32_t>(table.size());
  copy.checksum = 0;
  std::memcpy(table.data(), &copy, sizeof copy);
  copy.checksum = checksum(table.data(), table.size());
  std::memcpy(table.data(), &copy, sizeof copy);
}

acpi::GenericAddress io_register(std::uint16_t port, std::uint8_t bits, std::uint8_t access_size) {
  acpi::GenericAddress address;
  address.address_space = acpi::kAddressSpaceSystemIo;
  address.bit_width = bits;
  address.access_size = access_size;
  address.address = port;
  return address;
}

AcpiTable build_fadt(const AcpiMachine& machine) {
  acpi::Fadt fadt;
  fadt.header = header("FACP", 6);
  fadt.minor_version = 3;
  fadt.sci_interrupt = std::uint16_t{gen2::kSciInterrupt};
  fadt.pm1a_event_block = kPm1Event;
  fadt.pm1a_control_block = kPm1Control;
  fadt.pm_timer_block = kPmTimer;
  fadt.gpe0_block = kGpe0;
  fadt.pm1_event_length = 4;
  fadt.pm1_control_length = 2;
  fadt.pm_timer_length = 4;
  fadt.gpe0_length = 4;
  fadt.worst_c2_latency = 0x65;    // more than 100 us: no C2
  fadt.worst_c3_latency = 0x3E9;   // more than 1000 us: no C3
  fadt.century = gen2::kRtcCenturyRegister;
  fadt.boot_architecture = kBootArchNoVga;
  fadt.flags = kWbinvd | kProcC1 | kPowerButtonIsMethod | kSleepButtonIsMethod | kTimer32 | kResetSupported | kUsePlatformClock |
               (machine.is_headless ? kHeadless : 0U);
  fadt.reset_register = io_register(kReset, 8, 1);
  fadt.reset_value = 1;
  fadt.x_pm1a_event_block = io_register(kPm1Event, 32, 2);
  fadt.x_pm1a_control_block = io_register(kPm1Control, 16, 2);
  fadt.x_pm_timer_block = io_register(kPmTimer, 32, 3);
  fadt.x_gpe0_block = io_register(kGpe0, 32, 1);
  AcpiTable table;
  append(table, fadt);
  seal(table);
  return table;
}

AcpiTable build_madt(const AcpiMachine& machine) {
  acpi::Madt madt;
  madt.header = header("APIC", 5);
  madt.local_apic_address = static_cast<std::uint32_t>(spec::x86::kLocalApicDefaultBase);
  madt.flags = machine.pcat_compatible ? acpi::kMadtPcatCompatible : 0U;
  AcpiTable table;
  append(table, madt);
  for (std::uint32_t i = 0; i < machine.processor_count; ++i) {
    acpi::MadtLocalApic entry;
    entry.processor_uid = static_cast<std::uint8_t>(i + 1);
    entry.apic_id = static_cast<std::uint8_t>(i);
    entry.flags = 1U;
    append(table, entry);
  }
  acpi::MadtIoApic io_apic;
  io_apic.id = static_cast<std::uint8_t>(machine.processor_count);
  io_apic.address = static_cast<std::uint32_t>(gen2::kIoApicBase);
  append(table, io_apic);
  acpi::MadtInterruptOverride sci;
  sci.source = gen2::kSciInterrupt;
  sci.interrupt = gen2::kSciInterrupt;
  sci.flags = 0x000D;  // active high, level
  append(table, sci);
  append(table, acpi::MadtLocalApicNmi{});
  seal(table);
  return table;
}

AcpiTable build_srat(const AcpiMachine& machine) {
  acpi::Srat srat;
  srat.header = header("SRAT", 3);
  AcpiTable table;
  append(table, srat);
  for (std::uint32_t i = 0; i < machine.processor_count; ++i) {
    acpi::SratProcessor entry;
    entry.apic_id = static_cast<std::uint8_t>(i);
    entry.flags = 1U;
    append(table, entry);
  }
  // Only RAM that is there: hot-pluggable ranges at the top of the address space break Windows before 8.
  for (const AddressRange& range : machine.ram) {
    acpi::SratMemory entry;
    entry.base = range.base;
    entry.size = range.size;
    entry.flags = 1U;
    append(table, entry);
  }
  seal(table);
  return table;
}

AcpiTable build_waet() {
  acpi::Waet waet;
  waet.header = header("WAET", 1);
  waet.flags = acpi::kWaetRtcNeedsNoAcknowledge | acpi::kWaetOnePmTimerReadIsGood;
  AcpiTable table;
  append(table, waet);
  seal(table);
  return table;
}

AcpiTable build_spcr() {
  acpi::Spcr spcr;
  spcr.header = header("SPCR", 2);
  spcr.base = io_register(gen2::kCom1Ports.first, 8, 1);
  spcr.interrupt_type = 2;  // I/O APIC
  spcr.irq = gen2::kCom1Interrupt;
  spcr.global_interrupt = gen2::kCom1Interrupt;
  spcr.baud_rate = 7;  // 115200
  spcr.stop_bits = 1;
  spcr.terminal_type = 3;  // ANSI
  spcr.pci_device_id = std::uint16_t{0xFFFF};
  spcr.pci_vendor_id = std::uint16_t{0xFFFF};
  AcpiTable table;
  append(table, spcr);
  seal(table);
  return table;
}

// The registers of the watchdog, behind an index port and, four bytes on, a data port (chipset/watchdog.h).
AcpiTable build_wdat(std::uint16_t ports) {
  using Action = acpi::WdatAction;
  using Instruction = acpi::WdatInstruction;
  constexpr std::uint32_t kConfiguration = 0, kCount = 2;                             // register indexes
  constexpr std::uint32_t kConfigured = 1, kEnabled = 2, kBootStatus = 0x100, kAll = 0xFFFFFFFF;
  AcpiTable entries;
  std::uint32_t count = 0;
  const auto step = [&](Action action, std::uint8_t instruction, std::uint16_t port, std::uint32_t value, std::uint32_t mask) {
    acpi::WdatEntry entry;
    entry.action = static_cast<std::uint8_t>(action);
    entry.instruction = instruction;
    entry.address = io_register(port, 32, 3);
    entry.value = value;
    entry.mask = mask;
    append(entries, entry);
    ++count;
  };
  const auto add = [&](Action action, std::uint32_t index, Instruction instruction, std::uint32_t value, std::uint32_t mask, std::uint8_t flags = 0) {
    step(action, static_cast<std::uint8_t>(Instruction::kWriteValue), ports, index, kAll);
    step(action, static_cast<std::uint8_t>(static_cast<std::uint8_t>(instruction) | flags), static_cast<std::uint16_t>(ports + 4), value, mask);
  };
  add(Action::kReset, kConfiguration, Instruction::kWriteValue, kConfigured | kEnabled, kAll);
  add(Action::kQueryCount, kCount, Instruction::kReadCount, 0, kAll);
  add(Action::kSetCount, kCount, Instruction::kWriteCount, 0, kAll);
  add(Action::kQueryRunning, kConfiguration, Instruction::kReadValue, kConfigured | kEnabled, kConfigured | kEnabled);
  add(Action::kSetRunning, kConfiguration, Instruction::kWriteValue, kConfigured | kEnabled, kAll);
  add(Action::kQueryStopped, kConfiguration, Instruction::kReadValue, 0, kEnabled);
  add(Action::kSetStopped, kConfiguration, Instruction::kWriteValue, kConfigured, kAll);
  add(Action::kQueryStatus, kConfiguration, Instruction::kReadValue, kBootStatus, kBootStatus);
  add(Action::kSetStatus, kConfiguration, Instruction::kWriteValue, kBootStatus, kBootStatus, static_cast<std::uint8_t>(Instruction::kPreserve));

  acpi::Wdat wdat;
  wdat.header = header("WDAT", 1);
  wdat.header_length = static_cast<std::uint32_t>(sizeof wdat - sizeof wdat.header);
  wdat.pci_segment = std::uint16_t{0xFF};
  wdat.timer_period = 1000U;
  wdat.maximum_count = 0xFFFFU;
  wdat.minimum_count = 1U;
  wdat.flags = acpi::kWdatEnabled;
  wdat.entry_count = count;
  AcpiTable table;
  append(table, wdat);
  table.insert(table.end(), entries.begin(), entries.end());
  seal(table);
  return table;
}

AcpiTable build_dsdt_table(const AcpiMachine& machine) {
  AcpiTable table;
  append(table, header("DSDT", 2));
  const aml::Bytes body = build_dsdt(machine);
  table.insert(table.end(), body.begin(), body.end());
  seal(table);
  return table;
}

AcpiTable build_facs() {
  acpi::Facs facs;
  facs.length = static_cast<std::uint32_t>(sizeof facs);
  AcpiTable table;
  append(table, facs);
  return table;
}

}  // namespace

AcpiTables build_acpi_tables(const AcpiMachine& machine) {
  AcpiTables tables;
  tables.madt = build_madt(machine);
  tables.srat = build_srat(machine);
  tables.fadt = build_fadt(machine);
  tables.facs = build_facs();
  tables.dsdt = build_dsdt_table(machine);
  tables.waet = build_waet();
  if (machine.com1_is_console) tables.spcr = build_spcr();
  if (machine.has_watchdog) tables.wdat = build_wdat(gen2::kWatchdogPorts.first);
  return tables;
}

Result<void> place_acpi_tables(memory::GuestMemory& memory, AddressRange range, const AcpiTables& tables) {
  constexpr std::uint64_t kAlignment = 64;  // FACS wants 64
  std::uint64_t next = range.base + kAlignment;  // the RSDP stands first
  const auto place = [&](const AcpiTable& table) -> Result<std::uint64_t> {
    const std::uint64_t at = next;
    next += (table.size() + kAlignment - 1) / kAlignment * kAlignment;
    if (next > range.base + range.size) return fail(ErrorCode::kExhausted, "ACPI tables do not fit into {} bytes", range.size);
    BYGONE_CHECK(memory.write({at}, std::as_bytes(std::span(table))));
    return at;
  };
  BYGONE_ASSIGN(const std::uint64_t facs, place(tables.facs));
  BYGONE_ASSIGN(const std::uint64_t dsdt, place(tables.dsdt));

  AcpiTable fadt_table = tables.fadt;
  acpi::Fadt fadt;
  std::memcpy(&fadt, fadt_table.data(), sizeof fadt);
  fadt.firmware_control = static_cast<std::uint32_t>(facs);
  fadt.dsdt = static_cast<std::uint32_t>(dsdt);
  fadt.x_dsdt = dsdt;  // X_FIRMWARE_CTRL stays zero: one of the two only (ACPI 6.4 table 5.9)
  std::memcpy(fadt_table.data(), &fadt, sizeof fadt);
  seal(fadt_table);

  AcpiTable xsdt;
  append(xsdt, header("XSDT", 1));
  for (const AcpiTable* table : {const_cast<const AcpiTable*>(&fadt_table), &tables.madt, &tables.srat, &tables.waet, &tables.spcr, &tables.wdat}) {
    if (table->empty()) continue;
    BYGONE_ASSIGN(const std::uint64_t at, place(*table));
    append(xsdt, le64(at));
  }
  seal(xsdt);
  BYGONE_ASSIGN(const std::uint64_t xsdt_at, place(xsdt));

  acpi::Rsdp rsdp;
  copy_text(rsdp.oem_id, sizeof rsdp.oem_id, "BYGONE");
  rsdp.length = static_cast<std::uint32_t>(sizeof rsdp);
  rsdp.xsdt_address = xsdt_at;
  rsdp.checksum = checksum(reinterpret_cast<const std::uint8_t*>(&rsdp), 20);
  rsdp.extended_checksum = checksum(reinterpret_cast<const std::uint8_t*>(&rsdp), sizeof rsdp);
  return memory.write_object({range.base}, rsdp);
}

}  // namespace bygone::firmware
