// SCSI commands, sense data and the structures that disks and DVD drives answer with.
// Sources: T10 SPC-4 (primary commands), SBC-3 (block commands), MMC-6 (multimedia commands); section numbers are theirs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"

namespace bygone::spec::scsi {

enum class Opcode : std::uint8_t {
  kTestUnitReady = 0x00,
  kRequestSense = 0x03,
  kRead6 = 0x08,
  kWrite6 = 0x0A,
  kInquiry = 0x12,
  kModeSelect6 = 0x15,
  kReserve6 = 0x16,
  kRelease6 = 0x17,
  kModeSense6 = 0x1A,
  kStartStopUnit = 0x1B,
  kPreventAllowMediumRemoval = 0x1E,
  kReadCapacity10 = 0x25,
  kRead10 = 0x28,
  kWrite10 = 0x2A,
  kSeek10 = 0x2B,
  kVerify10 = 0x2F,
  kSynchronizeCache10 = 0x35,
  kWriteSame10 = 0x41,
  kUnmap = 0x42,
  kReadToc = 0x43,
  kGetConfiguration = 0x46,
  kGetEventStatusNotification = 0x4A,
  kReadDiscInformation = 0x51,
  kModeSelect10 = 0x55,
  kReserve10 = 0x56,
  kRelease10 = 0x57,
  kModeSense10 = 0x5A,
  kRead16 = 0x88,
  kWrite16 = 0x8A,
  kVerify16 = 0x8F,
  kSynchronizeCache16 = 0x91,
  kWriteSame16 = 0x93,
  kServiceActionIn16 = 0x9E,
  kReportLuns = 0xA0,
  kRead12 = 0xA8,
  kWrite12 = 0xAA,
  kReadDiscStructure = 0xAD,
  kSetCdSpeed = 0xBB,
  kMechanismStatus = 0xBD,
};

inline constexpr std::uint8_t kServiceActionReadCapacity16 = 0x10;

// Status codes (SAM-5 5.3.1).
inline constexpr std::uint8_t kStatusGood = 0x00;
inline constexpr std::uint8_t kStatusCheckCondition = 0x02;
inline constexpr std::uint8_t kStatusBusy = 0x08;

// Sense keys (SPC-4 4.5.6).
inline constexpr std::uint8_t kSenseNone = 0x0;
inline constexpr std::uint8_t kSenseNotReady = 0x2;
inline constexpr std::uint8_t kSenseMediumError = 0x3;
inline constexpr std::uint8_t kSenseHardwareError = 0x4;
inline constexpr std::uint8_t kSenseIllegalRequest = 0x5;
inline constexpr std::uint8_t kSenseUnitAttention = 0x6;
inline constexpr std::uint8_t kSenseDataProtect = 0x7;
inline constexpr std::uint8_t kSenseAbortedCommand = 0xB;

/// Additional sense code and qualifier.
struct AdditionalSense {
  std::uint8_t code = 0;
  std::uint8_t qualifier = 0;
  friend constexpr bool operator==(AdditionalSense, AdditionalSense) = default;
};
inline constexpr AdditionalSense kNoAdditionalSense = {0x00, 0x00};
inline constexpr AdditionalSense kWriteError = {0x0C, 0x00};
inline constexpr AdditionalSense kUnrecoveredReadError = {0x11, 0x00};
inline constexpr AdditionalSense kInvalidOpcode = {0x20, 0x00};
inline constexpr AdditionalSense kLbaOutOfRange = {0x21, 0x00};
inline constexpr AdditionalSense kInvalidFieldInCdb = {0x24, 0x00};
inline constexpr AdditionalSense kParameterListLength = {0x1A, 0x00};
inline constexpr AdditionalSense kWriteProtected = {0x27, 0x00};
inline constexpr AdditionalSense kSpaceAllocationFailed = {0x27, 0x07};
inline constexpr AdditionalSense kMediumMayHaveChanged = {0x28, 0x00};
inline constexpr AdditionalSense kCapacityChanged = {0x2A, 0x09};
inline constexpr AdditionalSense kMediumNotPresent = {0x3A, 0x00};
inline constexpr AdditionalSense kInternalTargetFailure = {0x44, 0x00};
inline constexpr AdditionalSense kMediumRemovalPrevented = {0x53, 0x02};

/// Fixed format sense data (SPC-4 4.5.3).
struct FixedSense {
  std::uint8_t response_code = 0x70;
  std::uint8_t obsolete = 0;
  std::uint8_t key = 0;
  be32 information;
  std::uint8_t additional_length = 10;
  be32 command_specific;
  std::uint8_t additional_code = 0;
  std::uint8_t additional_qualifier = 0;
  std::uint8_t field_replaceable_unit = 0;
  std::uint8_t key_specific[3] = {};
};
static_assert(sizeof(FixedSense) == 18 && offsetof(FixedSense, key_specific) == 15);

// Peripheral device types (SPC-4 6.6.2) and the byte that says that there is none at this LUN.
inline constexpr std::uint8_t kTypeDisk = 0x00;
inline constexpr std::uint8_t kTypeDvd = 0x05;
inline constexpr std::uint8_t kNoDeviceAtLun = 0x7F;

/// Standard INQUIRY data (SPC-4 6.6.2).
struct InquiryData {
  std::uint8_t device_type = 0;
  std::uint8_t removable = 0;            ///< bit 7
  std::uint8_t version = 0x06;           ///< SPC-4
  std::uint8_t response_format = 0x12;   ///< 2, HISUP
  std::uint8_t additional_length = 31;
  std::uint8_t flags[2] = {};
  std::uint8_t command_queuing = 0x02;   ///< CMDQUE
  std::array<char, 8> vendor = {};
  std::array<char, 16> product = {};
  std::array<char, 4> revision = {};
};
static_assert(sizeof(InquiryData) == 36 && offsetof(InquiryData, revision) == 32);

// Vital product data pages (SPC-4 7.8, SBC-3 6.6).
inline constexpr std::uint8_t kVpdSupportedPages = 0x00;
inline constexpr std::uint8_t kVpdSerialNumber = 0x80;
inline constexpr std::uint8_t kVpdIdentification = 0x83;
inline constexpr std::uint8_t kVpdBlockLimits = 0xB0;
inline constexpr std::uint8_t kVpdBlockCharacteristics = 0xB1;
inline constexpr std::uint8_t kVpdProvisioning = 0xB2;

/// SBC-3 6.6.4.
struct BlockLimitsPage {
  std::uint8_t device_type = 0;
  std::uint8_t page = kVpdBlockLimits;
  be16 length = std::uint16_t{0x3C};
  std::uint8_t flags = 0;
  std::uint8_t maximum_compare_and_write = 0;
  be16 optimal_granularity;
  be32 maximum_transfer;
  be32 optimal_transfer;
  be32 maximum_prefetch;
  be32 maximum_unmap_blocks;
  be32 maximum_unmap_descriptors;
  be32 optimal_unmap_granularity;
  be32 unmap_alignment;  ///< bit 31: valid
  be64 maximum_write_same;
  std::uint8_t reserved[20] = {};
};
static_assert(sizeof(BlockLimitsPage) == 64 && offsetof(BlockLimitsPage, maximum_write_same) == 36);

/// SBC-3 5.16.
struct ReadCapacity10Data {
  be32 last_block;
  be32 block_bytes;
};
static_assert(sizeof(ReadCapacity10Data) == 8);

/// SBC-3 5.17.
struct ReadCapacity16Data {
  be64 last_block;
  be32 block_bytes;
  std::uint8_t protection = 0;
  std::uint8_t physical_exponent = 0;
  be16 provisioning;  ///< bit 15 LBPME, bit 14 LBPRZ, lowest aligned block
  std::uint8_t reserved[16] = {};
};
static_assert(sizeof(ReadCapacity16Data) == 32);

/// SBC-3 5.28.
struct UnmapHeader {
  be16 data_length;
  be16 descriptor_bytes;
  std::uint8_t reserved[4] = {};
};
static_assert(sizeof(UnmapHeader) == 8);
struct UnmapDescriptor {
  be64 first_block;
  be32 block_count;
  std::uint8_t reserved[4] = {};
};
static_assert(sizeof(UnmapDescriptor) == 16);

// Mode pages (SPC-4 7.5, SBC-3 6.5, MMC-6 E).
inline constexpr std::uint8_t kModePageErrorRecovery = 0x01;
inline constexpr std::uint8_t kModePageCaching = 0x08;
inline constexpr std::uint8_t kModePageControl = 0x0A;
inline constexpr std::uint8_t kModePageCapabilities = 0x2A;
inline constexpr std::uint8_t kModePageAll = 0x3F;
inline constexpr std::uint8_t kModeWriteProtected = 0x80;
inline constexpr std::uint8_t kModeDpoFua = 0x10;

}  // namespace bygone::spec::scsi
