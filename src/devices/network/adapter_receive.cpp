#include "devices/network/network_adapter.h"

#include <algorithm>

#include "devices/network/adapter_layout.h"
#include "network/offload.h"

// From the wire to the guest.
namespace bygone::devices::network {

namespace nvsp = spec::netvsp;
namespace rndis = spec::rndis;
namespace net = spec::internet;
using nvsp::MessageType;

bool NetworkAdapter::has_room() const {
  const bool has_room = channel_ == nullptr || !receive_ || receive_->free_sections() >= kMostRanges / 4 ||
                        receive_->free_sections() * 2 > receive_->section_count();
  if (!has_room) starved_ = true;
  return has_room;
}

bool NetworkAdapter::deliver(std::span<const std::byte> frame, const bygone::network::FrameNotes& notes) {
  MacAddress destination;
  if (frame.size() < sizeof(net::EthernetHeader) || frame.size() > bygone::network::kMaximumFrameBytes) return true;
  std::memcpy(destination.data(), frame.data(), sizeof destination);
  if (channel_ == nullptr || !receive_ || !rndis_.is_initialized() || !rndis_.accepts(destination)) {
    ++counters_.frames_filtered;
    return true;
  }
  if (put_frame(frame, notes)) return true;
  ++counters_.frames_without_room;
  starved_ = true;
  return false;
}

std::size_t NetworkAdapter::piece_capacity() const { return receive_->section_bytes() - kLongestHeader; }

std::size_t NetworkAdapter::most_ranges() const {
  const std::size_t room = channel_->maximum_payload(sizeof(spec::vmbus::TransferPagesHeader)) - nvsp::kMessageBytes6_1;
  return std::clamp<std::size_t>(room / sizeof(spec::vmbus::TransferPageRange) / 2, 1, kMostRanges);
}

bool NetworkAdapter::put_frame(std::span<const std::byte> frame, const bygone::network::FrameNotes& notes) {
  namespace offload = bygone::network;
  const offload::FrameLayout layout = offload::find_headers(frame);
  std::uint32_t checksums = 0;
  if (notes.checksums_are_valid) {
    if (layout.ip == offload::FrameLayout::Ip::kV4) checksums |= rndis::kReceiveIpSucceeded;
    if (layout.transport == offload::FrameLayout::Transport::kTcp) checksums |= rndis::kReceiveTcpSucceeded;
    if (layout.transport == offload::FrameLayout::Transport::kUdp) checksums |= rndis::kReceiveUdpSucceeded;
  }
  if (frame.size() <= piece_capacity() && notes.segment_bytes == 0) {
    std::optional<std::uint32_t> vlan;
    net::VlanTag tag;
    constexpr std::size_t kAddresses = 2 * sizeof(MacAddress);
    std::memcpy(&tag.type, frame.data() + kAddresses, sizeof tag.type);
    if (tag.type == net::kTypeVlan && frame.size() >= sizeof(net::EthernetHeader) + sizeof tag) {
      std::memcpy(&tag, frame.data() + kAddresses, sizeof tag);
      const std::uint32_t control = tag.control;
      vlan = control >> 13 | ((control & 0x1000) != 0 ? rndis::kVlanFormatBit : 0) | (control & 0xFFF) << rndis::kVlanIdShift;
      scratch_.assign(frame.begin(), frame.begin() + kAddresses);
      scratch_.insert(scratch_.end(), frame.begin() + kAddresses + sizeof tag, frame.end());
      return put_pieces(scratch_, checksums, vlan, 1);
    }
    return put_pieces(frame, checksums, {}, 1);
  }
  const bool coalesces = layout.ip == offload::FrameLayout::Ip::kV6 ? rndis_.coalesces_ipv6() : rndis_.coalesces_ipv4();
  const std::size_t pieces = (frame.size() + piece_capacity() - 1) / piece_capacity();
  if (coalesces && pieces <= most_ranges()) return put_pieces(frame, checksums, {}, pieces);
  bool all = true;
  std::vector<std::byte> segment;
  const bool cut = offload::cut_segments(frame, notes.segment_bytes, segment, [&](std::span<const std::byte> part) {
    if (part.size() <= piece_capacity()) all = put_pieces(part, checksums, {}, 1) && all;
  });
  return cut && all;
}

/// Puts a frame into `count` sections of one batch.
bool NetworkAdapter::put_pieces(std::span<const std::byte> frame, std::uint32_t checksums, std::optional<std::uint32_t> vlan,
                                std::size_t count) {
  if (receive_->free_sections() < count) return false;
  if (filling_ && batches_[*filling_].ranges.size() + count > most_ranges()) send_batch();
  Batch& batch = open_batch(nvsp::kChannelTypeData);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t length = std::min(frame.size(), piece_capacity());
    std::uint8_t flags = 0;
    if (count > 1) {
      flags = static_cast<std::uint8_t>(rndis::kPacketIsPiece | (i == 0 ? rndis::kFirstPiece : 0) | (i + 1 == count ? rndis::kLastPiece : 0));
    }
    const std::size_t header_bytes = write_header(i == 0 ? checksums : 0, vlan, flags, length);
    const std::uint32_t section = receive_->take();
    batch.ranges.push_back({static_cast<std::uint32_t>(header_bytes + length), section * receive_->section_bytes()});
    auto written = receive_->write(channel_->memory(), section, 0, std::span(header_).first(header_bytes));
    if (written) written = receive_->write(channel_->memory(), section, static_cast<std::uint32_t>(header_bytes), frame.first(length));
    if (!written) {  // the guest's buffer is not memory
      channel_->fail(std::move(written).error());
      return true;
    }
    counters_.bytes_received += length;
    frame = frame.subspan(length);
  }
  ++counters_.frames_received;
  return true;
}

