// Puts a UEFI image and its hand-over into guest memory. docs/firmware-interface.md, "Image and entry state".
// Threading: pure functions over guest memory that is not running yet.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "firmware/acpi/tables.h"
#include "firmware/entry_state.h"
#include "memory/guest_memory.h"
#include "support/result.h"

namespace bygone::firmware {

/// Errors: kUnsupported: no Generation 2 firmware image is that large.
[[nodiscard]] Result<void> check_image_size(std::uint64_t bytes);

/// The offset of the first instruction in a firmware image. Errors: kUnsupported (wrong size), kCorrupt (no SEC core found).
[[nodiscard]] Result<std::uint64_t> find_sec_entry(std::span<const std::byte> image);

/// Fills the place in guest memory where the image goes, all of it.
using PlaceImage = std::function<Result<void>(std::span<std::byte> place)>;

/// Loads the image and `blob`, page tables and GDT, and returns the boot processor's registers.
/// Errors: `place_image`'s; as find_sec_entry; kOutOfRange when the machine has no RAM there.
[[nodiscard]] Result<EntryState> load_uefi(memory::GuestMemory& memory, const PlaceImage& place_image, std::span<const std::byte> blob);

/// The MTRRs of every processor: memory written back, the MMIO windows uncached. The firmware starts no other processors, and so could
/// set only the boot processor's; operating systems complain about processors that disagree. `address_bits` is what CPUID tells.
[[nodiscard]] std::vector<cpu::MsrValue> memory_types(std::span<const AddressRange> windows, unsigned address_bits);

}  // namespace bygone::firmware
