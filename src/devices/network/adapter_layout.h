// What the adapter's parts share of how messages and buffers are laid out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "spec/internet/headers.h"
#include "spec/netvsp/netvsp.h"
#include "spec/rndis/rndis.h"

namespace bygone::devices::network {

inline constexpr std::uint32_t kSendSectionBytes = 6144;  // what Hyper-V's hosts use
inline constexpr std::size_t kMostRanges = 128;           // in one packet to the guest
inline constexpr std::uint32_t kSmallestMtu = 576, kLargestMtu = 65521;
inline constexpr std::size_t kInformationBytes = sizeof(spec::rndis::PacketInformation) + sizeof(le32);
/// Of a frame to the guest: everything before its first byte.
inline constexpr std::size_t kLongestHeader = sizeof(spec::rndis::Header) + sizeof(spec::rndis::Packet) + 3 * kInformationBytes;

template <typename T>
std::optional<T> load(std::span<const std::byte> bytes, std::size_t offset = 0) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

/// What restore() learned and open() needs the channel for.
struct SavedBuffers {
  std::uint32_t receive_gpadl = 0, send_gpadl = 0;
  std::uint16_t page_set = 0;
  std::uint32_t receive_section_bytes = 0, send_section_bytes = 0;
  std::vector<std::uint32_t> batches;  ///< for each: index, waiting, channel type, count, then section and bytes of each range
};

}  // namespace bygone::devices::network
