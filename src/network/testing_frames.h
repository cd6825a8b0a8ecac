// Frames for tests: TCP and UDP over IPv4 and IPv6, with or without right checksums.
// Threading: pure functions.
#pragma once

#include <cstring>
#include <vector>

#include "network/offload.h"

namespace bygone::network {

struct TestFrame {
  bool is_v6 = false;
  bool is_udp = false;
  bool has_checksums = true;
  std::size_t payload_bytes = 100;
  std::uint8_t tcp_flags = 0x10;
  spec::internet::MacAddress destination = {2, 0, 0, 0, 0, 9};
};

inline std::vector<std::byte> make_frame(const TestFrame& what) {
  namespace net = spec::internet;
  std::vector<std::byte> bytes;
  const auto put = [&](const auto& header) {
    const auto raw = bytes_of(header);
    bytes.insert(bytes.end(), raw.begin(), raw.end());
  };
  const std::size_t transport_bytes = (what.is_udp ? sizeof(net::UdpHeader) : sizeof(net::TcpHeader)) + what.payload_bytes;
  const std::uint8_t protocol = what.is_udp ? net::kProtocolUdp : net::kProtocolTcp;
  net::EthernetHeader ethernet{};
  ethernet.destination = what.destination;
  ethernet.source = {2, 0, 0, 0, 0, 1};
  ethernet.type = what.is_v6 ? net::kTypeIpv6 : net::kTypeIpv4;
  put(ethernet);
  if (what.is_v6) {
    net::Ipv6Header ip{};
    ip.version_class_flow = 0x6000'0000U;
    ip.payload_bytes = static_cast<std::uint16_t>(transport_bytes);
    ip.next_header = protocol;
    ip.hops = 64;
    ip.source[0] = ip.destination[0] = 0xFE;
    ip.source[15] = 1;
    ip.destination[15] = 2;
    put(ip);
  } else {
    net::Ipv4Header ip{};
    ip.version_and_length = 0x45;
    ip.total_bytes = static_cast<std::uint16_t>(sizeof ip + transport_bytes);
    ip.id = 0x1234;
    ip.hops = 64;
    ip.protocol = protocol;
    ip.source = 0x0A00'020FU;
    ip.destination = 0x0A00'0202U;
    put(ip);
  }
  if (what.is_udp) {
    net::UdpHeader udp{};
    udp.source_port = 1000;
    udp.destination_port = 2000;
    udp.length = static_cast<std::uint16_t>(transport_bytes);
    put(udp);
  } else {
    net::TcpHeader tcp{};
    tcp.source_port = 1000;
    tcp.destination_port = 2000;
    tcp.sequence = 0xFFFF'FF00U;  // segments wrap it
    tcp.data_offset = 0x50;
    tcp.flags = what.tcp_flags;
    tcp.window = 512;
    put(tcp);
  }
  for (std::size_t i = 0; i < what.payload_bytes; ++i) bytes.push_back(static_cast<std::byte>(i * 7 + i / 256));
  if (what.has_checksums) {
    const FrameLayout layout = find_headers(bytes);
    fill_ip_checksum(bytes, layout);
    fill_transport_checksum(bytes, layout);
  }
  return bytes;
}

}  // namespace bygone::network
