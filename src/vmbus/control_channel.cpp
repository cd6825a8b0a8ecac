// Channels and GPADLs of the control plane.
#include <algorithm>

#include "vmbus/control.h"
#include "vmbus/control_message.h"

namespace bygone::vmbus {

namespace wire = spec::vmbus;
using wire::MessageType;

namespace {

template <typename Message>
SendMessage make_message(std::uint32_t target_vp, Message message, MessageType type) {
  message.header = {static_cast<std::uint32_t>(type), 0};
  const auto* bytes = reinterpret_cast<const std::byte*>(&message);
  return {target_vp, {bytes, bytes + sizeof message}};
}

}  // namespace

Result<OfferId> Control::find_offered(std::uint32_t channel_id) const {
  const auto id = find_channel(channel_id);
  if (!id || !offers_.at(*id).known_to_guest) return fail(ErrorCode::kCorrupt, "channel {} was not offered", channel_id);
  return *id;
}

Result<void> Control::handle_open(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto wire_request, parse_message<wire::OpenChannel>(message));
  BYGONE_ASSIGN(const OfferId id, find_offered(wire_request.channel_id));
  Entry& entry = offers_.at(id);
  OpenRequest request;
  request.open_id = wire_request.open_id;
  request.ring = {wire_request.ring_gpadl};
  // Before 2.4 all interrupts go to the first processor, and the field means nothing.
  request.target_vp = connection_->version >= Version::k2_4 ? wire_request.target_vp.value() : 0;
  request.downstream_page_offset = wire_request.downstream_page_offset;
  request.user_data = wire_request.user_data;
  if (entry.revoked) {
    send_open_result(entry, request, wire::kStatusUnsuccessful);
    return {};
  }
  switch (entry.state) {
    case State::kClosed:
      request_open(id, request);
      return {};
    case State::kClosing:
      if (entry.reopen) return fail(ErrorCode::kCorrupt, "channel {} was opened twice", entry.channel_id);
      entry.reopen = request;
      return {};
    case State::kOpening:
    case State::kOpen: break;
  }
  return fail(ErrorCode::kCorrupt, "channel {} was opened twice", entry.channel_id);
}

void Control::request_open(OfferId id, const OpenRequest& request) {
  Entry& entry = offers_.at(id);
  const auto ring = gpadls_.find({id, request.ring});
  if (ring == gpadls_.end() || ring->second.tearing_down) {
    send_open_result(entry, request, wire::kStatusUnsuccessful);
    return;
  }
  entry.state = State::kOpening;
  entry.open = request;
  OpenChannel action;
  action.offer = id;
  action.parameters.channel_id = entry.channel_id;
  action.parameters.subchannel_index = entry.subchannel_index;
  action.parameters.user_data = request.user_data;
  action.parameters.version = connection_->version;
  action.ring = ring->second.gpadl;
  action.downstream_page_offset = request.downstream_page_offset;
  action.target_vp = request.target_vp;
  actions_.push_back(std::move(action));
}

void Control::send_open_result(const Entry& entry, const OpenRequest& request, std::uint32_t status) {
  wire::OpenChannelResult message = {};
  message.channel_id = entry.channel_id;
  message.open_id = request.open_id;
  message.status = status;
  actions_.push_back(make_message(last_message_vp_, message, MessageType::kOpenChannelResult));
}

void Control::opened(OfferId offer, bool accepted) {
  const auto found = offers_.find(offer);
  if (found == offers_.end() || found->second.state != State::kOpening) return;
  Entry& entry = found->second;
  if (!accepted) {
    entry.state = State::kClosed;
    if (entry.known_to_guest) {
      send_open_result(entry, entry.open, wire::kStatusUnsuccessful);
      finish_teardowns(offer);
    }
    remove_if_done(offer);
    continue_if_quiet();
    return;
  }
  entry.state = State::kOpen;
  if (entry.known_to_guest && !entry.revoked) {
    if (!std::exchange(entry.restoring, false)) send_open_result(entry, entry.open, wire::kStatusSuccess);
    for (const auto& [key, gpadl] : gpadls_) {
      if (key.first == offer && gpadl.tearing_down && key.second != entry.open.ring) {
        actions_.push_back(TearDownGpadl{offer, key.second});
      }
    }
    return;
  }
  // The guest went away, or the device, while the channel opened.
  entry.state = State::kClosing;
  actions_.push_back(CloseChannel{offer});
}

