// ACPI 6.4 tables that the machine hands to its guest. Sections are those of the ACPI specification, release 6.4.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"

namespace bygone::spec::acpi {

/// 5.2.6, System Description Table Header.
struct Header {
  char signature[4] = {};
  le32 length;
  std::uint8_t revision = 0;
  std::uint8_t checksum = 0;
  char oem_id[6] = {};
  char oem_table_id[8] = {};
  le32 oem_revision;
  char creator_id[4] = {};
  le32 creator_revision;
};
static_assert(sizeof(Header) == 36 && offsetof(Header, creator_revision) == 32);

/// 5.2.5.3, Root System Description Pointer.
struct Rsdp {
  char signature[8] = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '};
  std::uint8_t checksum = 0;
  char oem_id[6] = {};
  std::uint8_t revision = 2;
  le32 rsdt_address;
  le32 length;
  le64 xsdt_address;
  std::uint8_t extended_checksum = 0;
  std::uint8_t reserved[3] = {};
};
static_assert(sizeof(Rsdp) == 36 && offsetof(Rsdp, extended_checksum) == 32);

/// 5.2.3.2, Generic Address Structure.
struct GenericAddress {
  std::uint8_t address_space = 0;
  std::uint8_t bit_width = 0;
  std::uint8_t bit_offset = 0;
  std::uint8_t access_size = 0;
  le64 address;
};
static_assert(sizeof(GenericAddress) == 12);
inline constexpr std::uint8_t kAddressSpaceSystemIo = 1;

/// 5.2.9, Fixed ACPI Description Table, revision 6.
struct Fadt {
  Header header;
  le32 firmware_control;
  le32 dsdt;
  std::uint8_t reserved0 = 0;
  std::uint8_t preferred_pm_profile = 0;
  le16 sci_interrupt;
  le32 smi_command_port;
  std::uint8_t acpi_enable = 0, acpi_disable = 0, s4bios_request = 0, pstate_control = 0;
  le32 pm1a_event_block, pm1b_event_block, pm1a_control_block, pm1b_control_block, pm2_control_block, pm_timer_block;
  le32 gpe0_block, gpe1_block;
  std::uint8_t pm1_event_length = 0, pm1_control_length = 0, pm2_control_length = 0, pm_timer_length = 0;
  std::uint8_t gpe0_length = 0, gpe1_length = 0, gpe1_base = 0, cstate_control = 0;
  le16 worst_c2_latency, worst_c3_latency, flush_size, flush_stride;
  std::uint8_t duty_offset = 0, duty_width = 0, day_alarm = 0, month_alarm = 0, century = 0;
  le16 boot_architecture;
  std::uint8_t reserved1 = 0;
  le32 flags;
  GenericAddress reset_register;
  std::uint8_t reset_value = 0;
  le16 arm_boot_architecture;
  std::uint8_t minor_version = 0;
  le64 x_firmware_control, x_dsdt;
  GenericAddress x_pm1a_event_block, x_pm1b_event_block, x_pm1a_control_block, x_pm1b_control_block;
  GenericAddress x_pm2_control_block, x_pm_timer_block, x_gpe0_block, x_gpe1_block, sleep_control, sleep_status;
  le64 hypervisor_vendor;
};
static_assert(sizeof(Fadt) == 276 && offsetof(Fadt, flags) == 112 && offsetof(Fadt, x_dsdt) == 140);

/// 5.2.10, Firmware ACPI Control Structure.
struct Facs {
  char signature[4] = {'F', 'A', 'C', 'S'};
  le32 length;
  le32 hardware_signature, waking_vector, global_lock, flags;
  le64 x_waking_vector;
  std::uint8_t version = 2;
  std::uint8_t reserved0[3] = {};
  le32 ospm_flags;
  std::uint8_t reserved1[24] = {};
};
static_assert(sizeof(Facs) == 64);

/// 5.2.12, Multiple APIC Description Table, and its entries.
struct Madt {
  Header header;
  le32 local_apic_address;
  le32 flags;
};
static_assert(sizeof(Madt) == 44);
inline constexpr std::uint32_t kMadtPcatCompatible = 1;
struct MadtLocalApic {
  std::uint8_t type = 0, length = 8;
  std::uint8_t processor_uid = 0, apic_id = 0;
  le32 flags;
};
static_assert(sizeof(MadtLocalApic) == 8);
struct MadtIoApic {
  std::uint8_t type = 1, length = 12;
  std::uint8_t id = 0, reserved = 0;
  le32 address, interrupt_base;
};
static_assert(sizeof(MadtIoApic) == 12);
struct MadtInterruptOverride {
  std::uint8_t type = 2, length = 10;
  std::uint8_t bus = 0, source = 0;
  le32 interrupt;
  le16 flags;
};
static_assert(sizeof(MadtInterruptOverride) == 10);
struct MadtLocalApicNmi {
  std::uint8_t type = 4, length = 6;
  std::uint8_t processor_uid = 0xFF;
  le16 flags;
  std::uint8_t lint = 1;
};
static_assert(sizeof(MadtLocalApicNmi) == 6);

/// 5.2.16, System Resource Affinity Table, and its entries.
struct Srat {
  Header header;
  le32 reserved0 = 1;
  le64 reserved1;
};
static_assert(sizeof(Srat) == 48);
struct SratProcessor {
  std::uint8_t type = 0, length = 16;
  std::uint8_t domain_low = 0, apic_id = 0;
  le32 flags;
  std::uint8_t sapic_eid = 0, domain_high[3] = {};
  le32 clock_domain;
};
static_assert(sizeof(SratProcessor) == 16);
struct SratMemory {
  std::uint8_t type = 1, length = 40;
  le32 domain;
  le16 reserved0;
  le64 base, size;
  le32 reserved1, flags;
  le64 reserved2;
};
static_assert(sizeof(SratMemory) == 40);

/// Windows ACPI Emulated Devices Table, version 1.0 (Microsoft).
struct Waet {
  Header header;
  le32 flags;
};
static_assert(sizeof(Waet) == 40);
inline constexpr std::uint32_t kWaetRtcNeedsNoAcknowledge = 1;
inline constexpr std::uint32_t kWaetOnePmTimerReadIsGood = 2;

/// Watchdog Action Table, version 1 (Microsoft, "Hardware Watchdog Timers Design Specification").
struct Wdat {
  Header header;
  le32 header_length;
  le16 pci_segment;
  std::uint8_t pci_bus = 0xFF, pci_device = 0xFF, pci_function = 0xFF;
  std::uint8_t reserved0[3] = {};
  le32 timer_period;  ///< milliseconds a count
  le32 maximum_count, minimum_count;
  std::uint8_t flags = 0;
  std::uint8_t reserved1[3] = {};
  le32 entry_count;
};
static_assert(sizeof(Wdat) == 68);
inline constexpr std::uint8_t kWdatEnabled = 1;
struct WdatEntry {
  std::uint8_t action = 0, instruction = 0;
  le16 reserved;
  GenericAddress address;
  le32 value, mask;
};
static_assert(sizeof(WdatEntry) == 24);
enum class WdatAction : std::uint8_t { kReset = 1, kQueryCount = 5, kSetCount = 6, kQueryRunning = 8, kSetRunning = 9, kQueryStopped = 10,
                                       kSetStopped = 11, kQueryStatus = 32, kSetStatus = 33 };
enum class WdatInstruction : std::uint8_t { kReadValue = 0, kReadCount = 1, kWriteValue = 2, kWriteCount = 3, kPreserve = 0x80 };

/// Serial Port Console Redirection Table, version 2 (Microsoft).
struct Spcr {
  Header header;
  std::uint8_t interface_type = 0;
  std::uint8_t reserved0[3] = {};
  GenericAddress base;
  std::uint8_t interrupt_type = 0, irq = 0;
  le32 global_interrupt;
  std::uint8_t baud_rate = 0, parity = 0, stop_bits = 0, flow_control = 0, terminal_type = 0, language = 0;
  le16 pci_device_id, pci_vendor_id;
  std::uint8_t pci_bus = 0, pci_device = 0, pci_function = 0;
  le32 pci_flags;
  std::uint8_t pci_segment = 0;
  le32 reserved1;
};
static_assert(sizeof(Spcr) == 80);

}  // namespace bygone::spec::acpi
