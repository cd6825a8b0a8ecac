// Ethernet, IPv4, IPv6, TCP and UDP headers on the wire.
// Source: IEEE 802.3 and 802.1Q, RFC 791, RFC 8200, RFC 9293, RFC 768.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "support/byte_order.h"

namespace bygone::spec::internet {

using MacAddress = std::array<std::uint8_t, 6>;

struct EthernetHeader {
  MacAddress destination;
  MacAddress source;
  be16 type;
};
static_assert(sizeof(EthernetHeader) == 14);
inline constexpr std::uint16_t kTypeIpv4 = 0x0800;
inline constexpr std::uint16_t kTypeArp = 0x0806;
inline constexpr std::uint16_t kTypeVlan = 0x8100;
inline constexpr std::uint16_t kTypeIpv6 = 0x86DD;

/// IEEE 802.1Q: between the addresses and the type.
struct VlanTag {
  be16 type;     ///< kTypeVlan
  be16 control;  ///< priority 15–13, DEI 12, VLAN id 11–0
};
static_assert(sizeof(VlanTag) == 4);

struct Ipv4Header {
  std::uint8_t version_and_length;  ///< 4, and the header's length in units of 4 bytes
  std::uint8_t service;
  be16 total_bytes;
  be16 id;
  be16 fragment;  ///< flags 15–13 (bit 14: do not fragment, 13: more), offset in units of 8 bytes
  std::uint8_t hops;
  std::uint8_t protocol;
  be16 checksum;
  be32 source;
  be32 destination;
};
static_assert(sizeof(Ipv4Header) == 20);
inline constexpr std::uint16_t kFragmentOffsetMask = 0x1FFF;
inline constexpr std::uint16_t kMoreFragments = 0x2000;
inline constexpr std::uint16_t kDontFragment = 0x4000;

struct Ipv6Header {
  be32 version_class_flow;
  be16 payload_bytes;
  std::uint8_t next_header;
  std::uint8_t hops;
  std::array<std::uint8_t, 16> source;
  std::array<std::uint8_t, 16> destination;
};
static_assert(sizeof(Ipv6Header) == 40);

inline constexpr std::uint8_t kProtocolTcp = 6;
inline constexpr std::uint8_t kProtocolUdp = 17;

struct TcpHeader {
  be16 source_port;
  be16 destination_port;
  be32 sequence;
  be32 acknowledgment;
  std::uint8_t data_offset;  ///< upper half: the header's length in units of 4 bytes
  std::uint8_t flags;
  be16 window;
  be16 checksum;
  be16 urgent;
};
static_assert(sizeof(TcpHeader) == 20 && offsetof(TcpHeader, checksum) == 16);
inline constexpr std::uint8_t kTcpFin = 0x01;
inline constexpr std::uint8_t kTcpSyn = 0x02;
inline constexpr std::uint8_t kTcpRst = 0x04;
inline constexpr std::uint8_t kTcpPush = 0x08;
inline constexpr std::uint8_t kTcpCongestionReduced = 0x80;
inline constexpr std::uint8_t kTcpOptionMaximumSegment = 2;

struct UdpHeader {
  be16 source_port;
  be16 destination_port;
  be16 length;
  be16 checksum;
};
static_assert(sizeof(UdpHeader) == 8 && offsetof(UdpHeader, checksum) == 6);

}  // namespace bygone::spec::internet