/// Builds a kPacket message up to its data in header_.
std::size_t NetworkAdapter::write_header(std::uint32_t checksums, std::optional<std::uint32_t> vlan, std::uint8_t piece_flags,
                                         std::size_t data_bytes) {
  constexpr std::size_t kFixed = sizeof(rndis::Header) + sizeof(rndis::Packet);
  std::size_t at = kFixed;
  const auto add = [&](std::uint32_t type, const auto& value) {
    static_assert(sizeof value == sizeof(le32));
    rndis::PacketInformation item;
    item.bytes = static_cast<std::uint32_t>(kInformationBytes);
    item.type = type;
    item.value_offset = static_cast<std::uint32_t>(sizeof item);
    std::memcpy(header_.data() + at, &item, sizeof item);
    std::memcpy(header_.data() + at + sizeof item, &value, sizeof value);
    at += kInformationBytes;
  };
  if (checksums != 0) add(rndis::kChecksumInformation, le32(checksums));
  if (vlan) add(rndis::kVlanInformation, le32(*vlan));
  if (piece_flags != 0) add(rndis::kPacketIdInformation, rndis::PacketId{rndis::kPacketIdVersion, piece_flags, 0});
  rndis::Header header;
  header.type = static_cast<std::uint32_t>(rndis::MessageType::kPacket);
  header.length = static_cast<std::uint32_t>(at + data_bytes);
  rndis::Packet packet = {};
  packet.data_offset = static_cast<std::uint32_t>(at - sizeof header);
  packet.data_bytes = static_cast<std::uint32_t>(data_bytes);
  if (at != kFixed) {
    packet.information_offset = static_cast<std::uint32_t>(sizeof packet);
    packet.information_bytes = static_cast<std::uint32_t>(at - kFixed);
  }
  std::memcpy(header_.data(), &header, sizeof header);
  std::memcpy(header_.data() + sizeof header, &packet, sizeof packet);
  return at;
}

