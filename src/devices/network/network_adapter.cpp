#include "devices/network/network_adapter.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "devices/network/adapter_layout.h"
#include "spec/vmbus/interfaces.h"

namespace bygone::devices::network {

namespace nvsp = spec::netvsp;
namespace net = spec::internet;
using nvsp::MessageType;
using nvsp::Status;

namespace {

constexpr int kPacketsADrain = 256;                // before the back end gets its turn
constexpr std::uint32_t kEthernetBytes = sizeof(net::EthernetHeader);
constexpr std::size_t kFrameOverhead = sizeof(net::EthernetHeader) + sizeof(net::VlanTag);

/// Sections that a frame of the driver's MTU fits with its header; larger where there is room, so that few pieces make a segment.
std::uint32_t receive_section_bytes(std::uint64_t buffer_bytes, std::uint32_t mtu) {
  std::uint32_t bytes = buffer_bytes >= 8 << 20 ? 4096 : 2048;
  while (bytes < mtu + kFrameOverhead + kLongestHeader) bytes *= 2;
  return bytes;
}

std::string version_text(std::uint32_t version) {
  if (version == nvsp::kVersion1) return "1";
  if (version == nvsp::kVersion2) return "2";
  return fmt::format("{}.{}", version >> 16, version & 0xFFFF);
}

std::uint8_t offload_revision(std::uint32_t version) { return version >= nvsp::kVersion5 ? 3 : version >= nvsp::kVersion4 ? 2 : 1; }

}  // namespace

NetworkAdapter::NetworkAdapter(AdapterOptions options, EventLoop& loop, bygone::network::Backend& backend)
    : options_(std::move(options)),
      loop_(loop),
      backend_(backend),
      rndis_(options_.address, counters_),
      message_(std::make_unique<std::byte[]>(kMaximumMessageBytes)) {
  offer_.name = options_.name;
  offer_.interface_type = spec::vmbus::kNetworkInterface;
  offer_.instance = options_.instance;
  offer_.flags = spec::vmbus::kOfferEnumerateDeviceInterface;
}

NetworkAdapter::~NetworkAdapter() = default;

Result<void> NetworkAdapter::start() { return backend_.start(*this); }

// Channels.

Result<void> NetworkAdapter::open(vmbus::Channel& channel) {
  if (channel.parameters().subchannel_index != 0 || channel_ != nullptr) {
    return fail(ErrorCode::kBusy, "{} has one channel and it is open", options_.name);
  }
  if (channel.parameters().is_restored) {
    BYGONE_CHECK(adopt_restored(channel));
  } else {
    reset();
  }
  channel_ = &channel;
  tell_backend();
  tell_link();  // to a restored driver: this host's cable may be out, or in
  return {};
}

void NetworkAdapter::close(vmbus::Channel& channel, Closed done) {
  if (channel_ == &channel) {
    channel_ = nullptr;
    reset();
  }
  done();
}

void NetworkAdapter::reset() {
  version_ = 0;
  guest_mtu_ = kUsualMtu;
  drop_receive_buffer();
  send_.reset();
  waiting_completions_.clear();
  rndis_.reset();
}

void NetworkAdapter::drop_receive_buffer() {
  receive_.reset();
  batches_.clear();
  free_batches_.clear();
  filling_.reset();
  waiting_batches_.clear();
  ++batch_generation_;
  // Without a buffer there is room for everything: it goes nowhere.
  if (std::exchange(starved_, false)) backend_.has_room_again();
}

void NetworkAdapter::on_gpadl_teardown(vmbus::Channel&, vmbus::GpadlId id) {
  if (receive_ && receive_->id() == id) drop_receive_buffer();
  if (send_ && send_->id() == id) send_.reset();
}

Result<void> NetworkAdapter::on_signal(vmbus::Channel& channel) {
  if (channel_ != &channel) return {};
  draining_ = true;
  auto result = drain();
  draining_ = false;
  return result;
}

Result<void> NetworkAdapter::drain() {
  BYGONE_CHECK(send_waiting());
  int left = kPacketsADrain;
  while (waiting_completions_.empty() && left != 0) {
    BYGONE_ASSIGN(const bool got, channel_->receive(packet_));
    if (!got) break;
    BYGONE_CHECK(handle_packet());
    --left;
  }
  if (left == 0 && !std::exchange(drain_posted_, true)) {
    loop_.post([this] {
      drain_posted_ = false;
      if (channel_ == nullptr) return;
      vmbus::Channel& channel = *channel_;
      if (auto more = on_signal(channel); !more) return channel.fail(std::move(more).error());
      channel.flush();
    });
  }
  backend_.finish_burst();
  finish_delivery();
  if (starved_ && has_room()) {
    starved_ = false;
    backend_.has_room_again();
  }
  return {};
}

std::size_t NetworkAdapter::message_bytes() const {
  return version_ >= nvsp::kVersion6_1 ? nvsp::kMessageBytes6_1 : nvsp::kMessageBytes;
}

// From the guest.

Result<void> NetworkAdapter::handle_packet() {
  if (packet_.type() == vmbus::PacketType::kCompletion) {
    finish_batch(packet_.transaction_id());
    return {};
  }
  if (packet_.type() != vmbus::PacketType::kInBand && packet_.type() != vmbus::PacketType::kGpaDirect) {
    return fail(ErrorCode::kCorrupt, "a network packet of type {}", static_cast<int>(packet_.type()));
  }
  const auto type = packet_.payload_as<nvsp::Type>();
  if (!type) return fail(ErrorCode::kCorrupt, "a network packet of {} bytes", packet_.payload().size());
  return handle_protocol(*type, packet_.payload().subspan(sizeof *type));
}

Result<void> NetworkAdapter::handle_protocol(std::uint32_t type, std::span<const std::byte> body) {
  const auto too_short = [&] { return fail(ErrorCode::kCorrupt, "a network message of type {} with {} bytes", type, body.size()); };
  const auto message_type = static_cast<MessageType>(type);
  if (version_ == 0 && message_type != MessageType::kInitialize) {
    return fail(ErrorCode::kCorrupt, "a network message of type {} before a version was agreed on", type);
  }
  switch (message_type) {
    case MessageType::kSendRndisPacket: {
      const auto request = load<nvsp::SendRndisPacket>(body);
      if (!request) return too_short();
      return handle_rndis(*request);
    }
    case MessageType::kInitialize: {
      const auto request = load<nvsp::Initialize>(body);
      if (!request) return too_short();
      initialize(*request);
      return {};
    }
    case MessageType::kSendNdisConfiguration: {
      const auto request = load<nvsp::SendNdisConfiguration>(body);
      if (!request) return too_short();
      guest_mtu_ = std::clamp<std::uint32_t>(request->mtu, kSmallestMtu + kEthernetBytes, kLargestMtu + kEthernetBytes) - kEthernetBytes;
      rndis_.set_link_terms(guest_mtu_, offload_revision(version_), version_ >= nvsp::kVersion6_1);
      break;
    }
    case MessageType::kSendReceiveBuffer:
    case MessageType::kSendSendBuffer: {
      const auto request = load<nvsp::SendBuffer>(body);
      if (!request) return too_short();
      message_type == MessageType::kSendReceiveBuffer ? set_receive_buffer(*request) : set_send_buffer(*request);
      return {};
    }
    case MessageType::kRevokeReceiveBuffer: drop_receive_buffer(); break;
    case MessageType::kRevokeSendBuffer: send_.reset(); break;
    case MessageType::kSubchannel:
      complete_with(MessageType::kSubchannel, nvsp::SubchannelComplete{static_cast<std::uint32_t>(Status::kFailure), 0U});
      return {};
    case MessageType::kOidQueryEx:
      complete_with(MessageType::kOidQueryExComplete, le32(static_cast<std::uint32_t>(Status::kFailure)));
      return {};
    default: break;  // the NDIS version and what later drivers tell: nothing depends on it
  }
  complete_with(type, {});
  return {};
}

void NetworkAdapter::initialize(const nvsp::Initialize& request) {
  // Drivers try one version after another, lowest and highest being the same.
  nvsp::InitializeComplete complete = {};
  complete.longest_mdl_chain = 34U;  // pages of a message; told by every host, heeded by none that we know
  static constexpr std::array kNewestFirst = {nvsp::kVersion6_1, nvsp::kVersion6, nvsp::kVersion5,
                                              nvsp::kVersion4, nvsp::kVersion2, nvsp::kVersion1};
  const auto agreed = std::ranges::find_if(kNewestFirst, [&](std::uint32_t version) {
    return version <= request.highest_version && version >= request.lowest_version;
  });
  if (agreed == kNewestFirst.end() || version_ != 0) {
    const bool is_new = request.lowest_version > nvsp::kVersion6_1;
    complete.status = static_cast<std::uint32_t>(version_ != 0 ? Status::kFailure : is_new ? Status::kProtocolTooNew : Status::kProtocolTooOld);
    complete.version = 0xFFFF'FFFFU;
  } else {
    version_ = *agreed;
    rndis_.set_link_terms(guest_mtu_, offload_revision(version_), version_ >= nvsp::kVersion6_1);
    complete.status = static_cast<std::uint32_t>(Status::kSuccess);
    complete.version = version_;
  }
  complete_with(MessageType::kInitializeComplete, complete);
}

void NetworkAdapter::set_receive_buffer(const nvsp::SendBuffer& request) {
  nvsp::SendReceiveBufferComplete complete = {};
  complete.status = static_cast<std::uint32_t>(Status::kFailure);
  const vmbus::GpadlId id{request.gpadl};
  if (auto gpadl = channel_->gpadl(id); gpadl != nullptr && !receive_) {
    const std::uint32_t section_bytes = receive_section_bytes(gpadl->total_bytes(), guest_mtu_);
    if (auto buffer = ReceiveBuffer::create(std::move(gpadl), id, request.id, section_bytes)) {
      complete.status = static_cast<std::uint32_t>(Status::kSuccess);
      complete.section_count = 1U;
      complete.section.sub_allocation_bytes = section_bytes;
      complete.section.sub_allocation_count = buffer->section_count();
      complete.section.end_offset = section_bytes * buffer->section_count();
      receive_ = std::move(*buffer);
    }
  }
  complete_with(MessageType::kSendReceiveBufferComplete, complete);
}

void NetworkAdapter::set_send_buffer(const nvsp::SendBuffer& request) {
  nvsp::SendSendBufferComplete complete = {};
  complete.status = static_cast<std::uint32_t>(Status::kFailure);
  const vmbus::GpadlId id{request.gpadl};
  if (auto gpadl = channel_->gpadl(id); gpadl != nullptr && !send_) {
    if (auto buffer = SendBuffer::create(std::move(gpadl), id, kSendSectionBytes)) {
      complete.status = static_cast<std::uint32_t>(Status::kSuccess);
      complete.section_bytes = kSendSectionBytes;
      send_ = std::move(*buffer);
    }
  }
  complete_with(MessageType::kSendSendBufferComplete, complete);
}

void NetworkAdapter::complete_with(std::uint32_t type, std::span<const std::byte> body) {
  if (!packet_.wants_completion()) return;
  std::array<std::byte, nvsp::kMessageBytes6_1> whole = {};
  const le32 wire_type(type);
  std::memcpy(whole.data(), &wire_type, sizeof wire_type);
  std::ranges::copy(body, whole.begin() + sizeof wire_type);
  const std::span<const std::byte> message = std::span(whole).first(message_bytes());
  if (waiting_completions_.empty()) {
    auto sent = channel_->complete(packet_.transaction_id(), message);
    if (!sent) return channel_->fail(std::move(sent).error());
    if (*sent) return;
  }
  waiting_completions_.push_back({packet_.transaction_id(), {message.begin(), message.end()}});
}

void NetworkAdapter::control(std::span<const std::byte> message) {
  auto answer = rndis_.handle(message);
  if (!answer) {
    ++counters_.bad_messages;
    options_.log.debug("{}: {}", options_.name, answer.error().text());
    return;
  }
  if (*answer) put_control(**answer);
  tell_link();
  tell_backend();
}

void NetworkAdapter::tell_backend() {
  const bool large = rndis_.coalesces_ipv4() && rndis_.coalesces_ipv6();
  if (large == backend_knows_large_ && rndis_.mtu() == backend_knows_mtu_) return;
  backend_knows_large_ = large;
  backend_knows_mtu_ = rndis_.mtu();
  options_.log.debug("the guest's MTU is {}; {} segments are welcome", rndis_.mtu(), large ? "large" : "no large");
  backend_.set_guest_limits(rndis_.mtu(), large);
}

void NetworkAdapter::set_link(bool is_up) {
  rndis_.set_link(is_up);
  tell_link();
  if (channel_ != nullptr && !draining_) channel_->flush();
}

void NetworkAdapter::tell_link() {
  if (channel_ == nullptr || !receive_ || receive_->free_sections() == 0) return;
  if (const auto change = rndis_.take_link_change()) put_control(*change);
}

nlohmann::json NetworkAdapter::inspect() const {
  nlohmann::json result = {{"protocol", version_text(version_)},
                           {"rndis", rndis_.inspect()},
                           {"frames_sent", counters_.frames_sent.get()},
                           {"bytes_sent", counters_.bytes_sent.get()},
                           {"frames_received", counters_.frames_received.get()},
                           {"bytes_received", counters_.bytes_received.get()},
                           {"frames_filtered", counters_.frames_filtered.get()},
                           {"frames_without_room", counters_.frames_without_room.get()},
                           {"bad_messages", counters_.bad_messages.get()},
                           {"receive_packets", batches_sent_},
                           {"backend", backend_.inspect()}};
  if (receive_) {
    result["receive_sections"] = {{"bytes", receive_->section_bytes()}, {"count", receive_->section_count()}, {"free", receive_->free_sections()}};
  }
  if (channel_ != nullptr) {
    const vmbus::ChannelStatistics& statistics = channel_->statistics();
    result["interrupts"] = statistics.signals_sent;
    result["signals"] = statistics.signals_received;
    if (statistics.signals_sent != 0) {
      result["packets_per_interrupt"] = static_cast<double>(frames()) / static_cast<double>(statistics.signals_sent);
    }
  }
  return result;
}

}  // namespace bygone::devices::network
