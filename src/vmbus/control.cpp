#include "vmbus/control.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <ranges>

#include "vmbus/control_message.h"

namespace bygone::vmbus {

namespace wire = spec::vmbus;
using wire::MessageType;

namespace {

constexpr std::array kVersions = {Version::k0_13, Version::k1_1, Version::k2_4, Version::k3_0, Version::k4_0, Version::k4_1,
                                  Version::k5_0,  Version::k5_1, Version::k5_2, Version::k5_3, Version::k6_0};
constexpr std::uint32_t kSupportedFeatures = wire::kFeatureClientId;

/// The first version that knows a message; messages that come before a version are kNone.
Version first_version(MessageType type) {
  switch (type) {
    case MessageType::kInitiateContact: return Version::kNone;
    case MessageType::kTlConnectRequest: return Version::k4_0;
    case MessageType::kModifyChannel: return Version::k4_1;
    default: return Version::k0_13;
  }
}

}  // namespace

Control::Control() = default;
Control::~Control() = default;

template <typename Message>
void Control::send(Message message, MessageType type, std::size_t size) {
  message.header = {static_cast<std::uint32_t>(type), 0};
  return actions_.push_back(SendMessage{last_message_vp_, {reinterpret_cast<const std::byte*>(&message),
                                                           reinterpret_cast<const std::byte*>(&message) + size}});
}

std::vector<Action> Control::take_actions() { return std::exchange(actions_, {}); }

std::optional<std::uint64_t> Control::interrupt_page() const {
  if (!connection_ || connection_->version >= Version::k2_4 || connection_->interrupt_page == 0) return std::nullopt;
  return connection_->interrupt_page;
}

bool Control::is_quiet() const {
  return !after_disconnect_ && std::ranges::none_of(offers_, [](const auto& item) {
    return item.second.state == State::kOpening || item.second.state == State::kClosing;
  });
}

Result<void> Control::handle_message(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto header, parse_message<wire::MessageHeader>(message));
  const auto type = static_cast<MessageType>(header.type.value());
  if (type != MessageType::kInitiateContact) {
    if (!connection_) return fail(ErrorCode::kCorrupt, "control message {} outside a connection", header.type.value());
    if (connection_->version < first_version(type)) {
      return fail(ErrorCode::kUnsupported, "control message {} in version {:#x}", header.type.value(),
                  static_cast<std::uint32_t>(connection_->version));
    }
  }
  switch (type) {
    case MessageType::kInitiateContact: return handle_initiate_contact(message);
    case MessageType::kRequestOffers: return handle_request_offers();
    case MessageType::kUnload: return handle_unload();
    case MessageType::kOpenChannel: return handle_open(message);
    case MessageType::kCloseChannel: return handle_close(message);
    case MessageType::kModifyChannel: return handle_modify(message);
    case MessageType::kRelIdReleased: return handle_relid_released(message);
    case MessageType::kGpadlHeader: return handle_gpadl_header(message);
    case MessageType::kGpadlBody: return handle_gpadl_body(message);
    case MessageType::kGpadlTeardown: return handle_gpadl_teardown(message);
    case MessageType::kTlConnectRequest: return handle_tl_connect(message);
    default: return fail(ErrorCode::kUnsupported, "control message {} is not for this bus", header.type.value());
  }
}

Result<void> Control::handle_initiate_contact(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto contact, parse_message<wire::InitiateContact>(message));
  // A new owner of the guest (firmware, then OS, then the next kernel) starts over, whatever the old one left behind.
  disconnect();
  after_disconnect_ = Contact{contact.version, contact.target_message_vp, contact.interrupt_page_or_target};
  continue_if_quiet();
  return {};
}

Result<void> Control::handle_unload() {
  const bool answer = connection_->version >= Version::k1_1;
  disconnect();
  after_disconnect_ = Unload{last_message_vp_, answer};
  continue_if_quiet();
  return {};
}

void Control::reset() {
  disconnect();
  after_disconnect_ = std::monostate();
  continue_if_quiet();
}

void Control::disconnect() {
  connection_.reset();
  partial_gpadls_.clear();
  const auto ids = std::views::keys(offers_);
  const std::vector<OfferId> all(ids.begin(), ids.end());  // what is released may be taken out
  for (const OfferId id : all) release_from_guest(id);
}

