#include "devices/network/rndis_control.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "support/saved_fields.h"

namespace bygone::devices::network {

namespace wire = spec::rndis;
using wire::MessageType;
using wire::Oid;

namespace {

constexpr std::uint32_t kEthernetHeaderBytes = sizeof(spec::internet::EthernetHeader);
constexpr std::uint32_t kLinkSpeed = 100'000'000;  // 10 Gbit/s in units of 100 bit/s
constexpr std::size_t kMaximumMulticast = 64;
constexpr std::uint32_t kMaximumLargeSend = 62 << 10;  // with all headers still an IP packet
constexpr std::string_view kVendorDescription = "Bygone network adapter";
// NDIS_MAC_OPTION_COPY_LOOKAHEAD_DATA, TRANSFERS_NOT_PEND, NO_LOOPBACK, 8021P_PRIORITY.
constexpr std::uint32_t kMacOptions = 0x1 | 0x2 | 0x8 | 0x40;

constexpr std::array kSupported = {
    Oid::kSupportedList, Oid::kHardwareStatus, Oid::kMediaSupported, Oid::kMediaInUse, Oid::kMaximumLookahead,
    Oid::kMaximumFrameSize, Oid::kLinkSpeed, Oid::kTransmitBufferSpace, Oid::kReceiveBufferSpace, Oid::kTransmitBlockSize,
    Oid::kReceiveBlockSize, Oid::kVendorId, Oid::kVendorDescription, Oid::kCurrentPacketFilter, Oid::kCurrentLookahead,
    Oid::kDriverVersion, Oid::kMaximumTotalSize, Oid::kProtocolOptions, Oid::kMacOptions, Oid::kMediaConnectStatus,
    Oid::kMaximumSendPackets, Oid::kVendorDriverVersion, Oid::kNetworkLayerAddresses, Oid::kPhysicalMedium,
    Oid::kRndisConfigParameter, Oid::kTransmitOk, Oid::kReceiveOk, Oid::kTransmitError, Oid::kReceiveError,
    Oid::kReceiveNoBuffer, Oid::kPermanentAddress, Oid::kCurrentAddress, Oid::kMulticastList, Oid::kMaximumMulticastList,
    Oid::kReceiveErrorAlignment, Oid::kTransmitOneCollision, Oid::kTransmitMoreCollisions, Oid::kOffloadCurrentConfiguration,
    Oid::kOffloadParameters, Oid::kOffloadHardwareCapabilities, Oid::kOffloadEncapsulation};

template <typename T>
std::optional<T> load(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

template <typename T>
std::vector<std::byte> as_vector(const T& value) {
  const auto bytes = bytes_of(value);
  return {bytes.begin(), bytes.end()};
}

template <typename T>
std::vector<std::byte> make_message(MessageType type, const T& body, std::span<const std::byte> information = {}) {
  wire::Header header;
  header.type = static_cast<std::uint32_t>(type);
  header.length = static_cast<std::uint32_t>(sizeof header + sizeof body + information.size());
  std::vector<std::byte> message(header.length);
  std::memcpy(message.data(), &header, sizeof header);
  std::memcpy(message.data() + sizeof header, &body, sizeof body);
  std::ranges::copy(information, message.begin() + sizeof header + sizeof body);
  return message;
}

/// [offset, offset + length) of `bytes`, when it is there.
std::optional<std::span<const std::byte>> part_of(std::span<const std::byte> bytes, std::uint32_t offset, std::uint32_t length) {
  if (length == 0) return std::span<const std::byte>{};
  if (offset > bytes.size() || length > bytes.size() - offset) return std::nullopt;
  return bytes.subspan(offset, length);
}

bool is_broadcast(const MacAddress& address) {
  return std::ranges::all_of(address, [](std::uint8_t byte) { return byte == 0xFF; });
}

std::string to_text(const MacAddress& address) { return fmt::format("{:02x}", fmt::join(address, ":")); }

}  // namespace

RndisControl::RndisControl(const MacAddress& permanent, const AdapterCounters& counters)
    : permanent_address_(permanent), counters_(counters), address_(permanent) {}

void RndisControl::reset() {
  initialized_ = false;
  told_link_.reset();
  mtu_ = kUsualMtu;
  offload_revision_ = 1;
  can_coalesce_ = coalesce_ipv4_ = coalesce_ipv6_ = false;
  packet_filter_ = 0;
  address_ = permanent_address_;
  multicast_.clear();
}

void RndisControl::set_link_terms(std::uint32_t mtu, std::uint8_t offload_revision, bool can_coalesce) {
  mtu_ = mtu;
  offload_revision_ = offload_revision;
  can_coalesce_ = can_coalesce;
}

Result<std::optional<std::vector<std::byte>>> RndisControl::handle(std::span<const std::byte> message) {
  const auto header = load<wire::Header>(message);
  if (!header || header->length < sizeof *header || header->length > message.size()) {
    return fail(ErrorCode::kCorrupt, "an RNDIS message of {} bytes", message.size());
  }
  const auto body = message.first(header->length).subspan(sizeof *header);
  const auto type = static_cast<MessageType>(header->type.value());
  switch (type) {
    case MessageType::kInitialize: {
      const auto request = load<wire::Initialize>(body);
      if (!request) break;
      initialized_ = true;
      told_link_ = link_is_up_;  // drivers ask for it next
      wire::InitializeComplete complete = {};
      complete.request_id = request->request_id;
      complete.status = static_cast<std::uint32_t>(Status::kSuccess);
      complete.major = wire::kMajorVersion;
      complete.minor = wire::kMinorVersion;
      complete.device_flags = wire::kConnectionless;
      complete.medium = wire::kMedium802_3;
      complete.maximum_packets_a_message = kMaximumPacketsAMessage;
      complete.maximum_transfer_bytes = static_cast<std::uint32_t>(kMaximumMessageBytes);
      complete.packet_alignment_shift = kPacketAlignmentShift;
      return make_message(MessageType::kInitializeComplete, complete);
    }
    case MessageType::kHalt:
      initialized_ = false;
      packet_filter_ = 0;
      return std::nullopt;
    case MessageType::kQuery:
    case MessageType::kSet: {
      const auto request = load<wire::OidRequest>(body);
      if (!request) break;
      const auto information = part_of(body, request->information_offset, request->information_bytes);
      if (!information) break;
      if (type == MessageType::kQuery) return query(*request, *information);
      const Status status = set(static_cast<Oid>(request->oid.value()), *information);
      return make_message(MessageType::kSetComplete,
                          wire::StatusComplete{request->request_id, static_cast<std::uint32_t>(status)});
    }
    case MessageType::kReset:
      packet_filter_ = 0;
      multicast_.clear();
      return make_message(MessageType::kResetComplete, wire::ResetComplete{static_cast<std::uint32_t>(Status::kSuccess), 1U});
    case MessageType::kKeepAlive: {
      const auto request = load<wire::RequestOnly>(body);
      if (!request) break;
      return make_message(MessageType::kKeepAliveComplete,
                          wire::StatusComplete{request->request_id, static_cast<std::uint32_t>(Status::kSuccess)});
    }
    default: break;
  }
  return fail(ErrorCode::kCorrupt, "an RNDIS message of type {:#x} with {} bytes", header->type.value(), body.size());
}

std::optional<std::vector<std::byte>> RndisControl::take_link_change() {
  if (!initialized_ || told_link_ == link_is_up_) return std::nullopt;
  told_link_ = link_is_up_;
  wire::IndicateStatus indication = {};
  indication.status = static_cast<std::uint32_t>(link_is_up_ ? Status::kMediaConnect : Status::kMediaDisconnect);
  return make_message(MessageType::kIndicateStatus, indication);
}

bool RndisControl::accepts(const MacAddress& destination) const {
  if ((packet_filter_ & wire::kFilterPromiscuous) != 0) return true;
  if ((destination[0] & 1) == 0) return (packet_filter_ & wire::kFilterDirected) != 0 && destination == address_;
  if (is_broadcast(destination)) return (packet_filter_ & wire::kFilterBroadcast) != 0;
  if ((packet_filter_ & wire::kFilterAllMulticast) != 0) return true;
  // A driver that asks for multicast and never names a group does the choosing itself, as Linux does.
  return (packet_filter_ & wire::kFilterMulticast) != 0 &&
         (multicast_.empty() || std::ranges::find(multicast_, destination) != multicast_.end());
}

// Queries.

std::vector<std::byte> RndisControl::query(const wire::OidRequest& request, std::span<const std::byte> information) const {
  const auto value = answer(static_cast<Oid>(request.oid.value()), information);
  wire::QueryComplete complete = {};
  complete.request_id = request.request_id;
  complete.status = static_cast<std::uint32_t>(value ? Status::kSuccess : Status::kNotSupported);
  if (!value) return make_message(MessageType::kQueryComplete, complete);
  complete.information_bytes = static_cast<std::uint32_t>(value->size());
  complete.information_offset = sizeof complete;
  return make_message(MessageType::kQueryComplete, complete, *value);
}

std::optional<std::vector<std::byte>> RndisControl::answer(Oid oid, std::span<const std::byte> information) const {
  const auto number = [](std::uint64_t value) { return as_vector(le32(static_cast<std::uint32_t>(value))); };
  switch (oid) {
    case Oid::kSupportedList: {
      std::vector<std::byte> list(kSupported.size() * sizeof(le32));
      for (std::size_t i = 0; i < kSupported.size(); ++i) {
        const le32 entry(static_cast<std::uint32_t>(kSupported[i]));
        std::memcpy(list.data() + i * sizeof entry, &entry, sizeof entry);
      }
      return list;
    }
    case Oid::kHardwareStatus:
    case Oid::kMediaSupported:
    case Oid::kMediaInUse:
    case Oid::kPhysicalMedium:
    case Oid::kTransmitError:
    case Oid::kReceiveError:
    case Oid::kReceiveErrorAlignment:
    case Oid::kTransmitOneCollision:
    case Oid::kTransmitMoreCollisions: return number(0);
    case Oid::kMaximumLookahead:
    case Oid::kCurrentLookahead:
    case Oid::kMaximumFrameSize: return number(mtu_);
    case Oid::kMaximumTotalSize:
    case Oid::kTransmitBlockSize:
    case Oid::kReceiveBlockSize: return number(mtu_ + kEthernetHeaderBytes);
    case Oid::kTransmitBufferSpace:
    case Oid::kReceiveBufferSpace: return number(kMaximumMessageBytes);
    case Oid::kLinkSpeed: return number(kLinkSpeed);
    case Oid::kVendorId: return number(0xFF'FFFF);  // none registered
    case Oid::kVendorDescription: {
      const auto text = std::as_bytes(std::span(kVendorDescription));
      std::vector<std::byte> bytes(text.begin(), text.end());
      bytes.push_back(std::byte{0});
      return bytes;
    }
    case Oid::kCurrentPacketFilter: return number(packet_filter_);
    case Oid::kDriverVersion: return as_vector(le16(0x061E));
    case Oid::kVendorDriverVersion: return number(0x1'0000);
    case Oid::kMacOptions: return number(kMacOptions);
    case Oid::kMediaConnectStatus: return number(link_is_up_ ? wire::kMediaConnected : wire::kMediaDisconnected);
    case Oid::kMaximumSendPackets: return number(kMaximumPacketsAMessage);
    case Oid::kTransmitOk: return number(counters_.frames_sent.get());
    case Oid::kReceiveOk: return number(counters_.frames_received.get());
    case Oid::kReceiveNoBuffer: return number(counters_.frames_without_room.get());
    case Oid::kPermanentAddress: return as_vector(permanent_address_);
    case Oid::kCurrentAddress: return as_vector(address_);
    case Oid::kMulticastList: {
      std::vector<std::byte> list;
      for (const MacAddress& address : multicast_) std::ranges::copy(bytes_of(address), std::back_inserter(list));
      return list;
    }
    case Oid::kMaximumMulticastList: return number(kMaximumMulticast);
    case Oid::kOffloadCurrentConfiguration:
    case Oid::kOffloadHardwareCapabilities: return offload_capabilities(information);
    default: return std::nullopt;
  }
}

/// NDIS_OFFLOAD in the revision that the driver names, or else the newest that its protocol version knows.
std::vector<std::byte> RndisControl::offload_capabilities(std::span<const std::byte> information) const {
  std::uint8_t revision = offload_revision_;
  if (const auto asked = load<wire::ObjectHeader>(information); asked && asked->type == wire::kObjectOffload && asked->revision != 0) {
    revision = std::min<std::uint8_t>(asked->revision, 3);
  }
  constexpr std::uint32_t kTransport = wire::kChecksumTcp | wire::kChecksumUdp | wire::kChecksumTcpOptions | wire::kChecksumIpOptions;
  wire::Offload offload = {};
  offload.checksum.ipv4_send_encapsulation = offload.checksum.ipv4_receive_encapsulation = wire::kEncapsulation8023;
  offload.checksum.ipv6_send_encapsulation = offload.checksum.ipv6_receive_encapsulation = wire::kEncapsulation8023;
  offload.checksum.ipv4_send = offload.checksum.ipv4_receive = kTransport | wire::kChecksumIpHeader;
  offload.checksum.ipv6_send = offload.checksum.ipv6_receive = kTransport;
  offload.large_send_v2.ipv4_encapsulation = offload.large_send_v2.ipv6_encapsulation = wire::kEncapsulation8023;
  offload.large_send_v2.ipv4_maximum_bytes = offload.large_send_v2.ipv6_maximum_bytes = kMaximumLargeSend;
  offload.large_send_v2.ipv4_minimum_segments = offload.large_send_v2.ipv6_minimum_segments = 2U;
  offload.large_send_v2.ipv6_options = wire::kLargeSendIpv6Extensions | wire::kLargeSendIpv6TcpOptions;
  if (can_coalesce_) offload.coalesces_ipv4 = offload.coalesces_ipv6 = 1;
  const std::size_t bytes = revision == 1 ? wire::kOffloadBytes6_0 : revision == 2 ? wire::kOffloadBytes6_1 : sizeof offload;
  offload.header = {wire::kObjectOffload, revision, static_cast<std::uint16_t>(bytes)};
  const auto all = bytes_of(offload).first(bytes);
  return {all.begin(), all.end()};
}

// Settings.

RndisControl::Status RndisControl::set(Oid oid, std::span<const std::byte> information) {
  switch (oid) {
    case Oid::kCurrentPacketFilter: {
      const auto filter = load<le32>(information);
      if (!filter) return Status::kInvalidLength;
      packet_filter_ = *filter;
      return Status::kSuccess;
    }
    case Oid::kMulticastList: return set_multicast_list(information);
    case Oid::kOffloadParameters: return set_offload_parameters(information);
    case Oid::kRndisConfigParameter: return set_config_parameter(information);
    case Oid::kCurrentLookahead:
    case Oid::kProtocolOptions:
    case Oid::kNetworkLayerAddresses:
    case Oid::kOffloadEncapsulation: return Status::kSuccess;  // true already, or of no consequence here
    default: return Status::kNotSupported;
  }
}

RndisControl::Status RndisControl::set_multicast_list(std::span<const std::byte> information) {
  if (information.size() % sizeof(MacAddress) != 0 || information.size() / sizeof(MacAddress) > kMaximumMulticast) {
    return Status::kInvalidLength;
  }
  multicast_.resize(information.size() / sizeof(MacAddress));
  if (!information.empty()) std::memcpy(multicast_.data(), information.data(), information.size());
  return Status::kSuccess;
}

RndisControl::Status RndisControl::set_offload_parameters(std::span<const std::byte> information) {
  wire::OffloadParameters parameters = {};
  if (information.size() < sizeof parameters.header) return Status::kInvalidLength;
  std::memcpy(&parameters, information.data(), std::min(information.size(), sizeof parameters));  // earlier revisions are shorter
  const auto apply = [](std::uint8_t wish, bool& setting) {
    if (wish != wire::kOffloadNoChange) setting = wish == wire::kCoalesceOn;
  };
  apply(parameters.coalesce_ipv4, coalesce_ipv4_);
  apply(parameters.coalesce_ipv6, coalesce_ipv6_);
  return Status::kSuccess;
}

/// The one parameter that matters is the address that a person chose in the guest: "NetworkAddress", twelve hexadecimal digits.
RndisControl::Status RndisControl::set_config_parameter(std::span<const std::byte> information) {
  const auto parameter = load<wire::ConfigParameter>(information);
  if (!parameter) return Status::kInvalidLength;
  const auto name = part_of(information, parameter->name_offset, parameter->name_bytes);
  const auto value = part_of(information, parameter->value_offset, parameter->value_bytes);
  if (!name || !value) return Status::kInvalidData;
  const auto to_ascii = [](std::span<const std::byte> utf16) {
    std::string text;
    for (std::size_t i = 0; i + 1 < utf16.size(); i += 2) {
      text += utf16[i + 1] == std::byte{0} ? static_cast<char>(utf16[i]) : '?';
    }
    return text;
  };
  if (name->size() != 2 * std::string_view("NetworkAddress").size() || to_ascii(*name) != "NetworkAddress" ||
      parameter->type != wire::kConfigParameterString) {
    return Status::kNotSupported;
  }
  const std::string digits = to_ascii(value->first(std::min<std::size_t>(value->size(), 64)));
  if (digits.size() != 2 * sizeof(MacAddress) || digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
    return Status::kInvalidData;
  }
  MacAddress address;
  for (std::size_t i = 0; i < address.size(); ++i) {
    address[i] = static_cast<std::uint8_t>(std::stoul(digits.substr(i * 2, 2), nullptr, 16));
  }
  if ((address[0] & 1) != 0) return Status::kInvalidData;  // a group is nobody's address
  address_ = address;
  return Status::kSuccess;
}

// Saved state.

nlohmann::json RndisControl::save() const {
  nlohmann::json multicast = nlohmann::json::array();
  for (const MacAddress& address : multicast_) {
    for (const std::uint8_t byte : address) multicast.push_back(byte);
  }
  return {{"version", 1},
          {"initialized", initialized_},
          {"link_told", told_link_ ? static_cast<int>(*told_link_) : 2},
          {"mtu", mtu_},
          {"offload_revision", offload_revision_},
          {"can_coalesce", can_coalesce_},
          {"coalesce_ipv4", coalesce_ipv4_},
          {"coalesce_ipv6", coalesce_ipv6_},
          {"packet_filter", packet_filter_},
          {"address", address_},
          {"multicast", multicast}};
}

Result<void> RndisControl::restore(const nlohmann::json& state) {
  SavedFields fields(state, "a network adapter's RNDIS", 1);
  bool initialized = false, can_coalesce = false, coalesce_ipv4 = false, coalesce_ipv6 = false;
  std::uint32_t mtu = 0, filter = 0, told = 0;
  std::uint8_t revision = 0;
  MacAddress address = {};
  std::vector<std::uint8_t> multicast;
  fields.read("initialized", initialized);
  fields.read("link_told", told);
  fields.read("mtu", mtu);
  fields.read("offload_revision", revision);
  fields.read("can_coalesce", can_coalesce);
  fields.read("coalesce_ipv4", coalesce_ipv4);
  fields.read("coalesce_ipv6", coalesce_ipv6);
  fields.read("packet_filter", filter);
  fields.read("address", address);
  fields.read("multicast", multicast, kMaximumMulticast * sizeof(MacAddress));
  fields.require(multicast.size() % sizeof(MacAddress) == 0, "a multicast address is cut off");
  BYGONE_CHECK(fields.finish());
  initialized_ = initialized;
  told_link_ = told > 1 ? std::nullopt : std::optional(told == 1);
  mtu_ = mtu;
  offload_revision_ = revision;
  can_coalesce_ = can_coalesce;
  coalesce_ipv4_ = coalesce_ipv4;
  coalesce_ipv6_ = coalesce_ipv6;
  packet_filter_ = filter;
  address_ = address;
  multicast_.resize(multicast.size() / sizeof(MacAddress));
  if (!multicast.empty()) std::memcpy(multicast_.data(), multicast.data(), multicast.size());
  return {};
}

nlohmann::json RndisControl::inspect() const {
  return {{"initialized", initialized_},       {"link", link_is_up_ ? "up" : "down"},
          {"mtu", mtu_},                       {"address", to_text(address_)},
          {"packet_filter", packet_filter_},   {"multicast_groups", multicast_.size()},
          {"coalesces_ipv4", coalesces_ipv4()}, {"coalesces_ipv6", coalesces_ipv6()}};
}

}  // namespace bygone::devices::network
