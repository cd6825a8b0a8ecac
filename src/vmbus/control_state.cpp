// Saved state and inspection of the control plane.
#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "vmbus/control.h"

namespace bygone::vmbus {

using nlohmann::json;

namespace {

constexpr int kStateVersion = 1;

json to_json(const PageRanges& ranges) {
  json result = json::array();
  for (const PageRanges::Range& range : ranges.ranges()) {
    json pages = json::array();
    for (const std::uint64_t page : ranges.pages(range)) pages.push_back(page);
    result.push_back({{"bytes", range.byte_count}, {"offset", range.byte_offset}, {"pages", std::move(pages)}});
  }
  return result;
}

/// The wire form again, so that parse() judges saved state as strictly as a guest. Throws json exceptions.
PageRanges ranges_from_json(const json& value) {
  std::vector<std::byte> bytes;
  const auto append = [&](const auto& object) {
    const auto view = bytes_of(object);
    bytes.insert(bytes.end(), view.begin(), view.end());
  };
  for (const json& range : value) {
    append(spec::vmbus::GpaRangeHeader{range.at("bytes").get<std::uint32_t>(), range.at("offset").get<std::uint32_t>()});
    for (const json& page : range.at("pages")) append(le64(page.get<std::uint64_t>()));
  }
  PageRanges result;
  if (!result.parse(bytes, static_cast<std::uint32_t>(value.size()))) throw json::other_error::create(501, "page ranges", &value);
  return result;
}

json::binary_t to_binary(std::span<const std::byte> bytes) {
  const auto* first = reinterpret_cast<const std::uint8_t*>(bytes.data());
  return json::binary_t(std::vector<std::uint8_t>(first, first + bytes.size()));
}

}  // namespace

Result<json> Control::save() const {
  if (!is_quiet()) return fail(ErrorCode::kBusy, "saving the bus: a channel is being opened or closed");
  json state = {{"version", kStateVersion}, {"message_vp", last_message_vp_}};
  if (connection_) {
    state["connection"] = {{"version", static_cast<std::uint32_t>(connection_->version)},
                           {"message_vp", connection_->target_message_vp},
                           {"interrupt_page", connection_->interrupt_page},
                           {"offers_sent", connection_->offers_sent}};
  }
  json& offers = state["offers"] = json::array();
  for (const auto& [id, entry] : offers_) {
    json item = {{"name", entry.offer.name}, {"interface", entry.offer.interface_type.text()}, {"instance", entry.offer.instance.text()},
                 {"subchannel", entry.subchannel_index}, {"channel", entry.channel_id},
                 {"known", entry.known_to_guest}, {"revoked", entry.revoked}, {"open", entry.state == State::kOpen}};
    if (entry.state == State::kOpen) {
      item["open_id"] = entry.open.open_id;
      item["ring"] = entry.open.ring.value;
      item["target_vp"] = entry.open.target_vp;
      item["downstream"] = entry.open.downstream_page_offset;
      item["user_data"] = json::binary_t(std::vector<std::uint8_t>(entry.open.user_data.begin(), entry.open.user_data.end()));
    }
    offers.push_back(std::move(item));
  }
  json& gpadls = state["gpadls"] = json::array();
  for (const auto& [key, entry] : gpadls_) {
    gpadls.push_back({{"channel", channel_id(key.first)}, {"id", key.second.value}, {"tearing_down", entry.tearing_down},
                      {"ranges", to_json(*entry.gpadl)}});
  }
  json& partial = state["partial_gpadls"] = json::array();
  for (const auto& [id, entry] : partial_gpadls_) {
    partial.push_back({{"channel", channel_id(entry.offer)}, {"id", id.value}, {"expected", entry.expected},
                       {"ranges", entry.range_count}, {"bytes", to_binary(entry.bytes)}});
  }
  return state;
}

Result<std::vector<Control::RestoredSubchannel>> Control::restore(const json& state) {
  // Everything is built aside and taken over at the end.
  auto offers = offers_;
  decltype(gpadls_) gpadls;
  decltype(partial_gpadls_) partial_gpadls;
  std::optional<Connection> connection;
  std::vector<RestoredSubchannel> subchannels;
  std::uint32_t next_offer = next_offer_;
  std::map<std::uint32_t, OfferId> by_channel;
  std::size_t pages = 0;
  std::uint32_t message_vp = 0;
  try {
    if (state.at("version").get<int>() != kStateVersion) {
      return fail(ErrorCode::kUnsupported, "saved bus state of version {}, this program reads {}",
                  state.at("version").get<int>(), kStateVersion);
    }
    message_vp = state.at("message_vp").get<std::uint32_t>();
    if (const auto found = state.find("connection"); found != state.end()) {
      connection = Connection{static_cast<Version>(found->at("version").get<std::uint32_t>()),
                              found->at("message_vp").get<std::uint32_t>(), found->at("interrupt_page").get<std::uint64_t>(),
                              found->at("offers_sent").get<bool>()};
    }
    for (const json& item : state.at("offers")) {
      const auto instance = item.at("instance").get<std::string>();
      const auto index = item.at("subchannel").get<std::uint16_t>();
      if (item.at("revoked").get<bool>()) continue;  // its device is gone; the guest has been told
      // A socket's instance is of the guest's choice, and may be that of a device of another class.
      const auto interface_type = item.value("interface", std::string());  // states of earlier programs lack it
      const auto primary = std::ranges::find_if(offers, [&](const auto& candidate) {
        const Offer& offer = candidate.second.offer;
        return !candidate.second.primary && offer.instance.text() == instance &&
               (interface_type.empty() || offer.interface_type.text() == interface_type);
      });
      if (primary == offers.end()) {
        return fail(ErrorCode::kNotFound, "the saved machine has a device {} ({}) that this one lacks",
                    item.at("name").get<std::string>(), instance);
      }
      OfferId id = primary->first;
      if (index != 0) {
        id = OfferId{next_offer++};
        Entry subchannel;
        subchannel.offer = primary->second.offer;
        subchannel.primary = primary->first;
        subchannel.subchannel_index = index;
        subchannels.push_back({id, primary->first, index});
        offers[id] = std::move(subchannel);
      }
      Entry& entry = offers.at(id);
      entry.channel_id = item.at("channel").get<std::uint32_t>();
      entry.known_to_guest = item.at("known").get<bool>();
      if (entry.channel_id == 0 || entry.channel_id > spec::vmbus::kMaximumChannelId ||
          !by_channel.emplace(entry.channel_id, id).second) {
        return fail(ErrorCode::kCorrupt, "saved bus state has channel id {} wrong", entry.channel_id);
      }
      if (item.at("open").get<bool>()) {
        entry.state = State::kOpening;
        entry.restoring = true;
        entry.open.open_id = item.at("open_id").get<std::uint32_t>();
        entry.open.ring = {item.at("ring").get<std::uint32_t>()};
        entry.open.target_vp = item.at("target_vp").get<std::uint32_t>();
        entry.open.downstream_page_offset = item.at("downstream").get<std::uint32_t>();
        const auto& user_data = item.at("user_data").get_binary();
        std::copy_n(user_data.begin(), std::min(user_data.size(), entry.open.user_data.size()), entry.open.user_data.begin());
      }
    }
    for (const json& item : state.at("gpadls")) {
      const auto channel = by_channel.find(item.at("channel").get<std::uint32_t>());
      if (channel == by_channel.end()) continue;
      auto ranges = std::make_shared<Gpadl>(ranges_from_json(item.at("ranges")));
      pages += ranges->pages().size();
      gpadls[{channel->second, GpadlId{item.at("id").get<std::uint32_t>()}}] = {std::move(ranges),
                                                                               item.at("tearing_down").get<bool>()};
    }
    for (const json& item : state.at("partial_gpadls")) {
      const auto channel = by_channel.find(item.at("channel").get<std::uint32_t>());
      if (channel == by_channel.end()) continue;
      PartialGpadl partial;
      partial.offer = channel->second;
      partial.expected = item.at("expected").get<std::uint16_t>();
      partial.range_count = item.at("ranges").get<std::uint16_t>();
      for (const std::uint8_t byte : item.at("bytes").get_binary()) partial.bytes.push_back(std::byte{byte});
      if (partial.bytes.size() >= partial.expected) return fail(ErrorCode::kCorrupt, "saved bus state has a GPADL too long");
      partial_gpadls[GpadlId{item.at("id").get<std::uint32_t>()}] = std::move(partial);
    }
  } catch (const json::exception& error) {
    return fail(ErrorCode::kCorrupt, "saved bus state: {}", error.what());
  }
  // A device that the saved machine did not have takes a channel id that is free.
  for (auto& [id, entry] : offers) {
    const auto owner = by_channel.find(entry.channel_id);
    if (owner == by_channel.end() || owner->second == id) continue;
    std::uint32_t free = 1;
    while (by_channel.contains(free)) ++free;
    entry.channel_id = free;
    by_channel.emplace(free, id);
  }
  std::vector<Action> actions;
  for (auto& [id, entry] : offers) {
    if (entry.state != State::kOpening) continue;
    const auto ring = gpadls.find({id, entry.open.ring});
    if (ring == gpadls.end()) return fail(ErrorCode::kCorrupt, "saved bus state has {} open without its ring", entry.offer.name);
    OpenChannel action;
    action.offer = id;
    action.parameters = {entry.channel_id, entry.subchannel_index, entry.open.user_data,
                         connection ? connection->version : Version::kNone, true};
    action.ring = ring->second.gpadl;
    action.downstream_page_offset = entry.open.downstream_page_offset;
    action.target_vp = entry.open.target_vp;
    actions.push_back(std::move(action));
  }
  offers_ = std::move(offers);
  gpadls_ = std::move(gpadls);
  partial_gpadls_ = std::move(partial_gpadls);
  gpadl_pages_ = pages;
  connection_ = connection;
  last_message_vp_ = message_vp;
  next_offer_ = next_offer;
  actions_ = std::move(actions);
  return subchannels;
}

json Control::inspect() const {
  json result = {{"connected", is_connected()}, {"gpadls", gpadls_.size()}, {"gpadl_pages", gpadl_pages_}};
  if (connection_) {
    const auto number = static_cast<std::uint32_t>(connection_->version);
    result["version"] = fmt::format("{}.{}", number >> 16, number & 0xFFFF);
    result["offers_sent"] = connection_->offers_sent;
  }
  json& channels = result["channels"] = json::array();
  for (const auto& [id, entry] : offers_) {
    static constexpr std::array kNames = {"closed", "opening", "open", "closing"};
    channels.push_back({{"name", entry.offer.name}, {"channel", entry.channel_id}, {"subchannel", entry.subchannel_index},
                        {"state", kNames[static_cast<std::size_t>(entry.state)]}, {"offered", entry.known_to_guest},
                        {"revoked", entry.revoked}, {"target_vp", entry.open.target_vp}});
  }
  return result;
}

}  // namespace bygone::vmbus
