// Puts what a machine boots into its memory and gives the processors their first registers; again at each reset.
#pragma once

#include <array>
#include <string>

#include "cpu/partition.h"
#include "firmware/acpi/tables.h"
#include "firmware/entry_state.h"
#include "machine/gen2/machine.h"
#include "support/unique_fd.h"

namespace bygone::machine::gen2 {

/// A file that stays open, so that a reset cannot fail for one that has gone. Its bytes are read each time they are placed: kept, they
/// would be in memory twice.
struct BootFile {
  UniqueFd fd;
  std::string name;  ///< for messages
  std::uint64_t bytes = 0;
};

struct BootImage {
  bool is_firmware = false;
  BootFile kernel_or_firmware;
  BootFile initrd;  ///< no descriptor: none
  std::string command_line;
};

/// Errors: the files' own, with their paths; kExhausted when one is larger than any machine can take.
[[nodiscard]] Result<BootImage> open_boot_image(const std::variant<DirectBoot, FirmwareBoot>& boot);

/// Errors: the files' own, and as the loaders say.
[[nodiscard]] Result<firmware::EntryState> place_boot_image(memory::GuestMemory& memory, const BootImage& image,
                                                            const firmware::AcpiMachine& acpi, const Guid& system_id);

}  // namespace bygone::machine::gen2
