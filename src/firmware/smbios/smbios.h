// The SMBIOS tables of a machine that is started without firmware: who made it, what it has. DMTF DSP0134, version 3.1.
// Threading: pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "firmware/acpi/tables.h"
#include "memory/guest_memory.h"
#include "support/guid.h"
#include "support/result.h"

namespace bygone::firmware {

struct SmbiosMachine {
  Guid system_id = {};
  std::uint32_t processor_count = 1;
  std::uint64_t memory_bytes = 0;
};

/// The structure table, ended by its end-of-table structure.
[[nodiscard]] std::vector<std::uint8_t> build_smbios_table(const SmbiosMachine& machine);

/// Writes the 64-bit entry point and the table after it into `range`; the entry point comes first.
/// Errors: kExhausted, kOutOfRange.
[[nodiscard]] Result<void> place_smbios(memory::GuestMemory& memory, AddressRange range, const SmbiosMachine& machine);

}  // namespace bygone::firmware
