#include "vmbus/packet_device.h"

#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "spec/vmbus/ring.h"
#include "support/saved_fields.h"

namespace bygone::vmbus {

using spec::vmbus::PipeHeader;

namespace {

constexpr const char* kUnsent = "unsent";  // in saved states

}  // namespace

PacketDevice::PacketDevice(Offer offer, Framing framing, PacketDeviceLimits limits)
    : offer_(std::move(offer)), framing_(framing), limits_(limits) {}

Result<void> PacketDevice::on_open(const ChannelParameters&) { return {}; }
void PacketDevice::on_close() {}
Result<nlohmann::json> PacketDevice::save_state() { return nlohmann::json::object(); }
Result<void> PacketDevice::restore_state(const nlohmann::json&) { return {}; }

Result<void> PacketDevice::open(Channel& channel) {
  if (channel_ != nullptr) return fail(ErrorCode::kBusy, "{} has one channel and it is open", offer_.name);
  channel_ = &channel;
  if (!channel.parameters().is_restored) forget_queued();
  auto opened = on_open(channel.parameters());
  if (opened) opened = send_queued();  // what waited when it was saved; room made since then has been signalled to nobody
  if (!opened) channel_ = nullptr;
  else if (channel.parameters().is_restored) channel.flush();
  return opened;
}

void PacketDevice::close(Channel& channel, Closed done) {
  if (channel_ == &channel) {
    on_close();
    channel_ = nullptr;
    forget_queued();
  }
  done();
}

void PacketDevice::forget_queued() {
  queue_.clear();
  queued_bytes_ = 0;
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

Result<nlohmann::json> PacketDevice::save() {
  BYGONE_ASSIGN(nlohmann::json state, save_state());
  std::vector<std::size_t> sizes;
  std::vector<std::uint8_t> bytes;
  for (const auto& message : queue_) {
    sizes.push_back(message.size());
    for (const std::byte byte : message) bytes.push_back(std::to_integer<std::uint8_t>(byte));
  }
  state[kUnsent] = {{"version", 1}, {"sizes", sizes}, {"bytes", bytes}};
  return state;
}

Result<void> PacketDevice::restore(const nlohmann::json& state) {
  std::deque<std::vector<std::byte>> queue;
  std::vector<std::size_t> sizes;
  std::vector<std::uint8_t> bytes;
  if (state.is_object() && state.contains(kUnsent)) {  // older states have none
    SavedFields fields(state[kUnsent], offer_.name, 1);
    fields.read("sizes", sizes, limits_.queued_bytes);
    fields.read("bytes", bytes, limits_.queued_bytes);
    std::span<const std::byte> rest = std::as_bytes(std::span(bytes));
    for (const std::size_t size : sizes) {
      fields.require(size > 0 && size <= rest.size(), "a waiting message is longer than what was saved of it");
      BYGONE_CHECK(fields.finish());
      queue.emplace_back(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(size));
      rest = rest.subspan(size);
    }
    fields.require(rest.empty(), "more was saved than the waiting messages");
    BYGONE_CHECK(fields.finish());
  }
  BYGONE_CHECK(restore_state(state));
  queue_ = std::move(queue);
  queued_bytes_ = bytes.size();
  return {};
}

}  // namespace bygone::vmbus