void NetworkAdapter::put_control(std::span<const std::byte> message) {
  if (!receive_ || receive_->free_sections() == 0 || message.size() > receive_->section_bytes()) {
    ++counters_.frames_without_room;
    return;
  }
  send_batch();
  Batch& batch = open_batch(nvsp::kChannelTypeControl);
  const std::uint32_t section = receive_->take();
  batch.ranges.push_back({static_cast<std::uint32_t>(message.size()), section * receive_->section_bytes()});
  if (auto written = receive_->write(channel_->memory(), section, 0, message); !written) return channel_->fail(std::move(written).error());
  send_batch();
}

NetworkAdapter::Batch& NetworkAdapter::open_batch(std::uint32_t channel_type) {
  if (!filling_) {
    if (free_batches_.empty()) {
      free_batches_.push_back(static_cast<std::uint32_t>(batches_.size()));
      batches_.emplace_back();
    }
    filling_ = free_batches_.back();
    free_batches_.pop_back();
    batches_[*filling_].in_use = true;
    batches_[*filling_].channel_type = channel_type;
  }
  return batches_[*filling_];
}

/// What was put together goes into the ring, or behind what waits already.
void NetworkAdapter::send_batch() {
  if (!filling_) return;
  waiting_batches_.push_back(*std::exchange(filling_, std::nullopt));
  if (auto sent = send_waiting(); !sent) channel_->fail(std::move(sent).error());
}

void NetworkAdapter::finish_delivery() {
  if (channel_ == nullptr) return;
  send_batch();
  if (!draining_) channel_->flush();
}

Result<void> NetworkAdapter::send_waiting() {
  while (!waiting_completions_.empty()) {
    const Completion& next = waiting_completions_.front();
    BYGONE_ASSIGN(const bool sent, channel_->complete(next.transaction_id, next.message));
    if (!sent) return {};
    waiting_completions_.pop_front();
  }
  while (!waiting_batches_.empty()) {
    BYGONE_ASSIGN(const bool sent, put_batch(waiting_batches_.front()));
    if (!sent) return {};
    waiting_batches_.pop_front();
  }
  return {};
}

Result<bool> NetworkAdapter::put_batch(std::uint32_t index) {
  const Batch& batch = batches_[index];
  std::array<std::byte, nvsp::kMessageBytes6_1> message = {};
  const le32 type(static_cast<std::uint32_t>(MessageType::kSendRndisPacket));
  const nvsp::SendRndisPacket packet = {batch.channel_type, nvsp::kNoSendSection, 0U};
  std::memcpy(message.data(), &type, sizeof type);
  std::memcpy(message.data() + sizeof type, &packet, sizeof packet);
  const std::uint64_t transaction_id = std::uint64_t{batch_generation_} << 32 | (index + 1);
  BYGONE_ASSIGN(const bool sent, channel_->send_transfer_pages(receive_->page_set(), batch.ranges,
                                                               std::span(message).first(message_bytes()), transaction_id));
  if (sent) ++batches_sent_;
  return sent;
}

/// The guest is done with what it got under this number.
void NetworkAdapter::finish_batch(std::uint64_t transaction_id) {
  const std::uint64_t index = (transaction_id & 0xFFFF'FFFF) - 1;
  if (transaction_id >> 32 != batch_generation_ || index >= batches_.size() || !batches_[index].in_use ||
      std::ranges::find(waiting_batches_, static_cast<std::uint32_t>(index)) != waiting_batches_.end() || filling_ == index) {
    ++counters_.bad_messages;  // of an earlier buffer, or of a guest's invention
    return;
  }
  Batch& batch = batches_[index];
  for (const vmbus::TransferRange& range : batch.ranges) receive_->give_back(range.byte_offset / receive_->section_bytes());
  batch.ranges.clear();
  batch.in_use = false;
  free_batches_.push_back(static_cast<std::uint32_t>(index));
}

}  // namespace bygone::devices::network
