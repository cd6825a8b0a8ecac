// Direct boot of a Linux kernel: what a boot loader would have done, without firmware. 64-bit entry of the x86 boot protocol.
//
//   0x07000  zero page          0x0A000  page tables: 4 GiB identity, 2 MiB pages
//   0x08000  GDT                0x20000  command line
//   0xC0000  UEFI tables
//   0xE0000  ACPI tables        kernel at its preferred address, initrd at the top of low RAM
//
// Threading: pure functions over guest memory that is not running yet.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "firmware/acpi/tables.h"
#include "firmware/entry_state.h"
#include "memory/guest_memory.h"
#include "support/result.h"

namespace bygone::firmware {

struct LinuxBoot {
  std::span<const std::byte> kernel;  ///< a bzImage
  std::span<const std::byte> initrd;  ///< may be empty
  std::string_view command_line;
  std::vector<AddressRange> ram;      ///< what E820 calls RAM, in order; 0xA0000-0xFFFFF is cut out
  AddressRange framebuffer = {0, 0};  ///< what the video device's window is to be kept for; may be empty
};

/// ACPI tables go here on a direct boot; reserved in E820, found through the zero page.
inline constexpr AddressRange kDirectBootAcpi{0xE0000, 0x1E000};
/// SMBIOS, found through the UEFI configuration table, and the page with the generation id, found through ACPI.
inline constexpr AddressRange kDirectBootSmbios{0xFE000, 0x1000};
inline constexpr std::uint64_t kDirectBootGenerationId = 0xFF000;

/// Puts kernel, initrd, command line, E820 map, UEFI tables and page tables into memory; ACPI tables are placed by the caller at kDirectBootAcpi.
/// Errors: kUnsupported (not a 64-bit bzImage), kCorrupt (truncated), kExhausted (too little RAM for kernel or initrd),
/// kInvalidArgument (command line too long).
[[nodiscard]] Result<EntryState> load_linux(memory::GuestMemory& memory, const LinuxBoot& boot);

}  // namespace bygone::firmware