Result<void> Control::handle_close(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto request, parse_message<wire::CloseChannel>(message));
  BYGONE_ASSIGN(const OfferId id, find_offered(request.channel_id));
  Entry& entry = offers_.at(id);
  if (entry.revoked) return {};  // being closed, or closed already
  if (entry.state == State::kClosing && entry.reopen) {
    entry.reopen.reset();
    return {};
  }
  if (entry.state != State::kOpen) return fail(ErrorCode::kCorrupt, "channel {} is not open", entry.channel_id);
  entry.state = State::kClosing;
  actions_.push_back(CloseChannel{id});
  // A primary channel takes its subchannels with it.
  std::vector<OfferId> subchannels;
  for (const auto& [other, candidate] : offers_) {
    if (candidate.primary == id) subchannels.push_back(other);
  }
  for (const OfferId subchannel : subchannels) revoke(subchannel);
  return {};
}

void Control::closed(OfferId offer) {
  const auto found = offers_.find(offer);
  if (found == offers_.end() || found->second.state != State::kClosing) return;
  Entry& entry = found->second;
  entry.state = State::kClosed;
  if (!entry.known_to_guest) {
    drop_gpadls(offer);
  } else {
    finish_teardowns(offer);
    if (entry.reopen && connection_) request_open(offer, *std::exchange(entry.reopen, std::nullopt));
  }
  remove_if_done(offer);
  continue_if_quiet();
}

Result<void> Control::handle_modify(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto request, parse_message<wire::ModifyChannel>(message));
  BYGONE_ASSIGN(const OfferId id, find_offered(request.channel_id));
  Entry& entry = offers_.at(id);
  const bool can = entry.state == State::kOpen || entry.state == State::kOpening;
  if (can) {
    entry.open.target_vp = request.target_vp;
    actions_.push_back(SetTargetVp{id, request.target_vp});
  }
  if (connection_->version >= Version::k5_3) {
    wire::ModifyChannelResponse response = {};
    response.channel_id = entry.channel_id;
    response.status = can ? wire::kStatusSuccess : wire::kStatusUnsuccessful;
    actions_.push_back(make_message(last_message_vp_, response, MessageType::kModifyChannelResponse));
  }
  return {};
}

Result<void> Control::handle_relid_released(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto request, parse_message<wire::RelIdReleased>(message));
  BYGONE_ASSIGN(const OfferId id, find_offered(request.channel_id));
  if (!offers_.at(id).revoked) {
    return fail(ErrorCode::kCorrupt, "channel {} was released while it was offered", request.channel_id.value());
  }
  release_from_guest(id);
  return {};
}

Result<void> Control::handle_gpadl_header(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto header, parse_message<wire::GpadlHeader>(message));
  BYGONE_ASSIGN(const OfferId offer, find_offered(header.channel_id));
  const GpadlId id{header.gpadl};
  if (gpadls_.contains({offer, id}) || partial_gpadls_.contains(id)) {
    return fail(ErrorCode::kCorrupt, "GPADL {} exists already", id.value);
  }
  // Page numbers still to come count as well as those that came.
  std::size_t pages = gpadl_pages_ + header.range_bytes / sizeof(std::uint64_t);
  for (const auto& [other, partial] : partial_gpadls_) pages += partial.expected / sizeof(std::uint64_t);
  if (offers_.at(offer).revoked || pages > kMaximumGpadlPages || gpadls_.size() + partial_gpadls_.size() >= kMaximumGpadls) {
    send_gpadl_created(offer, id, wire::kStatusUnsuccessful);
    return fail(ErrorCode::kExhausted, "no room for a GPADL of {} bytes", header.range_bytes.value());
  }
  PartialGpadl partial;
  partial.offer = offer;
  partial.expected = header.range_bytes;
  partial.range_count = header.range_count;
  // Some guests always post messages of full length: only the announced bytes count.
  const auto body = message.subspan(sizeof header);
  const auto taken = body.first(std::min(body.size(), partial.expected));
  partial.bytes.assign(taken.begin(), taken.end());
  partial_gpadls_[id] = std::move(partial);
  return finish_gpadl(id);
}

