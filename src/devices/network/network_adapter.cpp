#include "devices/network/network_adapter.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "network/offload.h"
#include "spec/vmbus/interfaces.h"
#include "support/saved_fields.h"

namespace bygone::devices::network {

namespace nvsp = spec::netvsp;
namespace rndis = spec::rndis;
namespace net = spec::internet;
using nvsp::MessageType;
using nvsp::Status;

namespace {

constexpr std::uint32_t kSendSectionBytes = 6144;  // what Hyper-V's hosts use
constexpr std::size_t kMostRanges = 128;           // in one packet to the guest
constexpr int kPacketsADrain = 256;                // before the back end gets its turn
constexpr std::uint32_t kSmallestMtu = 576, kLargestMtu = 65521;
constexpr std::uint32_t kEthernetBytes = sizeof(net::EthernetHeader);
constexpr std::size_t kFrameOverhead = sizeof(net::EthernetHeader) + sizeof(net::VlanTag);
constexpr std::size_t kInformationBytes = sizeof(rndis::PacketInformation) + sizeof(le32);
constexpr std::size_t kLongestHeader = sizeof(rndis::Header) + sizeof(rndis::Packet) + 3 * kInformationBytes;

/// Sections that a frame of the driver's MTU fits with its header; larger where there is room, so that few pieces make a segment.
std::uint32_t receive_section_bytes(std::uint64_t buffer_bytes, std::uint32_t mtu) {
  std::uint32_t bytes = buffer_bytes >= 8 << 20 ? 4096 : 2048;
  while (bytes < mtu + kFrameOverhead + kLongestHeader) bytes *= 2;
  return bytes;
}

template <typename T>
std::optional<T> load(std::span<const std::byte> bytes, std::size_t offset = 0) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::string version_text(std::uint32_t version) {
  if (version == nvsp::kVersion1) return "1";
  if (version == nvsp::kVersion2) return "2";
  return fmt::format("{}.{}", version >> 16, version & 0xFFFF);
}

bool is_known_version(std::uint32_t version) {
  return version == nvsp::kVersion1 || version == nvsp::kVersion2 || version == nvsp::kVersion4 || version == nvsp::kVersion5 ||
         version == nvsp::kVersion6 || version == nvsp::kVersion6_1;
}

std::uint8_t offload_revision(std::uint32_t version) { return version >= nvsp::kVersion5 ? 3 : version >= nvsp::kVersion4 ? 2 : 1; }

}  // namespace

/// What restore() learned and open() needs the channel for.
struct NetworkAdapter::SavedBuffers {
  std::uint32_t receive_gpadl = 0, send_gpadl = 0;
  std::uint16_t page_set = 0;
  std::uint32_t receive_section_bytes = 0, send_section_bytes = 0;
  std::vector<std::uint32_t> batches;  ///< for each: index, waiting, channel type, count, then section and bytes of each range
};

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
  starved_ = false;
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
  std::vector<std::byte> message(message_bytes());
  const le32 wire_type(type);
  std::memcpy(message.data(), &wire_type, sizeof wire_type);
  std::ranges::copy(body, message.begin() + sizeof wire_type);
  waiting_completions_.push_back({packet_.transaction_id(), std::move(message)});
  if (auto sent = send_waiting(); !sent) channel_->fail(std::move(sent).error());
}

Result<void> NetworkAdapter::handle_rndis(const nvsp::SendRndisPacket& request) {
  bool good = copy_message(request);
  if (good && request.channel_type == nvsp::kChannelTypeControl) {
    control({message_.get(), message_length_});
  } else if (good) {
    std::span<std::byte> rest(message_.get(), message_length_);
    std::uint32_t packets = 0;
    while (good && rest.size() >= sizeof(rndis::Header) && packets < 2 * kMaximumPacketsAMessage) {
      const auto header = *load<rndis::Header>(rest);
      good = header.length >= sizeof header && header.length <= rest.size() &&
             header.type == static_cast<std::uint32_t>(rndis::MessageType::kPacket) && transmit(rest.first(header.length));
      if (good) rest = rest.subspan(header.length);
      ++packets;
    }
    good = good && packets != 0;
  }
  if (!good) ++counters_.bad_messages;
  complete_with(MessageType::kSendRndisPacketComplete,
                nvsp::SendRndisPacketComplete{static_cast<std::uint32_t>(good ? Status::kSuccess : Status::kInvalidRndisPacket)});
  return {};
}

