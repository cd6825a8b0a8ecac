// Remote NDIS messages as they travel over the network channel.
// Source: MS-RNDIS 2.2 (control and data messages); per-packet information as Windows' ntddndis.h and Linux's hyperv_net.h
// describe it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"

namespace bygone::spec::rndis {

/// 2.2.1 and following. Answers have the top bit.
enum class MessageType : std::uint32_t {
  kPacket = 1,
  kInitialize = 2,
  kHalt = 3,
  kQuery = 4,
  kSet = 5,
  kReset = 6,
  kIndicateStatus = 7,
  kKeepAlive = 8,
  kInitializeComplete = 0x8000'0002,
  kQueryComplete = 0x8000'0004,
  kSetComplete = 0x8000'0005,
  kResetComplete = 0x8000'0006,
  kKeepAliveComplete = 0x8000'0008,
};

/// NDIS status codes (2.2.1.2.6 and ndis.h).
enum class Status : std::uint32_t {
  kSuccess = 0,
  kMediaConnect = 0x4001'000B,
  kMediaDisconnect = 0x4001'000C,
  kFailure = 0xC000'0001,
  kInvalidData = 0xC001'0015,
  kNotSupported = 0xC000'00BB,
  kInvalidLength = 0xC001'0014,
  kBufferTooShort = 0xC001'0016,
};

/// Before every message. Offsets in messages count from the byte behind it.
struct Header {
  le32 type;
  le32 length;  ///< with this header
};
static_assert(sizeof(Header) == 8);

struct Initialize {
  le32 request_id;
  le32 major;
  le32 minor;
  le32 maximum_transfer_bytes;
};
static_assert(sizeof(Initialize) == 16);

inline constexpr std::uint32_t kMajorVersion = 1;
inline constexpr std::uint32_t kMinorVersion = 0;
inline constexpr std::uint32_t kConnectionless = 1;
inline constexpr std::uint32_t kMedium802_3 = 0;

struct InitializeComplete {
  le32 request_id;
  le32 status;
  le32 major;
  le32 minor;
  le32 device_flags;
  le32 medium;
  le32 maximum_packets_a_message;
  le32 maximum_transfer_bytes;
  le32 packet_alignment_shift;
  le32 address_family_list_offset;
  le32 address_family_list_bytes;
};
static_assert(sizeof(InitializeComplete) == 44);

/// kHalt and kKeepAlive.
struct RequestOnly {
  le32 request_id;
};
static_assert(sizeof(RequestOnly) == 4);

/// kQuery and kSet.
struct OidRequest {
  le32 request_id;
  le32 oid;
  le32 information_bytes;
  le32 information_offset;
  le32 reserved;
};
static_assert(sizeof(OidRequest) == 20);

struct QueryComplete {
  le32 request_id;
  le32 status;
  le32 information_bytes;
  le32 information_offset;
};
static_assert(sizeof(QueryComplete) == 16);

/// kSetComplete and kKeepAliveComplete.
struct StatusComplete {
  le32 request_id;
  le32 status;
};
static_assert(sizeof(StatusComplete) == 8);

struct ResetComplete {
  le32 status;
  le32 addressing_reset;
};
static_assert(sizeof(ResetComplete) == 8);

struct IndicateStatus {
  le32 status;
  le32 buffer_bytes;
  le32 buffer_offset;
};
static_assert(sizeof(IndicateStatus) == 12);

/// 2.2.2: a frame and what is known about it.
struct Packet {
  le32 data_offset;
  le32 data_bytes;
  le32 out_of_band_offset;
  le32 out_of_band_bytes;
  le32 out_of_band_count;
  le32 information_offset;
  le32 information_bytes;
  le32 reserved1;
  le32 reserved2;
};
static_assert(sizeof(Packet) == 36);

/// 2.2.2.1: per-packet information; its value lies at value_offset from here.
struct PacketInformation {
  le32 bytes;  ///< with this header; a multiple of 4
  le32 type;   ///< kInternalInformation: a type of Hyper-V's own
  le32 value_offset;
};
static_assert(sizeof(PacketInformation) == 12);

inline constexpr std::uint32_t kInternalInformation = 0x8000'0000;
inline constexpr std::uint32_t kChecksumInformation = 0;
inline constexpr std::uint32_t kLargeSendInformation = 2;
inline constexpr std::uint32_t kVlanInformation = 6;
inline constexpr std::uint32_t kPacketIdInformation = kInternalInformation | 1;

// The value of kChecksumInformation from the guest.
inline constexpr std::uint32_t kTransmitIsIpv4 = 1U << 0;
inline constexpr std::uint32_t kTransmitIsIpv6 = 1U << 1;
inline constexpr std::uint32_t kTransmitTcpChecksum = 1U << 2;
inline constexpr std::uint32_t kTransmitUdpChecksum = 1U << 3;
inline constexpr std::uint32_t kTransmitIpHeaderChecksum = 1U << 4;
// And to the guest.
inline constexpr std::uint32_t kReceiveTcpSucceeded = 1U << 3;
inline constexpr std::uint32_t kReceiveUdpSucceeded = 1U << 4;
inline constexpr std::uint32_t kReceiveIpSucceeded = 1U << 5;

// The value of kLargeSendInformation (version 2).
inline constexpr std::uint32_t kLargeSendSegmentMask = 0xF'FFFF;

// The value of kVlanInformation: priority in bits 0–2, CFI bit 3, VLAN id in bits 4–15.
inline constexpr std::uint32_t kVlanPriorityMask = 7;
inline constexpr std::uint32_t kVlanFormatBit = 1U << 3;
inline constexpr unsigned kVlanIdShift = 4;

/// The value of kPacketIdInformation: pieces of one coalesced segment, all in one transfer-pages packet.
struct PacketId {
  std::uint8_t version;
  std::uint8_t flags;
  le16 id;
};
static_assert(sizeof(PacketId) == 4);
inline constexpr std::uint8_t kPacketIdVersion = 1;
inline constexpr std::uint8_t kPacketIsPiece = 1U << 0;
inline constexpr std::uint8_t kFirstPiece = 1U << 1;
inline constexpr std::uint8_t kLastPiece = 1U << 2;

/// The information of a kSet of Oid::kRndisConfigParameter; offsets count from here.
struct ConfigParameter {
  le32 name_offset;
  le32 name_bytes;
  le32 type;
  le32 value_offset;
  le32 value_bytes;
};
static_assert(sizeof(ConfigParameter) == 20);
inline constexpr std::uint32_t kConfigParameterString = 2;

}  // namespace bygone::spec::rndis
