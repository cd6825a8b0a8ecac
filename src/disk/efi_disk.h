// A disk that holds one UEFI program where every firmware looks first: \EFI\BOOT\BOOTX64.EFI on a FAT volume without a
// partition table. FAT specification 1.03 (Microsoft, 2000); UEFI 2.10, 13.3 and 3.5.1.1.
// Threading: pure function.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "disk/block_device.h"

namespace bygone::disk {

/// Errors: kInvalidArgument for something that is not a PE image; kOutOfRange beyond 128 MiB.
[[nodiscard]] Result<std::unique_ptr<BlockDevice>> make_efi_disk(std::span<const std::byte> program);

}  // namespace bygone::disk