/// The guest knows nothing of the channel any more.
void Control::release_from_guest(OfferId id) {
  const auto found = offers_.find(id);
  if (found == offers_.end()) return;
  Entry& entry = found->second;
  entry.known_to_guest = false;
  entry.reopen.reset();
  // Subchannels are asked for anew, and no later owner of the guest knows of a socket's connection.
  if (entry.primary || (entry.offer.flags & wire::kOfferSocket) != 0) entry.revoked = true;
  if (entry.state == State::kOpen) {
    entry.state = State::kClosing;
    actions_.push_back(CloseChannel{id});
  }
  if (entry.state == State::kClosed) drop_gpadls(id);
  remove_if_done(id);
}

void Control::remove_if_done(OfferId id) {
  const auto found = offers_.find(id);
  if (found == offers_.end()) return;
  const Entry& entry = found->second;
  if (!entry.revoked || entry.known_to_guest || entry.state != State::kClosed) return;
  drop_gpadls(id);
  offers_.erase(found);
  actions_.push_back(OfferRemoved{id});
}

void Control::continue_if_quiet() {
  if (!after_disconnect_) return;
  const bool busy = std::ranges::any_of(offers_, [](const auto& item) { return item.second.state != State::kClosed; });
  if (busy) return;
  gpadls_.clear();
  gpadl_pages_ = 0;
  const auto next = *std::exchange(after_disconnect_, std::nullopt);
  if (const auto* contact = std::get_if<Contact>(&next)) {
    answer_contact(*contact);
  } else if (const auto* unload = std::get_if<Unload>(&next); unload != nullptr && unload->answer) {
    last_message_vp_ = unload->target_message_vp;
    send(wire::RescindChannelOffer{}, MessageType::kUnloadComplete, sizeof(wire::MessageHeader));
  }
}

void Control::answer_contact(const Contact& contact) {
  const auto version = static_cast<Version>(contact.requested);
  last_message_vp_ = contact.target_message_vp;
  bool supported = std::ranges::find(kVersions, version) != kVersions.end();
  std::uint32_t features = 0;
  if (supported && version >= Version::k5_0) {
    // Messages elsewhere than to our SINT and VTL 0 are not to be had.
    const auto sint = static_cast<std::uint8_t>(contact.interrupt_page_or_target);
    const auto vtl = static_cast<std::uint8_t>(contact.interrupt_page_or_target >> 8);
    supported = sint == wire::kMessageSint && vtl == 0;
    features = static_cast<std::uint32_t>(contact.interrupt_page_or_target >> 32) & kSupportedFeatures;
  }
  wire::VersionResponse2 response = {};
  response.base.version_supported = supported ? 1 : 0;
  response.base.connection_state = wire::kConnectionSuccessful;
  if (supported) {
    connection_ = Connection{version, contact.target_message_vp,
                             version < Version::k5_0 ? contact.interrupt_page_or_target : 0, false};
    response.base.selected_version_or_connection_id =
        version >= Version::k5_0 ? wire::kMessageConnectionId4 : contact.requested;
    response.supported_features = features;
  }
  const bool long_form = supported && version >= Version::k6_0;
  wire::VersionResponse2 message = response;
  message.base.header = {static_cast<std::uint32_t>(MessageType::kVersionResponse), 0};
  const auto* bytes = reinterpret_cast<const std::byte*>(&message);
  actions_.push_back(SendMessage{
      last_message_vp_, {bytes, bytes + (long_form ? sizeof(wire::VersionResponse2) : sizeof(wire::VersionResponse))}});
}

Result<void> Control::handle_request_offers() {
  if (connection_->offers_sent) return fail(ErrorCode::kCorrupt, "offers were requested twice");
  connection_->offers_sent = true;
  for (auto& [id, entry] : offers_) {
    if (!entry.revoked) send_offer(entry);
  }
  send(wire::RescindChannelOffer{}, MessageType::kAllOffersDelivered, sizeof(wire::MessageHeader));
  return {};
}

void Control::send_offer(Entry& entry) {
  const bool old = connection_->version < Version::k2_4;
  if (old && (entry.channel_id > wire::kMaximumChannelIdInInterruptPage || entry.primary)) return;
  entry.known_to_guest = true;
  wire::OfferChannel message = {};
  message.interface_type = entry.offer.interface_type;
  message.instance = entry.offer.instance;
  message.flags = entry.offer.flags;
  message.mmio_megabytes = entry.offer.mmio_megabytes;
  message.user_data = entry.offer.user_data;
  message.subchannel_index = entry.subchannel_index;
  message.channel_id = entry.channel_id;
  if (connection_->version >= Version::k1_1) {
    message.is_dedicated_interrupt = std::uint16_t{1};
    message.connection_id = event_connection_id(entry.channel_id);
    send(message, MessageType::kOfferChannel);
  } else {
    send(message, MessageType::kOfferChannel, wire::kOfferChannelSize0_13);
  }
}

