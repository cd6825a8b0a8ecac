// The boot order that the host asks for, as the variables a UEFI boot manager reads: BootOrder and Boot####.
// UEFI 2.10, 3.1.3 (load options), 10.3 (device paths); docs/firmware-interface.md, "Boot order".
// Threading: as the variable store's.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "firmware/uefi/variable_store.h"

namespace bygone::firmware {

/// A disk or a DVD drive that the firmware can start from.
struct BootDevice {
  std::string name;  ///< what the firmware's menu shows, such as "Disk 1"; ASCII
  Guid controller;   ///< instance of its storage controller on the bus
  std::uint8_t lun = 0;
};

/// The device path of `device`, up to Scsi(…): the firmware tries the default boot loader of every file system on it.
[[nodiscard]] std::vector<std::byte> device_path(const BootDevice& device);

/// Puts `devices` first in the boot order, in that order; options that were in it before, a guest's own included, follow in theirs.
/// A device that has a boot option already keeps it. Errors: those of the store.
[[nodiscard]] Result<void> set_boot_order(VariableStore& store, std::span<const BootDevice> devices);

}  // namespace bygone::firmware
