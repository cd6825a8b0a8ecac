// One packet out of a ring: a private copy, checked once, so that a guest that rewrites its ring changes nothing.
//
// Threading: a value. Reuse one Packet for many receive() calls: its buffers keep their capacity.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "spec/vmbus/ring.h"
#include "support/result.h"
#include "vmbus/page_ranges.h"

namespace bygone::vmbus {

using spec::vmbus::PacketType;

/// Piece of a buffer that both sides know as a transfer page set.
struct TransferRange {
  std::uint32_t byte_count = 0;
  std::uint32_t byte_offset = 0;
};

class Packet {
 public:
  [[nodiscard]] PacketType type() const { return type_; }
  [[nodiscard]] std::uint64_t transaction_id() const { return transaction_id_; }
  [[nodiscard]] bool wants_completion() const { return wants_completion_; }
  /// The data, padded by the sender to a multiple of 8 bytes.
  [[nodiscard]] std::span<const std::byte> payload() const { return std::span(bytes_).subspan(data_offset_); }
  /// The start of the data as a T, when it is that long.
  template <typename T>
    requires std::is_trivially_copyable_v<T>
  [[nodiscard]] std::optional<T> payload_as() const {
    if (payload().size() < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, payload().data(), sizeof(T));
    return value;
  }
  /// The guest memory that a kGpaDirect packet points at; empty for other types.
  [[nodiscard]] const PageRanges& buffers() const { return buffers_; }
  /// kTransferPages only.
  [[nodiscard]] std::uint16_t page_set() const { return page_set_; }
  [[nodiscard]] std::span<const TransferRange> transfer_ranges() const { return transfer_ranges_; }

 private:
  friend class IncomingRing;
  /// Interprets bytes_, which hold descriptor and data. Errors: kCorrupt.
  [[nodiscard]] Result<void> parse(const spec::vmbus::PacketDescriptor& descriptor);
  [[nodiscard]] Result<void> parse_transfer_pages(std::span<const std::byte> header);

  PacketType type_ = PacketType::kInvalid;
  std::uint64_t transaction_id_ = 0;
  bool wants_completion_ = false;
  std::size_t data_offset_ = 0;
  std::vector<std::byte> bytes_;
  PageRanges buffers_;
  std::uint16_t page_set_ = 0;
  std::vector<TransferRange> transfer_ranges_;
};

}  // namespace bygone::vmbus
