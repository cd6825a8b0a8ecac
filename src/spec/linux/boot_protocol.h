// The x86 boot protocol of Linux, 64-bit entry. Linux Documentation/arch/x86/boot.rst, protocol 2.15, and zero-page.rst.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"

namespace bygone::spec::linux_boot {

/// The setup header, at offset 0x1F1 of the image and of the zero page.
struct SetupHeader {
  std::uint8_t setup_sectors = 0;
  le16 root_flags;
  le32 system_size;
  le16 ram_size, video_mode, root_device, boot_flag;
  le16 jump;
  char magic[4] = {};  ///< "HdrS"
  le16 version;
  le32 realmode_switch;
  le16 start_system_segment, kernel_version;
  std::uint8_t loader_type = 0, load_flags = 0;
  le16 setup_move_size;
  le32 code32_start, ramdisk_image, ramdisk_size, bootsect_kludge;
  le16 heap_end;
  std::uint8_t loader_version = 0, loader_type_extension = 0;
  le32 command_line, initrd_address_maximum, kernel_alignment;
  std::uint8_t is_relocatable = 0, minimum_alignment = 0;
  le16 xload_flags;
  le32 command_line_size, hardware_subarchitecture;
  le64 hardware_subarchitecture_data;
  le32 payload_offset, payload_length;
  le64 setup_data, preferred_address;
  le32 initialization_size, handover_offset, kernel_info_offset;
};
inline constexpr std::size_t kSetupHeaderOffset = 0x1F1;
static_assert(offsetof(SetupHeader, magic) == 0x202 - kSetupHeaderOffset);
static_assert(offsetof(SetupHeader, xload_flags) == 0x236 - kSetupHeaderOffset);
static_assert(offsetof(SetupHeader, initialization_size) == 0x260 - kSetupHeaderOffset);

inline constexpr std::uint16_t kBootFlag = 0xAA55;
inline constexpr std::uint16_t kMinimumVersion = 0x20C;  ///< the first with 64-bit entry
inline constexpr std::uint16_t kXloadKernel64 = 1;
inline constexpr std::uint64_t kEntryOffset64 = 0x200;

/// Offsets in the zero page.
inline constexpr std::size_t kZeroPageFramebufferBase = 0x018;  ///< screen_info.lfb_base and, 4 bytes on, lfb_size
inline constexpr std::size_t kZeroPageEfiInfo = 0x1C0;
inline constexpr std::size_t kZeroPageRsdpAddress = 0x070;
inline constexpr std::size_t kZeroPageE820Count = 0x1E8;
inline constexpr std::size_t kZeroPageE820Table = 0x2D0;
inline constexpr std::size_t kE820MaximumEntries = 128;
/// efi_info of the zero page.
struct EfiInfo {
  char signature[4] = {};  ///< "EL64"
  le32 system_table, descriptor_size, descriptor_version, memory_map, memory_map_size, system_table_high, memory_map_high;
};
static_assert(sizeof(EfiInfo) == 32);

struct E820Entry {
  le64 base, size;
  le32 type;
};
static_assert(sizeof(E820Entry) == 20);
inline constexpr std::uint32_t kE820Ram = 1, kE820Reserved = 2, kE820Acpi = 3;

}  // namespace bygone::spec::linux_boot