/// The message: what lies in the send buffer, then what the packet's page list names. From here on only the copy is looked at.
bool NetworkAdapter::copy_message(const nvsp::SendRndisPacket& request) {
  std::size_t in_section = 0;
  if (request.send_section_index != nvsp::kNoSendSection) {
    in_section = request.send_section_bytes;
    if (!send_ || in_section > send_->section_bytes()) return false;
    if (!send_->read(channel_->memory(), request.send_section_index, {message_.get(), in_section})) return false;
  }
  const std::uint64_t in_pages = packet_.buffers().total_bytes();
  if (in_pages > kMaximumMessageBytes - in_section) return false;
  message_length_ = in_section + in_pages;
  return packet_.buffers().read(channel_->memory(), 0, {message_.get() + in_section, in_pages}).has_value();
}

/// One kPacket message. False: it is malformed.
bool NetworkAdapter::transmit(std::span<std::byte> message) {
  const auto packet = load<rndis::Packet>(message, sizeof(rndis::Header));
  if (!packet) return false;
  const std::span<std::byte> body = message.subspan(sizeof(rndis::Header));
  if (packet->data_offset < sizeof *packet || packet->data_offset > body.size() ||
      packet->data_bytes > body.size() - packet->data_offset || packet->data_bytes < sizeof(net::EthernetHeader)) {
    return false;
  }
  std::uint32_t checksums = 0, segment_bytes = 0;
  std::optional<std::uint32_t> vlan;
  if (packet->information_bytes != 0) {
    if (packet->information_offset > body.size() || packet->information_bytes > body.size() - packet->information_offset) return false;
    std::span<const std::byte> information = body.subspan(packet->information_offset, packet->information_bytes);
    while (information.size() >= sizeof(rndis::PacketInformation)) {
      const auto item = *load<rndis::PacketInformation>(information);
      if (item.bytes < sizeof item || item.bytes > information.size()) return false;
      const auto value = load<le32>(information.first(item.bytes), item.value_offset);
      if (!value && item.type <= rndis::kVlanInformation) return false;
      if (item.type == rndis::kChecksumInformation) checksums = *value;
      if (item.type == rndis::kLargeSendInformation) segment_bytes = *value & rndis::kLargeSendSegmentMask;
      if (item.type == rndis::kVlanInformation) vlan = *value;
      information = information.subspan(item.bytes);
    }
  }
  std::span<std::byte> frame = body.subspan(packet->data_offset, packet->data_bytes);
  if (vlan) {
    // The addresses move down over what has been read already; the tag takes their place.
    constexpr std::size_t kAddresses = 2 * sizeof(MacAddress);
    frame = {frame.data() - sizeof(net::VlanTag), frame.size() + sizeof(net::VlanTag)};
    std::memmove(frame.data(), frame.data() + sizeof(net::VlanTag), kAddresses);
    net::VlanTag tag;
    tag.type = net::kTypeVlan;
    tag.control = static_cast<std::uint16_t>((*vlan & rndis::kVlanPriorityMask) << 13 | ((*vlan & rndis::kVlanFormatBit) != 0 ? 0x1000U : 0U) |
                                             (*vlan >> rndis::kVlanIdShift & 0xFFF));
    std::memcpy(frame.data() + kAddresses, &tag, sizeof tag);
  }
  return transmit_frame(frame, checksums, segment_bytes);
}