Result<void> Control::handle_gpadl_body(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto header, parse_message<wire::GpadlBody>(message));
  const GpadlId id{header.gpadl};
  const auto found = partial_gpadls_.find(id);
  if (found == partial_gpadls_.end()) return fail(ErrorCode::kCorrupt, "more of GPADL {}, which is not begun", id.value);
  PartialGpadl& partial = found->second;
  const auto body = message.subspan(sizeof header);
  const auto taken = body.first(std::min(body.size(), partial.expected - partial.bytes.size()));
  partial.bytes.insert(partial.bytes.end(), taken.begin(), taken.end());
  return finish_gpadl(id);
}

Result<void> Control::finish_gpadl(GpadlId id) {
  const auto found = partial_gpadls_.find(id);
  if (found->second.bytes.size() < found->second.expected) return {};
  const PartialGpadl partial = std::move(found->second);
  partial_gpadls_.erase(found);
  auto gpadl = std::make_shared<Gpadl>();
  auto parsed = gpadl->parse(partial.bytes, partial.range_count);
  if (parsed && gpadl->ranges().empty()) parsed = fail(ErrorCode::kCorrupt, "GPADL {} without ranges", id.value);
  if (!parsed) {
    send_gpadl_created(partial.offer, id, wire::kStatusUnsuccessful);
    return parsed;
  }
  gpadl_pages_ += gpadl->pages().size();
  gpadls_[{partial.offer, id}] = {std::move(gpadl), false};
  send_gpadl_created(partial.offer, id, wire::kStatusSuccess);
  return {};
}

void Control::send_gpadl_created(OfferId offer, GpadlId id, std::uint32_t status) {
  wire::GpadlCreated message = {};
  message.channel_id = channel_id(offer);
  message.gpadl = id.value;
  message.status = status;
  actions_.push_back(make_message(last_message_vp_, message, MessageType::kGpadlCreated));
}

Result<void> Control::handle_gpadl_teardown(std::span<const std::byte> message) {
  BYGONE_ASSIGN(const auto request, parse_message<wire::GpadlTeardown>(message));
  BYGONE_ASSIGN(const OfferId offer, find_offered(request.channel_id));
  const GpadlId id{request.gpadl};
  const auto found = gpadls_.find({offer, id});
  if (found == gpadls_.end() || found->second.tearing_down) {
    return fail(ErrorCode::kCorrupt, "GPADL {} is not there to be torn down", id.value);
  }
  const Entry& entry = offers_.at(offer);
  if (entry.state == State::kClosed) {
    send_gpadl_torndown(offer, id);
    return {};
  }
  found->second.tearing_down = true;
  // Rings, and everything of a channel that is on its way, wait for the device to close.
  if (entry.state == State::kOpen && entry.open.ring != id) actions_.push_back(TearDownGpadl{offer, id});
  return {};
}

void Control::gpadl_released(OfferId offer, GpadlId gpadl) {
  const auto found = gpadls_.find({offer, gpadl});
  if (found != gpadls_.end() && found->second.tearing_down) send_gpadl_torndown(offer, gpadl);
}

void Control::send_gpadl_torndown(OfferId offer, GpadlId id) {
  const auto found = gpadls_.find({offer, id});
  gpadl_pages_ -= found->second.gpadl->pages().size();
  gpadls_.erase(found);
  wire::GpadlTorndown message = {};
  message.gpadl = id.value;
  actions_.push_back(make_message(last_message_vp_, message, MessageType::kGpadlTorndown));
}

/// After a channel has closed: what was asked to be torn down meanwhile.
void Control::finish_teardowns(OfferId offer) {
  std::vector<GpadlId> done;
  for (const auto& [key, entry] : gpadls_) {
    if (key.first == offer && entry.tearing_down) done.push_back(key.second);
  }
  for (const GpadlId id : done) send_gpadl_torndown(offer, id);
}

void Control::drop_gpadls(OfferId offer) {
  std::erase_if(gpadls_, [&](const auto& item) {
    if (item.first.first != offer) return false;
    gpadl_pages_ -= item.second.gpadl->pages().size();
    return true;
  });
  std::erase_if(partial_gpadls_, [&](const auto& item) { return item.second.offer == offer; });
}

std::shared_ptr<const Gpadl> Control::find_gpadl(OfferId offer, GpadlId gpadl) const {
  const auto found = gpadls_.find({offer, gpadl});
  return found == gpadls_.end() || found->second.tearing_down ? nullptr : found->second.gpadl;
}

}  // namespace bygone::vmbus
