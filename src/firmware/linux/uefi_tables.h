// The UEFI that a directly booted kernel finds: none of it runs, but the machine is a UEFI machine and says so. Linux takes it
// for a Generation 2 machine only then: without, it looks for the PCI devices of a Generation 1.
// Every runtime service answers "unsupported", but SetVirtualAddressMap, which succeeds.
// Threading: pure functions over guest memory that is not running yet.
#pragma once

#include <cstdint>
#include <vector>

#include "firmware/acpi/tables.h"
#include "memory/guest_memory.h"
#include "spec/linux/boot_protocol.h"
#include "support/result.h"

namespace bygone::firmware {

/// Where the tables go on a direct boot: in the hole below 1 MiB that E820 reserves.
inline constexpr AddressRange kDirectBootUefi{0xC0000, 0x3000};

struct UefiTables {
  std::uint64_t system_table = 0;
  std::uint64_t memory_map = 0;
  std::uint32_t memory_map_size = 0, descriptor_size = 0;
};

/// Writes the tables for a machine with an E820 map and ACPI's root pointer and the SMBIOS entry point. Errors: kExhausted for too many ranges.
[[nodiscard]] Result<UefiTables> place_uefi_tables(memory::GuestMemory& memory, const std::vector<spec::linux_boot::E820Entry>& map,
                                                   std::uint64_t rsdp, std::uint64_t smbios);

}  // namespace bygone::firmware