Result<std::uint32_t> Control::allocate_channel_id() const {
  std::bitset<wire::kMaximumChannelId + 1> used;
  for (const auto& [id, entry] : offers_) used.set(entry.channel_id);
  for (std::uint32_t id = 1; id <= wire::kMaximumChannelId; ++id) {
    if (!used.test(id)) return id;
  }
  return fail(ErrorCode::kExhausted, "all {} channel ids are in use", wire::kMaximumChannelId);
}

Result<OfferId> Control::add_offer(const Offer& offer) {
  for (const auto& [id, entry] : offers_) {
    if (!entry.revoked && entry.offer.instance == offer.instance && entry.offer.interface_type == offer.interface_type) {
      return fail(ErrorCode::kAlreadyExists, "{} has the instance {} of {}", offer.name, offer.instance.text(),
                  entry.offer.name);
    }
  }
  BYGONE_ASSIGN(const std::uint32_t channel_id, allocate_channel_id());
  const OfferId id{next_offer_++};
  Entry& entry = offers_[id];
  entry.offer = offer;
  entry.channel_id = channel_id;
  if (connection_ && connection_->offers_sent) send_offer(entry);
  return id;
}

Result<std::vector<OfferId>> Control::add_subchannels(OfferId primary, std::uint16_t count) {
  const auto found = offers_.find(primary);
  if (found == offers_.end() || found->second.primary || found->second.revoked) {
    return fail(ErrorCode::kNotFound, "subchannels of a channel that is not there");
  }
  const Offer offer = found->second.offer;
  if (count > offer.maximum_subchannels) {
    return fail(ErrorCode::kOutOfRange, "{} subchannels of {}, which has at most {}", count, offer.name,
                offer.maximum_subchannels);
  }
  std::vector<OfferId> added;
  for (std::uint16_t index = 1; index <= count; ++index) {
    const bool exists = std::ranges::any_of(offers_, [&](const auto& item) {
      return item.second.primary == primary && item.second.subchannel_index == index && !item.second.revoked;
    });
    if (exists) continue;
    BYGONE_ASSIGN(const std::uint32_t channel_id, allocate_channel_id());
    const OfferId id{next_offer_++};
    Entry& entry = offers_[id];
    entry.offer = offer;
    entry.primary = primary;
    entry.subchannel_index = index;
    entry.channel_id = channel_id;
    if (connection_ && connection_->offers_sent) send_offer(entry);
    added.push_back(id);
  }
  return added;
}

void Control::revoke(OfferId offer) {
  std::vector<OfferId> ids;
  for (const auto& [id, entry] : offers_) {
    if (id == offer || entry.primary == offer) ids.push_back(id);
  }
  for (const OfferId id : ids) {
    Entry& entry = offers_.at(id);
    if (entry.revoked) continue;
    entry.revoked = true;
    entry.reopen.reset();
    if (entry.known_to_guest && connection_) {
      wire::RescindChannelOffer message = {};
      message.channel_id = entry.channel_id;
      send(message, MessageType::kRescindChannelOffer);
    }
    if (entry.state == State::kOpen) {
      entry.state = State::kClosing;
      actions_.push_back(CloseChannel{id});
    }
    remove_if_done(id);
  }
}

Result<void> Control::handle_tl_connect(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto request, parse_message<wire::TlConnectRequest>(message));
  actions_.push_back(ConnectSocket{request.endpoint, request.service});
  return {};
}

void Control::refuse_socket(const Guid& endpoint, const Guid& service) {
  // 4.0 has no such message: its guest learns by its own time-out.
  if (!connection_ || connection_->version < Version::k4_1) return;
  wire::TlConnectResult message = {};
  message.endpoint = endpoint;
  message.service = service;
  message.status = wire::kStatusConnectionRefused;
  send(message, MessageType::kTlConnectResult);
}

std::uint32_t Control::channel_id(OfferId offer) const {
  const auto found = offers_.find(offer);
  return found == offers_.end() ? 0 : found->second.channel_id;
}

std::optional<OfferId> Control::find_channel(std::uint32_t channel_id) const {
  for (const auto& [id, entry] : offers_) {
    if (entry.channel_id == channel_id) return id;
  }
  return std::nullopt;
}

}  // namespace bygone::vmbus
