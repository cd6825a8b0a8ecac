#include "vmbus/packet_device.h"

#include <cstring>

#include "spec/vmbus/ring.h"

namespace bygone::vmbus {

using spec::vmbus::PipeHeader;

PacketDevice::PacketDevice(Offer offer, Framing framing, PacketDeviceLimits limits)
    : offer_(std::move(offer)), framing_(framing), limits_(limits) {}

Result<void> PacketDevice::on_open(const ChannelParameters&) { return {}; }
void PacketDevice::on_close() {}

Result<void> PacketDevice::open(Channel& channel) {
  if (channel_ != nullptr) return fail(ErrorCode::kBusy, "{} has one channel and it is open", offer_.name);
  channel_ = &channel;
  auto opened = on_open(channel.parameters());
  if (!opened) channel_ = nullptr;
  return opened;
}

void PacketDevice::close(Channel& channel, Closed done) {
  if (channel_ == &channel) {
    on_close();
    channel_ = nullptr;
    queue_.clear();
    queued_bytes_ = 0;
  }
  done();
}

Result<void> PacketDevice::on_signal(Channel& channel) {
  in_signal_ = true;
  auto work = [&]() -> Result<void> {
    BYGONE_CHECK(send_queued());
    for (;;) {
      BYGONE_ASSIGN(const bool got, channel.receive(packet_));
      if (!got) return {};
      BYGONE_CHECK(deliver(packet_));
    }
  };
  auto result = work();
  in_signal_ = false;
  return result;
}

Result<void> PacketDevice::deliver(const Packet& packet) {
  if (packet.type() == PacketType::kCompletion) return {};  // what we send asks for none; harmless
  if (packet.type() != PacketType::kInBand) {
    return fail(ErrorCode::kCorrupt, "{}: a packet of type {}", offer_.name, static_cast<int>(packet.type()));
  }
  std::span<const std::byte> message = packet.payload();
  if (framing_ == Framing::kPipe) {
    const auto header = packet.payload_as<PipeHeader>();
    if (!header || header->length > message.size() - sizeof(PipeHeader)) {
      return fail(ErrorCode::kCorrupt, "{}: a pipe packet of {} bytes without its message", offer_.name, message.size());
    }
    message = message.subspan(sizeof(PipeHeader), header->length);
  }
  if (message.size() > limits_.message_bytes) {
    return fail(ErrorCode::kCorrupt, "{}: a message of {} bytes, at most {} are allowed", offer_.name, message.size(),
                limits_.message_bytes);
  }
  BYGONE_CHECK(on_message(message));
  if (packet.wants_completion() && channel_ != nullptr) {
    // Only a guest that asks for completions and never takes them fills the ring with them.
    BYGONE_ASSIGN(const bool sent, channel_->complete(packet.transaction_id()));
    if (!sent) return fail(ErrorCode::kCorrupt, "{}: the guest does not take its completions", offer_.name);
  }
  return {};
}

Result<bool> PacketDevice::put(std::span<const std::byte> message) {
  if (framing_ == Framing::kRaw) return channel_->send({message});
  PipeHeader header;
  header.type = spec::vmbus::kPipeData;
  header.length = static_cast<std::uint32_t>(message.size());
  return channel_->send({bytes_of(header), message});
}

bool PacketDevice::send(std::initializer_list<std::span<const std::byte>> pieces) {
  if (channel_ == nullptr) return false;
  std::vector<std::byte> message;
  for (const auto piece : pieces) message.insert(message.end(), piece.begin(), piece.end());
  if (queue_.empty()) {
    auto sent = put(message);
    if (!sent) {
      channel_->fail(std::move(sent).error());
      return false;
    }
    if (*sent) {
      if (!in_signal_) channel_->flush();
      return true;
    }
  }
  if (message.size() > limits_.queued_bytes - queued_bytes_) return false;
  queued_bytes_ += message.size();
  queue_.push_back(std::move(message));
  return true;
}

Result<void> PacketDevice::send_queued() {
  while (!queue_.empty()) {
    BYGONE_ASSIGN(const bool sent, put(queue_.front()));
    if (!sent) return {};
    queued_bytes_ -= queue_.front().size();
    queue_.pop_front();
  }
  return {};
}

}  // namespace bygone::vmbus
