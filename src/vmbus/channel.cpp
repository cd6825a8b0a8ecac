#include "vmbus/channel.h"

#include <cstring>

namespace bygone::vmbus {

Channel::Channel(memory::GuestMemory& memory, EventLoop& loop, ChannelBus& bus, ChannelParameters parameters,
                 IncomingRing incoming, OutgoingRing outgoing)
    : memory_(memory),
      loop_(loop),
      bus_(bus),
      parameters_(parameters),
      incoming_(std::move(incoming)),
      outgoing_(std::move(outgoing)) {
  outgoing_.announce_flow_control();
}

Result<bool> Channel::receive(Packet& into) {
  if (left_this_turn_ == 0) {
    receive_again();
    return false;
  }
  auto got = incoming_.receive(into);
  if (got && *got) {
    ++statistics_.packets_received;
    if (into.type() == PacketType::kCompletion) ++statistics_.completions_received;
    --left_this_turn_;
  }
  return got;
}

Result<bool> Channel::send(const OutgoingPacket& packet) {
  BYGONE_ASSIGN(const bool sent, outgoing_.send(packet));
  if (sent) {
    ++statistics_.packets_sent;
    if (packet.wants_completion) hands_over_ = true;
    return true;
  }
  ++statistics_.ring_full;
  if (!incoming_.sender_has_flow_control()) bus_.retry_later(*this);
  return false;
}

Result<bool> Channel::send(std::initializer_list<std::span<const std::byte>> payload, std::uint64_t transaction_id,
                           bool wants_completion) {
  return send({PacketType::kInBand, transaction_id, wants_completion, {}, {payload.begin(), payload.size()}});
}

Result<bool> Channel::complete(std::uint64_t transaction_id, std::span<const std::byte> payload) {
  return send({PacketType::kCompletion, transaction_id, false, {}, {&payload, 1}});
}

Result<bool> Channel::send_transfer_pages(std::uint16_t page_set, std::span<const TransferRange> ranges,
                                          std::span<const std::byte> payload, std::uint64_t transaction_id,
                                          bool wants_completion) {
  std::vector<std::byte> header(sizeof(spec::vmbus::TransferPagesHeader) +
                                ranges.size() * sizeof(spec::vmbus::TransferPageRange));
  spec::vmbus::TransferPagesHeader fixed = {};
  fixed.page_set = page_set;
  fixed.range_count = static_cast<std::uint32_t>(ranges.size());
  std::memcpy(header.data(), &fixed, sizeof fixed);
  std::size_t at = sizeof fixed;
  for (const TransferRange& range : ranges) {
    const spec::vmbus::TransferPageRange wire = {range.byte_count, range.byte_offset};
    std::memcpy(header.data() + at, &wire, sizeof wire);
    at += sizeof wire;
  }
  return send({PacketType::kTransferPages, transaction_id, wants_completion, header, {&payload, 1}});
}

void Channel::flush() {
  left_this_turn_ = kPacketsATurn;
  if (std::exchange(call_again_, false)) bus_.call_again(*this);
  incoming_.publish();
  const bool room = incoming_.take_signal();
  const bool data = outgoing_.take_signal();
  if (!room && !data) return;
  ++statistics_.signals_sent;
  bus_.signal_guest(*this);
  if (std::exchange(hands_over_, false)) loop_.pace().handed_over();
}

}  // namespace bygone::vmbus
