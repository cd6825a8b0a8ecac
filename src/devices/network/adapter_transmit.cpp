#include "devices/network/network_adapter.h"

#include <algorithm>

#include "devices/network/adapter_layout.h"
#include "network/offload.h"

// From the guest to the wire.
namespace bygone::devices::network {

namespace nvsp = spec::netvsp;
namespace rndis = spec::rndis;
namespace net = spec::internet;
using nvsp::MessageType;
using nvsp::Status;

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

}  // namespace bygone::devices::network
