// Builds the machine's ACPI tables. The content follows a Hyper-V Generation 2 machine; where Hyper-V leaves the FADT's legacy
// fields at zero, they are filled, which is what Windows before 8 needs. Threading: pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "memory/guest_memory.h"
#include "support/result.h"

namespace bygone::firmware {

struct AddressRange {
  std::uint64_t base = 0;
  std::uint64_t size = 0;
};

/// Everything the tables say about a machine.
struct AcpiMachine {
  std::uint32_t processor_count = 1;
  std::vector<AddressRange> ram;        ///< for SRAT
  AddressRange low_mmio, high_mmio;     ///< the windows VMBus devices take their ranges from
  bool has_com1 = false, has_com2 = false;
  bool com1_is_console = false;         ///< SPCR
  bool is_headless = false;
  bool pcat_compatible = false;         ///< MADT flag that the HAL of Windows before 8 demands
  bool has_watchdog = false;
  std::uint64_t generation_id_address = 0;  ///< 0: no generation counter
};

/// A whole table with header and checksum. FADT pointers are zero until place_acpi_tables fills them.
using AcpiTable = std::vector<std::uint8_t>;

struct AcpiTables {
  AcpiTable madt, srat, fadt, facs, dsdt, waet;
  AcpiTable spcr;  ///< empty without a console
  AcpiTable wdat;  ///< empty without a watchdog
};

[[nodiscard]] AcpiTables build_acpi_tables(const AcpiMachine& machine);

/// Writes the tables, an XSDT and the RSDP into [base, base + size), with pointers and checksums; the RSDP comes first.
/// Errors: kExhausted when they do not fit, kOutOfRange when the range is not RAM.
[[nodiscard]] Result<void> place_acpi_tables(memory::GuestMemory& memory, AddressRange range, const AcpiTables& tables);

}  // namespace bygone::firmware
