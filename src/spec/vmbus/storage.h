// The storage protocol between a guest's driver and the host (StorVSC and StorVSP): packets in a channel of kStorageInterface.
// Source: the interface that Hyper-V's guests implement, as Linux's drivers/scsi/storvsc_drv.c and Microsoft's openvmm describe it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"

namespace bygone::spec::vmbus {

enum class StorageOperation : std::uint32_t {
  kCompleteIo = 1,
  kRemoveDevice = 2,
  kExecuteSrb = 3,
  kResetLun = 4,
  kResetAdapter = 5,
  kResetBus = 6,
  kBeginInitialization = 7,
  kEndInitialization = 8,
  kQueryProtocolVersion = 9,
  kQueryProperties = 10,
  kEnumerateBus = 11,
  kFibreChannelData = 12,
  kCreateSubChannels = 13,
  kEventNotification = 14,
};

// Versions: major in the upper byte.
inline constexpr std::uint16_t kStorageVersion4_2 = 0x0402;  ///< Windows 7
inline constexpr std::uint16_t kStorageVersion5_1 = 0x0501;  ///< Windows 8: longer packets, subchannels
inline constexpr std::uint16_t kStorageVersion6_0 = 0x0600;  ///< Windows 8.1
inline constexpr std::uint16_t kStorageVersion6_2 = 0x0602;  ///< Windows 10

inline constexpr std::uint32_t kStorageStatusSuccess = 0;
inline constexpr std::uint32_t kStorageStatusInvalidRequest = 0xC000'0010;
inline constexpr std::uint32_t kStorageStatusRevisionMismatch = 0xC000'0059;
inline constexpr std::uint32_t kStorageStatusInvalidState = 0xC000'0184;

inline constexpr std::uint32_t kStorageMultiChannel = 1;  ///< in ChannelProperties::flags

// SRB status codes (the Windows DDK's names).
inline constexpr std::uint8_t kSrbSuccess = 0x01;
inline constexpr std::uint8_t kSrbError = 0x04;
inline constexpr std::uint8_t kSrbInvalidRequest = 0x06;
inline constexpr std::uint8_t kSrbDataOverrun = 0x12;
inline constexpr std::uint8_t kSrbInvalidLun = 0x20;
inline constexpr std::uint8_t kSrbAutosenseValid = 0x80;

inline constexpr std::uint8_t kStorageDataOut = 0;
inline constexpr std::uint8_t kStorageDataIn = 1;
inline constexpr std::uint8_t kStorageNoData = 2;

struct StorageScsiRequest {
  le16 length;
  std::uint8_t srb_status;
  std::uint8_t scsi_status;
  std::uint8_t port;
  std::uint8_t path;
  std::uint8_t target;
  std::uint8_t lun;
  std::uint8_t cdb_length;
  std::uint8_t sense_length;
  std::uint8_t data_direction;
  std::uint8_t reserved;
  le32 data_transfer_length;
  std::array<std::uint8_t, 20> cdb_or_sense;
  // From 5.1 on:
  le16 reserved2;
  std::uint8_t queue_tag;
  std::uint8_t queue_action;
  le32 srb_flags;
  le32 timeout_seconds;
  le32 queue_sort_key;
};
static_assert(sizeof(StorageScsiRequest) == 52 && offsetof(StorageScsiRequest, reserved2) == 36);

struct StorageChannelProperties {
  le32 reserved;
  le16 maximum_subchannels;
  le16 reserved2;
  le32 flags;
  le32 maximum_transfer_bytes;
  le64 reserved3;
};
static_assert(sizeof(StorageChannelProperties) == 24);

/// A packet's payload: this header, then 36 bytes (before 5.1) or 52 bytes that the operation gives a meaning.
struct StoragePacket {
  le32 operation;
  le32 flags;
  le32 status;
  std::array<std::uint8_t, 52> body;
};
static_assert(sizeof(StoragePacket) == 64);
inline constexpr std::size_t kStoragePacketSizeBefore5_1 = 48;

}  // namespace bygone::spec::vmbus
