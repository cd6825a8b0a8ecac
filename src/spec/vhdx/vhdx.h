// The layout of a VHDX file, as [MS-VHDX] (Virtual Hard Disk v2 File Format, protocol revision 6.0) describes it: structures
// and constants, no behaviour. Everything is little-endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"
#include "support/guid.h"

namespace bygone::spec::vhdx {

inline constexpr std::uint64_t kMebibyte = 1U << 20;

// 2.2 Layout: the header section is the first MiB; every other object starts at a multiple of 1 MiB behind it.
inline constexpr std::uint64_t kFileIdentifierOffset = 0;
inline constexpr std::array<std::uint64_t, 2> kHeaderOffsets = {64U << 10, 128U << 10};
inline constexpr std::array<std::uint64_t, 2> kRegionTableOffsets = {192U << 10, 256U << 10};
inline constexpr std::uint64_t kHeaderSectionBytes = kMebibyte;
inline constexpr std::uint64_t kAlignment = kMebibyte;

// 2.2.1 File type identifier
inline constexpr std::array<char, 8> kFileSignature = {'v', 'h', 'd', 'x', 'f', 'i', 'l', 'e'};
struct FileIdentifier {
  std::array<char, 8> signature;
  std::array<le16, 256> creator;  ///< UTF-16, for diagnosis only
};
static_assert(sizeof(FileIdentifier) == 520 && alignof(FileIdentifier) == 1);

// 2.2.2 Headers
inline constexpr std::uint32_t kHeaderSignature = 0x64616568;  // "head"
inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::uint16_t kLogVersion = 0;
inline constexpr std::size_t kHeaderBytes = 4096;  ///< what the checksum covers
struct Header {
  le32 signature;
  le32 checksum;
  le64 sequence_number;
  Guid file_write_guid;
  Guid data_write_guid;
  Guid log_guid;
  le16 log_version;
  le16 version;
  le32 log_length;
  le64 log_offset;
  std::array<std::byte, 4016> reserved;
};
static_assert(sizeof(Header) == kHeaderBytes && alignof(Header) == 1 && offsetof(Header, log_offset) == 72);

// 2.2.3 Region tables
inline constexpr std::uint32_t kRegionTableSignature = 0x69676572;  // "regi"
inline constexpr std::size_t kRegionTableBytes = 64U << 10;
inline constexpr std::uint32_t kMaximumRegionEntries = 2047;
struct RegionTableHeader {
  le32 signature;
  le32 checksum;
  le32 entry_count;
  le32 reserved;
};
static_assert(sizeof(RegionTableHeader) == 16);
inline constexpr std::uint32_t kRegionRequired = 1;
struct RegionTableEntry {
  Guid guid;
  le64 file_offset;
  le32 length;
  le32 flags;
};
static_assert(sizeof(RegionTableEntry) == 32 && offsetof(RegionTableEntry, flags) == 28);
inline constexpr Guid kBatRegion = make_guid(0x2dc27766, 0xf623, 0x4200, {0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08});
inline constexpr Guid kMetadataRegion =
    make_guid(0x8b7ca206, 0x4790, 0x4b9a, {0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e});

// 2.3 Log
inline constexpr std::uint32_t kLogEntrySignature = 0x65676f6c;        // "loge"
inline constexpr std::uint32_t kDataDescriptorSignature = 0x63736564;  // "desc"
inline constexpr std::uint32_t kZeroDescriptorSignature = 0x6f72657a;  // "zero"
inline constexpr std::uint32_t kDataSectorSignature = 0x61746164;      // "data"
inline constexpr std::size_t kLogSectorBytes = 4096;
struct LogEntryHeader {
  le32 signature;
  le32 checksum;
  le32 entry_length;
  le32 tail;
  le64 sequence_number;
  le32 descriptor_count;
  le32 reserved;
  Guid log_guid;
  le64 flushed_file_offset;
  le64 last_file_offset;
};
static_assert(sizeof(LogEntryHeader) == 64 && offsetof(LogEntryHeader, last_file_offset) == 56);
/// 2.3.1.2 and 2.3.1.3: a data descriptor's `trailing_bytes` and `leading_bytes` are the parts of the page that the data sector
/// has no room for; in a zero descriptor the same places are reserved and the length.
struct LogDescriptor {
  le32 signature;
  std::array<std::byte, 4> trailing_bytes;
  std::array<std::byte, 8> leading_bytes;  ///< zero descriptor: le64 zero_length
  le64 file_offset;
  le64 sequence_number;
};
static_assert(sizeof(LogDescriptor) == 32 && offsetof(LogDescriptor, sequence_number) == 24);
struct LogDataSector {
  le32 signature;
  le32 sequence_high;
  std::array<std::byte, 4084> data;
  le32 sequence_low;
};
static_assert(sizeof(LogDataSector) == kLogSectorBytes && offsetof(LogDataSector, sequence_low) == 4092);

// 2.5 Block allocation table: state in bits 0-2, file offset in MiB in bits 20-63
inline constexpr std::uint64_t kBatStateMask = 7;
inline constexpr std::uint64_t kBatReservedMask = 0xFFFF8;
inline constexpr std::uint64_t kBatOffsetMask = ~std::uint64_t{0xFFFFF};
enum class BlockState : std::uint8_t {
  kNotPresent = 0,
  kUndefined = 1,
  kZero = 2,
  kUnmapped = 3,
  kFullyPresent = 6,      ///< of a sector bitmap block: present
  kPartiallyPresent = 7,  ///< differencing only: the sector bitmap tells
};
inline constexpr std::uint64_t kSectorsPerBitmapBlock = 1U << 23;
inline constexpr std::uint64_t kBitmapBlockBytes = kMebibyte;

// 2.6 Metadata
inline constexpr std::array<char, 8> kMetadataSignature = {'m', 'e', 't', 'a', 'd', 'a', 't', 'a'};
inline constexpr std::size_t kMetadataTableBytes = 64U << 10;
inline constexpr std::uint32_t kMaximumMetadataEntries = 2047;
inline constexpr std::uint32_t kMaximumMetadataItemBytes = 1U << 20;
struct MetadataTableHeader {
  std::array<char, 8> signature;
  le16 reserved;
  le16 entry_count;
  std::array<std::byte, 20> reserved2;
};
static_assert(sizeof(MetadataTableHeader) == 32);
inline constexpr std::uint32_t kMetadataIsUser = 1;
inline constexpr std::uint32_t kMetadataIsVirtualDisk = 2;
inline constexpr std::uint32_t kMetadataIsRequired = 4;
struct MetadataTableEntry {
  Guid item_id;
  le32 offset;
  le32 length;
  le32 flags;
  le32 reserved;
};
static_assert(sizeof(MetadataTableEntry) == 32 && offsetof(MetadataTableEntry, flags) == 24);
inline constexpr Guid kFileParametersItem =
    make_guid(0xcaa16737, 0xfa36, 0x4d43, {0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b});
inline constexpr Guid kVirtualDiskSizeItem =
    make_guid(0x2fa54224, 0xcd1b, 0x4876, {0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8});
inline constexpr Guid kVirtualDiskIdItem =
    make_guid(0xbeca12ab, 0xb2e6, 0x4523, {0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46});
inline constexpr Guid kLogicalSectorSizeItem =
    make_guid(0x8141bf1d, 0xa96f, 0x4709, {0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f});
inline constexpr Guid kPhysicalSectorSizeItem =
    make_guid(0xcda348c7, 0x445d, 0x4471, {0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56});
inline constexpr Guid kParentLocatorItem =
    make_guid(0xa8d35f2d, 0xb30b, 0x454d, {0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c});

// 2.6.2.1 File parameters
inline constexpr std::uint32_t kLeaveBlocksAllocated = 1;
inline constexpr std::uint32_t kHasParent = 2;
struct FileParameters {
  le32 block_size;
  le32 flags;
};
static_assert(sizeof(FileParameters) == 8);
inline constexpr std::uint64_t kMinimumBlockBytes = kMebibyte;
inline constexpr std::uint64_t kMaximumBlockBytes = 256 * kMebibyte;
inline constexpr std::uint64_t kMaximumDiskBytes = std::uint64_t{64} << 40;

// 2.6.2.6 Parent locator
inline constexpr Guid kParentLocatorType =
    make_guid(0xb04aefb7, 0xd19e, 0x4a81, {0xb7, 0x89, 0x25, 0xb8, 0xe9, 0x44, 0x59, 0x13});
struct ParentLocatorHeader {
  Guid locator_type;
  le16 reserved;
  le16 key_value_count;
};
static_assert(sizeof(ParentLocatorHeader) == 20);
struct ParentLocatorEntry {
  le32 key_offset;
  le32 value_offset;
  le16 key_length;
  le16 value_length;
};
static_assert(sizeof(ParentLocatorEntry) == 12);

}  // namespace bygone::spec::vhdx