bool NetworkAdapter::transmit_frame(std::span<std::byte> frame, std::uint32_t checksums, std::uint32_t segment_bytes) {
  namespace offload = bygone::network;
  if (segment_bytes != 0) {
    if (!offload::set_ip_length(frame)) return false;
    const offload::FrameLayout layout = offload::find_headers(frame);
    if (layout.transport != offload::FrameLayout::Transport::kTcp) return false;
    if (layout.end - layout.payload_offset > segment_bytes && !backend_.takes_large_segments()) {
      return offload::cut_segments(frame, segment_bytes, scratch_, [this](std::span<const std::byte> segment) { send_frame(segment); });
    }
    offload::fill_ip_checksum(frame, layout);
    offload::fill_transport_checksum(frame, layout);
  } else if (checksums != 0) {
    const offload::FrameLayout layout = offload::find_headers(frame);
    if ((checksums & rndis::kTransmitIpHeaderChecksum) != 0) offload::fill_ip_checksum(frame, layout);
    if ((checksums & (rndis::kTransmitTcpChecksum | rndis::kTransmitUdpChecksum)) != 0) offload::fill_transport_checksum(frame, layout);
  }
  send_frame(frame);
  return true;
}

void NetworkAdapter::send_frame(std::span<const std::byte> frame) {
  ++counters_.frames_sent;
  counters_.bytes_sent += frame.size();
  backend_.send(frame);
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

// To the guest.

bool NetworkAdapter::has_room() const {
  return channel_ == nullptr || !receive_ || receive_->free_sections() >= kMostRanges / 4 || receive_->free_sections() * 2 > receive_->section_count();
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

// Saved state.

Result<nlohmann::json> NetworkAdapter::save() {
  // What was received and not sent yet goes where it would have gone.
  if (channel_ != nullptr) send_batch();
  nlohmann::json completions = nlohmann::json::array();
  for (const Completion& completion : waiting_completions_) {
    const auto* first = reinterpret_cast<const std::uint8_t*>(completion.message.data());
    completions.push_back({{"version", 1},
                           {"transaction", completion.transaction_id},
                           {"message", std::vector<std::uint8_t>(first, first + completion.message.size())}});
  }
  nlohmann::json batches = nlohmann::json::array();
  for (std::uint32_t i = 0; i < batches_.size(); ++i) {
    if (!batches_[i].in_use) continue;
    batches.push_back(i);
    batches.push_back(std::ranges::find(waiting_batches_, i) != waiting_batches_.end() ? 1 : 0);
    batches.push_back(batches_[i].channel_type);
    batches.push_back(batches_[i].ranges.size());
    for (const vmbus::TransferRange& range : batches_[i].ranges) {
      batches.push_back(range.byte_offset / receive_->section_bytes());
      batches.push_back(range.byte_count);
    }
  }
  return nlohmann::json{{"version", 1},
                        {"protocol", version_},
                        {"guest_mtu", guest_mtu_},
                        {"receive_gpadl", receive_ ? receive_->id().value : 0},
                        {"receive_page_set", receive_ ? receive_->page_set() : 0},
                        {"receive_section_bytes", receive_ ? receive_->section_bytes() : 0},
                        {"send_gpadl", send_ ? send_->id().value : 0},
                        {"send_section_bytes", send_ ? send_->section_bytes() : 0},
                        {"batch_generation", batch_generation_},
                        {"batches", std::move(batches)},
                        {"completions", std::move(completions)},
                        {"rndis", rndis_.save()}};
}

Result<void> NetworkAdapter::restore(const nlohmann::json& state) {
  constexpr std::size_t kMostSavedWords = 1 << 20;
  SavedFields fields(state, options_.name, 1);
  std::uint32_t version = 0, mtu = 0, generation = 0;
  auto buffers = std::make_unique<SavedBuffers>();
  fields.read("protocol", version);
  fields.read("guest_mtu", mtu);
  fields.read("receive_gpadl", buffers->receive_gpadl);
  fields.read("receive_page_set", buffers->page_set);
  fields.read("receive_section_bytes", buffers->receive_section_bytes);
  fields.read("send_gpadl", buffers->send_gpadl);
  fields.read("send_section_bytes", buffers->send_section_bytes);
  fields.read("batch_generation", generation);
  fields.read("batches", buffers->batches, kMostSavedWords);
  fields.require(version == 0 || is_known_version(version), "the protocol's version is unknown");
  fields.require(mtu <= kLargestMtu, "the MTU is too large");
  fields.require(buffers->receive_gpadl == 0 || (buffers->receive_section_bytes > kLongestHeader + 576 && buffers->receive_section_bytes <= 1U << 20),
                 "the receive buffer's sections have an impossible size");
  fields.require(buffers->send_gpadl == 0 || (buffers->send_section_bytes != 0 && buffers->send_section_bytes <= kSendSectionBytes),
                 "the send buffer's sections have an impossible size");
  const nlohmann::json* saved_completions = fields.nested("completions");
  const nlohmann::json* saved_rndis = fields.nested("rndis");
  BYGONE_CHECK(fields.finish());
  std::deque<Completion> completions;
  for (const nlohmann::json& saved : *saved_completions) {
    SavedFields completion(saved, options_.name, 1);
    Completion& next = completions.emplace_back();
    std::vector<std::uint8_t> message;
    completion.read("transaction", next.transaction_id);
    completion.read("message", message, nvsp::kMessageBytes6_1);
    BYGONE_CHECK(completion.finish());
    for (const std::uint8_t byte : message) next.message.push_back(std::byte{byte});
  }
  BYGONE_CHECK(rndis_.restore(*saved_rndis));
  version_ = version;
  guest_mtu_ = mtu;
  batch_generation_ = generation;
  waiting_completions_ = std::move(completions);
  restored_ = std::move(buffers);
  return {};
}

/// A restored channel: the guest's buffers are found again, and what it holds of them.
Result<void> NetworkAdapter::adopt_restored(vmbus::Channel& channel) {
  const auto saved = std::move(restored_);
  if (!saved) return fail(ErrorCode::kCorrupt, "{} has a channel in the saved state and no state of its own", options_.name);
  const auto find = [&](std::uint32_t id) -> Result<std::shared_ptr<const vmbus::Gpadl>> {
    auto gpadl = channel.gpadl(vmbus::GpadlId{id});
    if (gpadl == nullptr) return fail(ErrorCode::kCorrupt, "{}: the saved buffer {:#x} is not there", options_.name, id);
    return gpadl;
  };
  if (saved->send_gpadl != 0) {
    BYGONE_ASSIGN(auto gpadl, find(saved->send_gpadl));
    BYGONE_ASSIGN(send_, SendBuffer::create(std::move(gpadl), vmbus::GpadlId{saved->send_gpadl}, saved->send_section_bytes));
  }
  if (saved->receive_gpadl == 0) return {};
  BYGONE_ASSIGN(auto gpadl, find(saved->receive_gpadl));
  BYGONE_ASSIGN(receive_, ReceiveBuffer::create(std::move(gpadl), vmbus::GpadlId{saved->receive_gpadl}, saved->page_set,
                                                saved->receive_section_bytes));
  std::span<const std::uint32_t> words = saved->batches;
  while (words.size() >= 4) {
    const std::uint32_t index = words[0], count = words[3];
    if (index >= receive_->section_count() || count > kMostRanges || (words.size() - 4) / 2 < count) break;
    if (batches_.size() <= index) batches_.resize(index + 1);
    Batch& batch = batches_[index];
    if (batch.in_use) break;
    batch.in_use = true;
    batch.channel_type = words[2];
    if (words[1] != 0) waiting_batches_.push_back(index);
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint32_t section = words[4 + 2 * i], bytes = words[5 + 2 * i];
      if (bytes > receive_->section_bytes() || !receive_->take_again(section)) {
        return fail(ErrorCode::kCorrupt, "{}: the saved receive buffer is inconsistent", options_.name);
      }
      batch.ranges.push_back({bytes, section * receive_->section_bytes()});
    }
    words = words.subspan(4 + 2 * std::size_t{count});
  }
  if (!words.empty()) return fail(ErrorCode::kCorrupt, "{}: the saved receive buffer is inconsistent", options_.name);
  for (std::uint32_t i = 0; i < batches_.size(); ++i) {
    if (!batches_[i].in_use) free_batches_.push_back(i);
  }
  return {};
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
