// Puts what a machine boots into its memory and gives the processors their first registers; again at each reset.
#pragma once

#include <array>
#include <vector>

#include "cpu/partition.h"
#include "firmware/acpi/tables.h"
#include "firmware/entry_state.h"
#include "machine/gen2/machine.h"

namespace bygone::machine::gen2 {

/// What was read from files once, so that a reset cannot fail for a file that has gone.
struct BootImage {
  bool is_firmware = false;
  std::vector<std::byte> kernel_or_firmware;
  std::vector<std::byte> initrd;
  std::string command_line;
};

/// Errors: the files' own, with their paths.
[[nodiscard]] Result<BootImage> read_boot_image(const std::variant<DirectBoot, FirmwareBoot>& boot);

/// Errors: as the loaders say.
[[nodiscard]] Result<firmware::EntryState> place_boot_image(memory::GuestMemory& memory, const BootImage& image,
                                                            const firmware::AcpiMachine& acpi, const Guid& system_id);

}  // namespace bygone::machine::gen2
