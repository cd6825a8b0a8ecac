// The layout of a VHD file, as Microsoft's "Virtual Hard Disk Image Format Specification", version 1.0 (October 2006),
// describes it: structures and constants, no behaviour. Integers are big-endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"
#include "support/guid.h"

namespace bygone::spec::vhd {

inline constexpr std::uint32_t kSectorBytes = 512;

// Hard disk footer
inline constexpr std::array<char, 8> kFooterCookie = {'c', 'o', 'n', 'e', 'c', 't', 'i', 'x'};
inline constexpr std::uint32_t kFeaturesReserved = 2;  ///< always set
inline constexpr std::uint32_t kFileFormatVersion = 0x00010000;
inline constexpr std::uint64_t kNoOffset = ~std::uint64_t{0};
enum class DiskType : std::uint32_t { kFixed = 2, kDynamic = 3, kDifferencing = 4 };
struct Geometry {
  be16 cylinders;
  std::uint8_t heads;
  std::uint8_t sectors_per_track;
};
static_assert(sizeof(Geometry) == 4 && alignof(Geometry) == 1);
struct Footer {
  std::array<char, 8> cookie;
  be32 features;
  be32 file_format_version;
  be64 data_offset;  ///< of the dynamic header; kNoOffset for fixed disks
  be32 time_stamp;   ///< seconds since 2000-01-01 00:00 UTC
  std::array<char, 4> creator_application;
  be32 creator_version;
  std::array<char, 4> creator_host_os;
  be64 original_size;
  be64 current_size;
  Geometry geometry;
  be32 disk_type;
  be32 checksum;
  Guid unique_id;
  std::uint8_t saved_state;
  std::array<std::byte, 427> reserved;
};
static_assert(sizeof(Footer) == 512 && alignof(Footer) == 1 && offsetof(Footer, unique_id) == 68);
/// Virtual PC before 2004 wrote footers of 511 bytes.
inline constexpr std::size_t kOldFooterBytes = 511;
inline constexpr std::int64_t kEpochUnixSeconds = 946684800;  ///< 2000-01-01 00:00 UTC

// Dynamic disk header
inline constexpr std::array<char, 8> kDynamicCookie = {'c', 'x', 's', 'p', 'a', 'r', 's', 'e'};
inline constexpr std::uint32_t kDynamicVersion = 0x00010000;
// Parent locator platform codes
inline constexpr std::uint32_t kPlatformNone = 0;
inline constexpr std::uint32_t kPlatformWindowsRelative = 0x57327275;  ///< "W2ru": UTF-16 path relative to the child
inline constexpr std::uint32_t kPlatformWindowsAbsolute = 0x57326b75;  ///< "W2ku": UTF-16 absolute path
inline constexpr std::uint32_t kPlatformMacUri = 0x4d616358;           ///< "MacX": a file URL in UTF-8
struct ParentLocatorEntry {
  be32 platform_code;
  be32 platform_data_space;
  be32 platform_data_length;
  be32 reserved;
  be64 platform_data_offset;
};
static_assert(sizeof(ParentLocatorEntry) == 24);
struct DynamicHeader {
  std::array<char, 8> cookie;
  be64 data_offset;  ///< kNoOffset
  be64 table_offset;
  be32 header_version;
  be32 max_table_entries;
  be32 block_size;
  be32 checksum;
  Guid parent_unique_id;
  be32 parent_time_stamp;
  be32 reserved;
  std::array<be16, 256> parent_unicode_name;  ///< UTF-16 big-endian
  std::array<ParentLocatorEntry, 8> parent_locators;
  std::array<std::byte, 256> reserved2;
};
static_assert(sizeof(DynamicHeader) == 1024 && offsetof(DynamicHeader, parent_locators) == 576);

// Block allocation table: sector numbers of blocks
inline constexpr std::uint32_t kUnusedBlock = 0xFFFFFFFF;
inline constexpr std::uint32_t kDefaultBlockBytes = 2U << 20;
inline constexpr std::uint64_t kMaximumDiskBytes = std::uint64_t{2040} << 30;

}  // namespace bygone::spec::vhd
