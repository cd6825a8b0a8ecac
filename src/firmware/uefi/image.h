// Puts a UEFI image and its hand-over into guest memory. docs/firmware-interface.md, "Image and entry state".
// Threading: pure functions over guest memory that is not running yet.
#pragma once

#include <cstddef>
#include <span>

#include "firmware/entry_state.h"
#include "memory/guest_memory.h"
#include "support/result.h"

namespace bygone::firmware {

/// The offset of the first instruction in a firmware image. Errors: kUnsupported (wrong size), kCorrupt (no SEC core found).
[[nodiscard]] Result<std::uint64_t> find_sec_entry(std::span<const std::byte> image);

/// Loads `image` and `blob`, page tables and GDT, and returns the boot processor's registers.
/// Errors: as find_sec_entry; kOutOfRange when the machine has no RAM there.
[[nodiscard]] Result<EntryState> load_uefi(memory::GuestMemory& memory, std::span<const std::byte> image,
                                           std::span<const std::byte> blob);

/// MSRs of the boot processor at entry: MTRRs as the hand-over demands.
[[nodiscard]] std::vector<cpu::MsrValue> uefi_entry_msrs();

}  // namespace bygone::firmware
