// What a network card's offload engine does, in software: checksums filled in, large TCP segments cut into small ones, large
// IPv4 datagrams into fragments.
// Specification: RFC 791, 8200, 9293, 768; RFC 1071 for the checksum.
//
// Threading: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "spec/internet/headers.h"

namespace bygone::network {

/// Where the headers of a frame lie. Lengths that the frame does not hold are never in here.
struct FrameLayout {
  enum class Ip : std::uint8_t { kNone, kV4, kV6 };
  enum class Transport : std::uint8_t { kNone, kTcp, kUdp };
  Ip ip = Ip::kNone;
  Transport transport = Transport::kNone;  ///< kNone for fragments and for headers that are cut off
  std::size_t ip_offset = 0;
  std::size_t transport_offset = 0;
  std::size_t payload_offset = 0;  ///< behind the transport header
  std::size_t end = 0;             ///< behind the IP packet; padding may follow
};

/// Finds the headers; IPv6 extension headers are walked.
[[nodiscard]] FrameLayout find_headers(std::span<const std::byte> frame);

/// Writes the IP packet's length from the frame's: senders of large segments leave it out. False: not an IP packet of up to 64 KiB.
[[nodiscard]] bool set_ip_length(std::span<std::byte> frame);

/// The one's complement sum of 16-bit words in network order, folded, not inverted.
[[nodiscard]] std::uint16_t ones_sum(std::span<const std::byte> bytes, std::uint32_t initial = 0);

/// Whether the transport's checksum is right; frames without one count as right.
[[nodiscard]] bool transport_checksum_is_right(std::span<const std::byte> frame, const FrameLayout& layout);
void fill_ip_checksum(std::span<std::byte> frame, const FrameLayout& layout);
void fill_transport_checksum(std::span<std::byte> frame, const FrameLayout& layout);

using FrameTaker = std::function<void(std::span<const std::byte> frame)>;

/// In a TCP frame with SYN: replaces a maximum segment size of `from` by `to` and keeps the checksum right. False: nothing to replace.
bool replace_maximum_segment(std::span<std::byte> frame, std::uint16_t from, std::uint16_t to);

/// Calls `take` with segments of at most `segment_bytes` payload, their checksums right. `scratch` keeps the copy that is worked
/// in. False: not a TCP frame, or segment_bytes is 0; nothing was taken.
bool cut_segments(std::span<const std::byte> frame, std::size_t segment_bytes, std::vector<std::byte>& scratch,
                  const FrameTaker& take);

/// Calls `take` with IPv4 fragments whose IP packets have at most `mtu` bytes. False: not an IPv4 frame or no such mtu.
bool cut_fragments(std::span<const std::byte> frame, std::size_t mtu, std::vector<std::byte>& scratch, const FrameTaker& take);

}  // namespace bygone::network
