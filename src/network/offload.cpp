#include "network/offload.h"

#include <algorithm>
#include <cstring>

namespace bygone::network {

namespace net = spec::internet;

namespace {

template <typename T>
bool load(std::span<const std::byte> frame, std::size_t offset, T& into) {
  if (offset > frame.size() || frame.size() - offset < sizeof(T)) return false;
  std::memcpy(&into, frame.data() + offset, sizeof(T));
  return true;
}

template <typename T>
void store(std::span<std::byte> frame, std::size_t offset, const T& value) {
  std::memcpy(frame.data() + offset, &value, sizeof(T));
}

// RFC 8200 4: the headers that may stand between IPv6 and its transport.
constexpr std::uint8_t kHopByHop = 0, kRouting = 43, kFragment = 44, kDestination = 60;
constexpr int kMostExtensions = 8;

void find_ipv6(std::span<const std::byte> frame, FrameLayout& layout, std::uint8_t& protocol) {
  net::Ipv6Header header;
  if (!load(frame, layout.ip_offset, header) || header.version_class_flow >> 28 != 6) return;
  const std::size_t end = layout.ip_offset + sizeof header + header.payload_bytes;
  if (end > frame.size()) return;
  layout.ip = FrameLayout::Ip::kV6;
  layout.end = end;
  std::size_t at = layout.ip_offset + sizeof header;
  std::uint8_t next = header.next_header;
  for (int i = 0; i < kMostExtensions && (next == kHopByHop || next == kRouting || next == kDestination); ++i) {
    std::array<std::uint8_t, 2> extension;
    if (!load(frame.first(end), at, extension)) return;
    next = extension[0];
    at += 8 + std::size_t{extension[1]} * 8;
  }
  if (at > end || next == kFragment) return;
  layout.transport_offset = at;
  protocol = next;
}

void find_ipv4(std::span<const std::byte> frame, FrameLayout& layout, std::uint8_t& protocol) {
  net::Ipv4Header header;
  if (!load(frame, layout.ip_offset, header) || header.version_and_length >> 4 != 4) return;
  const std::size_t header_bytes = std::size_t{header.version_and_length} % 16 * 4;
  const std::size_t end = layout.ip_offset + header.total_bytes;
  if (header_bytes < sizeof header || header.total_bytes < header_bytes || end > frame.size()) return;
  layout.ip = FrameLayout::Ip::kV4;
  layout.end = end;
  if ((header.fragment & (net::kFragmentOffsetMask | net::kMoreFragments)) != 0) return;
  layout.transport_offset = layout.ip_offset + header_bytes;
  protocol = header.protocol;
}

/// The sum over the pseudo-header (RFC 9293 3.1, RFC 8200 8.1).
std::uint32_t pseudo_sum(std::span<const std::byte> frame, const FrameLayout& layout) {
  const std::size_t length = layout.end - layout.transport_offset;
  const std::uint8_t protocol = layout.transport == FrameLayout::Transport::kTcp ? net::kProtocolTcp : net::kProtocolUdp;
  const bool is_v4 = layout.ip == FrameLayout::Ip::kV4;
  const auto addresses = frame.subspan(layout.ip_offset + (is_v4 ? 12 : 8), is_v4 ? 8 : 32);
  return std::uint32_t{ones_sum(addresses)} + protocol + static_cast<std::uint32_t>(length >> 16) +
         static_cast<std::uint32_t>(length & 0xFFFF);
}

std::size_t checksum_offset(const FrameLayout& layout) {
  return layout.transport_offset +
         (layout.transport == FrameLayout::Transport::kTcp ? offsetof(net::TcpHeader, checksum) : offsetof(net::UdpHeader, checksum));
}

std::uint16_t transport_sum(std::span<const std::byte> frame, const FrameLayout& layout) {
  return ones_sum(frame.subspan(layout.transport_offset, layout.end - layout.transport_offset), pseudo_sum(frame, layout));
}

}  // namespace

FrameLayout find_headers(std::span<const std::byte> frame) {
  FrameLayout layout;
  net::EthernetHeader ethernet;
  if (!load(frame, 0, ethernet)) return layout;
  std::uint16_t type = ethernet.type;
  layout.ip_offset = sizeof ethernet;
  if (type == net::kTypeVlan) {
    be16 inner;
    if (!load(frame, sizeof ethernet + 2, inner)) return layout;
    type = inner;
    layout.ip_offset += sizeof(net::VlanTag);
  }
  std::uint8_t protocol = 0;
  if (type == net::kTypeIpv4) find_ipv4(frame, layout, protocol);
  if (type == net::kTypeIpv6) find_ipv6(frame, layout, protocol);
  const auto packet = frame.first(layout.end);
  if (layout.transport_offset == 0) return layout;
  if (protocol == net::kProtocolTcp) {
    net::TcpHeader tcp;
    if (!load(packet, layout.transport_offset, tcp)) return layout;
    const std::size_t header_bytes = std::size_t{tcp.data_offset} / 16 * 4;
    if (header_bytes < sizeof tcp || header_bytes > layout.end - layout.transport_offset) return layout;
    layout.transport = FrameLayout::Transport::kTcp;
    layout.payload_offset = layout.transport_offset + header_bytes;
  } else if (protocol == net::kProtocolUdp) {
    net::UdpHeader udp;
    if (!load(packet, layout.transport_offset, udp)) return layout;
    layout.transport = FrameLayout::Transport::kUdp;
    layout.payload_offset = layout.transport_offset + sizeof udp;
  }
  return layout;
}

bool set_ip_length(std::span<std::byte> frame) {
  net::EthernetHeader ethernet;
  if (!load(frame, 0, ethernet)) return false;
  std::size_t at = sizeof ethernet;
  be16 type = ethernet.type;
  if (type == net::kTypeVlan) {
    if (!load(frame, at + 2, type)) return false;
    at += sizeof(net::VlanTag);
  }
  const std::size_t bytes = frame.size() - std::min(at, frame.size());
  if (type == net::kTypeIpv4 && bytes >= sizeof(net::Ipv4Header) && bytes <= 0xFFFF) {
    store(frame, at + offsetof(net::Ipv4Header, total_bytes), be16(static_cast<std::uint16_t>(bytes)));
    return true;
  }
  if (type == net::kTypeIpv6 && bytes >= sizeof(net::Ipv6Header) && bytes - sizeof(net::Ipv6Header) <= 0xFFFF) {
    store(frame, at + offsetof(net::Ipv6Header, payload_bytes), be16(static_cast<std::uint16_t>(bytes - sizeof(net::Ipv6Header))));
    return true;
  }
  return false;
}

std::uint16_t ones_sum(std::span<const std::byte> bytes, std::uint32_t initial) {
  // The sum is the same in either byte order, but for a swap (RFC 1071 2B): add what the host reads, swap once. 32-bit words into
  // a 64-bit sum cannot overflow for 16 GiB, and the loop has no carries that would keep a compiler from vectors.
  std::uint64_t sum = 0;
  const std::size_t words = bytes.size() / 4;
  for (std::size_t i = 0; i < words; ++i) {
    std::uint32_t word;
    std::memcpy(&word, bytes.data() + i * 4, sizeof word);
    sum += word;
  }
  std::uint32_t rest = 0;
  if (bytes.size() % 4 != 0) std::memcpy(&rest, bytes.data() + words * 4, bytes.size() % 4);
  sum += rest;
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  std::uint32_t folded = std::uint32_t{swap_bytes(static_cast<std::uint16_t>(sum))} + (initial & 0xFFFF) + (initial >> 16);
  while (folded >> 16 != 0) folded = (folded & 0xFFFF) + (folded >> 16);
  return static_cast<std::uint16_t>(folded);
}

bool transport_checksum_is_right(std::span<const std::byte> frame, const FrameLayout& layout) {
  if (layout.transport == FrameLayout::Transport::kNone) return true;
  if (layout.transport == FrameLayout::Transport::kUdp && layout.ip == FrameLayout::Ip::kV4) {
    be16 stored;
    if (load(frame, checksum_offset(layout), stored) && stored == 0) return true;
  }
  return transport_sum(frame, layout) == 0xFFFF;
}

void fill_ip_checksum(std::span<std::byte> frame, const FrameLayout& layout) {
  if (layout.ip != FrameLayout::Ip::kV4) return;
  const std::size_t header_bytes = static_cast<std::size_t>(frame[layout.ip_offset]) % 16 * 4;
  const std::size_t at = layout.ip_offset + offsetof(net::Ipv4Header, checksum);
  store(frame, at, be16(0));
  store(frame, at, be16(static_cast<std::uint16_t>(~ones_sum(frame.subspan(layout.ip_offset, header_bytes)))));
}

void fill_transport_checksum(std::span<std::byte> frame, const FrameLayout& layout) {
  if (layout.transport == FrameLayout::Transport::kNone) return;
  store(frame, checksum_offset(layout), be16(0));
  auto checksum = static_cast<std::uint16_t>(~transport_sum(frame, layout));
  if (checksum == 0 && layout.transport == FrameLayout::Transport::kUdp) checksum = 0xFFFF;  // zero says: none
  store(frame, checksum_offset(layout), be16(checksum));
}

bool replace_maximum_segment(std::span<std::byte> frame, std::uint16_t from, std::uint16_t to) {
  const FrameLayout layout = find_headers(frame);
  if (layout.transport != FrameLayout::Transport::kTcp) return false;
  const auto flags = static_cast<std::uint8_t>(frame[layout.transport_offset + offsetof(net::TcpHeader, flags)]);
  if ((flags & net::kTcpSyn) == 0) return false;
  std::size_t at = layout.transport_offset + sizeof(net::TcpHeader);
  while (at + 4 <= layout.payload_offset) {
    const auto kind = static_cast<std::uint8_t>(frame[at]);
    if (kind == 1) {  // RFC 9293 3.2: no operation
      ++at;
      continue;
    }
    const std::size_t length = static_cast<std::uint8_t>(frame[at + 1]);
    if (kind == 0 || length < 2) return false;
    if (kind == net::kTcpOptionMaximumSegment && length == 4) {
      be16 size;
      if (!load(frame, at + 2, size) || size != from) return false;
      store(frame, at + 2, be16(to));
      fill_transport_checksum(frame, layout);
      return true;
    }
    at += length;
  }
  return false;
}

bool cut_segments(std::span<const std::byte> frame, std::size_t segment_bytes, std::vector<std::byte>& scratch,
                  const FrameTaker& take) {
  const FrameLayout layout = find_headers(frame);
  if (layout.transport != FrameLayout::Transport::kTcp || segment_bytes == 0) return false;
  const auto headers = frame.first(layout.payload_offset);
  auto payload = frame.subspan(layout.payload_offset, layout.end - layout.payload_offset);
  net::TcpHeader tcp;
  std::memcpy(&tcp, frame.data() + layout.transport_offset, sizeof tcp);
  const std::uint8_t flags = tcp.flags;
  std::uint32_t sequence = tcp.sequence;
  std::uint16_t id = 0;
  if (layout.ip == FrameLayout::Ip::kV4) {
    be16 first;
    std::memcpy(&first, frame.data() + layout.ip_offset + offsetof(net::Ipv4Header, id), sizeof first);
    id = first;
  }
  bool is_first = true;
  do {
    const std::size_t piece = std::min(segment_bytes, payload.size());
    const bool is_last = piece == payload.size();
    scratch.resize(headers.size() + piece);
    std::memcpy(scratch.data(), headers.data(), headers.size());
    std::memcpy(scratch.data() + headers.size(), payload.data(), piece);
    FrameLayout own = layout;
    own.end = scratch.size();
    const std::size_t ip_bytes = scratch.size() - layout.ip_offset;
    if (layout.ip == FrameLayout::Ip::kV4) {
      store(std::span(scratch), layout.ip_offset + offsetof(net::Ipv4Header, total_bytes), be16(static_cast<std::uint16_t>(ip_bytes)));
      store(std::span(scratch), layout.ip_offset + offsetof(net::Ipv4Header, id), be16(id++));
    } else {
      store(std::span(scratch), layout.ip_offset + offsetof(net::Ipv6Header, payload_bytes),
            be16(static_cast<std::uint16_t>(ip_bytes - sizeof(net::Ipv6Header))));
    }
    tcp.sequence = sequence;
    tcp.flags = flags;
    if (!is_last) tcp.flags = static_cast<std::uint8_t>(tcp.flags & ~(net::kTcpFin | net::kTcpPush));
    if (!is_first) tcp.flags = static_cast<std::uint8_t>(tcp.flags & ~net::kTcpCongestionReduced);
    store(std::span(scratch), layout.transport_offset, tcp);
    fill_ip_checksum(scratch, own);
    fill_transport_checksum(scratch, own);
    take(scratch);
    sequence += static_cast<std::uint32_t>(piece);
    payload = payload.subspan(piece);
    is_first = false;
  } while (!payload.empty());
  return true;
}

bool cut_fragments(std::span<const std::byte> frame, std::size_t mtu, std::vector<std::byte>& scratch, const FrameTaker& take) {
  const FrameLayout layout = find_headers(frame);
  if (layout.ip != FrameLayout::Ip::kV4) return false;
  const std::size_t header_bytes = static_cast<std::size_t>(frame[layout.ip_offset]) % 16 * 4;
  if (mtu < header_bytes + 8) return false;
  net::Ipv4Header header;
  std::memcpy(&header, frame.data() + layout.ip_offset, sizeof header);
  const std::uint16_t already = header.fragment & net::kFragmentOffsetMask;
  const bool more_follow = (header.fragment & net::kMoreFragments) != 0;
  const std::size_t headers_end = layout.ip_offset + header_bytes;
  auto payload = frame.subspan(headers_end, layout.end - headers_end);
  const std::size_t most = (mtu - header_bytes) / 8 * 8;
  std::size_t done = 0;
  do {
    const std::size_t piece = std::min(most, payload.size());
    const bool is_last = piece == payload.size();
    scratch.resize(headers_end + piece);
    std::memcpy(scratch.data(), frame.data(), headers_end);
    std::memcpy(scratch.data() + headers_end, payload.data(), piece);
    header.total_bytes = static_cast<std::uint16_t>(header_bytes + piece);
    header.fragment = static_cast<std::uint16_t>((already + done / 8) | (is_last && !more_follow ? 0 : net::kMoreFragments));
    store(std::span(scratch), layout.ip_offset, header);
    FrameLayout own = layout;
    own.end = scratch.size();
    fill_ip_checksum(scratch, own);
    take(scratch);
    done += piece;
    payload = payload.subspan(piece);
  } while (!payload.empty());
  return true;
}

}  // namespace bygone::network
