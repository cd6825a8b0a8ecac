// The hand-over between host and UEFI firmware on a Generation 2 machine. docs/firmware-interface.md gives every field.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"
#include "support/guid.h"

namespace bygone::spec::uefi {

// "Image and entry state"
inline constexpr std::uint64_t kImageBase = 0x100000;
inline constexpr std::uint64_t kImageSize = 0x600000;
inline constexpr std::uint64_t kSecVolumeOffset = 0x5E0000;
inline constexpr std::uint64_t kPageTables = 0x700000;
inline constexpr std::uint64_t kGdt = 0x706000;
inline constexpr std::uint64_t kConfigurationBlob = 0x709000;

/// Record types of the configuration blob.
enum class BlobRecord : std::uint32_t {
  kStructureCount = 0x00,
  kBiosInformation = 0x01,
  kSrat = 0x02,
  kMemoryMap = 0x03,
  kEntropy = 0x04,
  kBiosGuid = 0x05,
  kSystemSerial = 0x06,
  kFlags = 0x12,
  kProcessorInformation = 0x13,
  kMmioRanges = 0x14,
  kAcpiTable = 0x16,
  kMadt = 0x18,
  kSystemManufacturer = 0x1A,
  kSystemProduct = 0x1B,
  kSystemVersion = 0x1C,
};

struct BlobRecordHeader {
  le32 type, length;
};
static_assert(sizeof(BlobRecordHeader) == 8);

struct BlobMemoryRange {
  le64 base, length;
  le32 flags, reserved;
};
static_assert(sizeof(BlobMemoryRange) == 24);
inline constexpr std::uint32_t kBlobMemoryReserved = 1;

// Bits of the Flags record.
inline constexpr std::uint64_t kFlagSerialControllers = 1ULL << 0;
inline constexpr std::uint64_t kFlagConsoleCom1 = 1ULL << 7;
inline constexpr std::uint64_t kFlagMemoryAttributesTable = 1ULL << 9;
inline constexpr std::uint64_t kFlagNoFrontPage = 1ULL << 14;
inline constexpr std::uint64_t kFlagMtrrsSet = 1ULL << 28;

// "Helper ports"
inline constexpr std::uint16_t kSelectorPort = 0x28, kDataPort = 0x2C;
enum class Selector : std::uint32_t {
  kGenerationIdLow = 0x0E,
  kGenerationIdHigh = 0x0F,
  kBootFinalize = 0x1A,
  kNvram = 0x24,
  kCrypto = 0x26,
  kDebugString = 0x36,
  kNfitSize = 0x37,
};

/// The NVRAM descriptor's commands, and the EFI status codes (without the error bit) that answer them.
enum class NvramCommand : std::uint32_t { kGet, kSet, kGetFirstName, kGetNextName, kQueryInfo, kSignalRuntime, kDebugString };
enum class Status : std::uint64_t {
  kSuccess = 0,
  kInvalidParameter = 2,
  kUnsupported = 3,
  kBufferTooSmall = 5,
  kDeviceError = 7,
  kWriteProtected = 8,
  kOutOfResources = 9,
  kNotFound = 14,
};

struct NvramDescriptor {
  le32 command;
  le64 status;
  le32 attributes;
  le64 name_address;
  le32 name_bytes;
  Guid vendor;
  le64 data_address;
  le32 data_bytes;
};
static_assert(sizeof(NvramDescriptor) == 56 && offsetof(NvramDescriptor, vendor) == 28 && offsetof(NvramDescriptor, data_bytes) == 52);

/// QueryInfo's view of the descriptor's bytes 12-39.
struct NvramQueryInfo {
  le32 attributes;
  le64 maximum_storage, remaining_storage, maximum_variable;
};
static_assert(sizeof(NvramQueryInfo) == 28);

/// "Helper ports", selector 0x26. Of the commands only this one is still asked for.
inline constexpr std::uint32_t kCryptoRandomNumber = 5;
struct CryptoDescriptor {
  le32 command;
  le64 status;
  le64 buffer_address;
  le32 buffer_bytes;
};
static_assert(sizeof(CryptoDescriptor) == 24);
inline constexpr std::size_t kMaximumRandomBytes = 4096;

// UEFI 2.10, 8.2: variable attributes.
inline constexpr std::uint32_t kVariableNonVolatile = 1, kVariableBootService = 2, kVariableRuntime = 4, kVariableAppend = 0x40;
inline constexpr std::size_t kMaximumNameBytes = 2048, kMaximumDataBytes = 32 * 1024;

/// EFI_GLOBAL_VARIABLE, UEFI 2.10 3.3.
inline constexpr Guid kGlobalVariable = make_guid(0x8be4df61, 0x93ca, 0x11d2, {0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c});

}  // namespace bygone::spec::uefi
