// NDIS object identifiers that guests' network drivers ask for, and the offload structures behind some of them.
// Source: Windows' ntddndis.h (documented at learn.microsoft.com under "NDIS OIDs"), MS-RNDIS 2.2.1; NDIS 6.30.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"

namespace bygone::spec::rndis {

enum class Oid : std::uint32_t {
  kSupportedList = 0x0001'0101,
  kHardwareStatus = 0x0001'0102,
  kMediaSupported = 0x0001'0103,
  kMediaInUse = 0x0001'0104,
  kMaximumLookahead = 0x0001'0105,
  kMaximumFrameSize = 0x0001'0106,
  kLinkSpeed = 0x0001'0107,  ///< in units of 100 bit/s
  kTransmitBufferSpace = 0x0001'0108,
  kReceiveBufferSpace = 0x0001'0109,
  kTransmitBlockSize = 0x0001'010A,
  kReceiveBlockSize = 0x0001'010B,
  kVendorId = 0x0001'010C,
  kVendorDescription = 0x0001'010D,
  kCurrentPacketFilter = 0x0001'010E,
  kCurrentLookahead = 0x0001'010F,
  kDriverVersion = 0x0001'0110,
  kMaximumTotalSize = 0x0001'0111,
  kProtocolOptions = 0x0001'0112,
  kMacOptions = 0x0001'0113,
  kMediaConnectStatus = 0x0001'0114,
  kMaximumSendPackets = 0x0001'0115,
  kVendorDriverVersion = 0x0001'0116,
  kNetworkLayerAddresses = 0x0001'0118,
  kTransportHeaderOffset = 0x0001'0119,
  kPhysicalMedium = 0x0001'0202,
  kReceiveScaleCapabilities = 0x0001'0203,
  kReceiveScaleParameters = 0x0001'0204,
  kRndisConfigParameter = 0x0001'021B,
  kVlanId = 0x0001'021C,
  kTransmitOk = 0x0002'0101,
  kReceiveOk = 0x0002'0102,
  kTransmitError = 0x0002'0103,
  kReceiveError = 0x0002'0104,
  kReceiveNoBuffer = 0x0002'0105,
  kPermanentAddress = 0x0101'0101,
  kCurrentAddress = 0x0101'0102,
  kMulticastList = 0x0101'0103,
  kMaximumMulticastList = 0x0101'0104,
  kReceiveErrorAlignment = 0x0102'0101,
  kTransmitOneCollision = 0x0102'0102,
  kTransmitMoreCollisions = 0x0102'0103,
  kOffloadCurrentConfiguration = 0xFC01'020B,
  kOffloadParameters = 0xFC01'020C,
  kOffloadHardwareCapabilities = 0xFC01'020D,
  kOffloadEncapsulation = 0x0101'010A,
};

// kCurrentPacketFilter.
inline constexpr std::uint32_t kFilterDirected = 1U << 0;
inline constexpr std::uint32_t kFilterMulticast = 1U << 1;
inline constexpr std::uint32_t kFilterAllMulticast = 1U << 2;
inline constexpr std::uint32_t kFilterBroadcast = 1U << 3;
inline constexpr std::uint32_t kFilterPromiscuous = 1U << 5;

inline constexpr std::uint32_t kMediaConnected = 0;
inline constexpr std::uint32_t kMediaDisconnected = 1;

struct ObjectHeader {
  std::uint8_t type;
  std::uint8_t revision;
  le16 bytes;
};
static_assert(sizeof(ObjectHeader) == 4);
inline constexpr std::uint8_t kObjectDefault = 0x80;
inline constexpr std::uint8_t kObjectOffload = 0xA7;

inline constexpr std::uint32_t kEncapsulation8023 = 2;

// Checksum capabilities, the same bits for sending and receiving.
inline constexpr std::uint32_t kChecksumIpOptions = 0x001;  ///< IPv6: extension headers
inline constexpr std::uint32_t kChecksumTcpOptions = 0x004;
inline constexpr std::uint32_t kChecksumTcp = 0x010;
inline constexpr std::uint32_t kChecksumUdp = 0x040;
inline constexpr std::uint32_t kChecksumIpHeader = 0x100;  ///< IPv4 only

struct ChecksumOffload {
  le32 ipv4_send_encapsulation;
  le32 ipv4_send;
  le32 ipv4_receive_encapsulation;
  le32 ipv4_receive;
  le32 ipv6_send_encapsulation;
  le32 ipv6_send;
  le32 ipv6_receive_encapsulation;
  le32 ipv6_receive;
};
static_assert(sizeof(ChecksumOffload) == 32);

struct LargeSendV2 {
  le32 ipv4_encapsulation;
  le32 ipv4_maximum_bytes;
  le32 ipv4_minimum_segments;
  le32 ipv6_encapsulation;
  le32 ipv6_maximum_bytes;
  le32 ipv6_minimum_segments;
  le32 ipv6_options;
};
static_assert(sizeof(LargeSendV2) == 28);
inline constexpr std::uint32_t kLargeSendIpv6Extensions = 1;
inline constexpr std::uint32_t kLargeSendIpv6TcpOptions = 4;

/// NDIS_OFFLOAD, revision 3 (NDIS 6.30). Earlier revisions are its first bytes.
struct Offload {
  ObjectHeader header;
  ChecksumOffload checksum;
  std::array<std::uint8_t, 16> large_send_v1;
  std::array<std::uint8_t, 28> ipsec_v1;
  LargeSendV2 large_send_v2;
  le32 flags;
  std::array<std::uint8_t, 32> ipsec_v2;
  std::uint8_t coalesces_ipv4;
  std::uint8_t coalesces_ipv6;
  le16 reserved;
  std::array<std::uint8_t, 8> encapsulated_packets;
};
static_assert(sizeof(Offload) == 156 && offsetof(Offload, coalesces_ipv4) == 144);
inline constexpr std::size_t kOffloadBytes6_0 = offsetof(Offload, ipsec_v2);
inline constexpr std::size_t kOffloadBytes6_1 = offsetof(Offload, coalesces_ipv4);

/// NDIS_OFFLOAD_PARAMETERS, revision 3; set only.
struct OffloadParameters {
  ObjectHeader header;
  std::uint8_t ipv4_checksum;
  std::uint8_t tcp_ipv4_checksum;
  std::uint8_t udp_ipv4_checksum;
  std::uint8_t tcp_ipv6_checksum;
  std::uint8_t udp_ipv6_checksum;
  std::uint8_t large_send_v1;
  std::uint8_t ipsec_v1;
  std::uint8_t large_send_v2_ipv4;
  std::uint8_t large_send_v2_ipv6;
  std::uint8_t tcp_connection_ipv4;
  std::uint8_t tcp_connection_ipv6;
  std::uint8_t reserved;
  le32 flags;
  std::uint8_t ipsec_v2;
  std::uint8_t ipsec_v2_ipv4;
  std::uint8_t coalesce_ipv4;
  std::uint8_t coalesce_ipv6;
  std::uint8_t encapsulated_packets;
  std::uint8_t encapsulation_types;
};
static_assert(sizeof(OffloadParameters) == 26 && offsetof(OffloadParameters, coalesce_ipv4) == 22);
inline constexpr std::uint8_t kOffloadNoChange = 0;
inline constexpr std::uint8_t kOffloadOff = 1;
inline constexpr std::uint8_t kCoalesceOn = 2;
// For checksums: 2 send only, 3 receive only, 4 both.
inline constexpr std::uint8_t kChecksumReceiveOnly = 3;
inline constexpr std::uint8_t kChecksumBoth = 4;

}  // namespace bygone::spec::rndis
