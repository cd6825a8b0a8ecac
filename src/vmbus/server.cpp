#include "vmbus/server.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>

#include "vmbus/opened_channel.h"

namespace bygone::vmbus {

namespace wire = spec::vmbus;
using nlohmann::json;

namespace {

// TLFS 7.4: hypercall status codes. The guest tries again later after the second.
constexpr std::uint16_t kStatusSuccess = 0;
constexpr std::uint16_t kStatusInvalidParameter = 5;
constexpr std::uint16_t kStatusInsufficientBuffers = 0x13;

constexpr std::size_t kMaximumIncoming = 256;
constexpr std::size_t kMaximumBacklog = 1024;
/// Guests drop a channel's interrupts until they have seen that it is open.
constexpr auto kSignalAgain = std::chrono::milliseconds(100);
/// In case the news that the slot is free gets lost with a guest that resets its SynIC.
constexpr auto kSlotRetry = std::chrono::milliseconds(50);
constexpr auto kSettleTime = std::chrono::seconds(30);

}  // namespace

Server::Server(memory::GuestMemory& memory, hyperv::SynicPort& synic, EventLoop& control, Log log)
    : memory_(memory), synic_(synic), control_loop_(control), log_(std::move(log)) {
  const auto handler = [this](cpu::VpIndex, std::uint32_t type, std::span<const std::byte> payload) -> std::uint16_t {
    return type == wire::kSynicMessageType ? on_message(payload) : kStatusInvalidParameter;
  };
  synic_.connect_message_port(wire::kMessageConnectionId, handler);
  synic_.connect_message_port(wire::kMessageConnectionId4, handler);
  synic_.connect_event_port(wire::kSharedEventConnectionId, [this](std::uint16_t) { on_shared_event(); }, &control_loop_);
  synic_.set_slot_free_handler([this](cpu::VpIndex, std::uint8_t sint) {
    if (sint == wire::kMessageSint) control_loop_.post([this] { pump_messages(); });
  });
}

Server::~Server() {
  synic_.set_slot_free_handler({});
  synic_.disconnect_event_port(wire::kSharedEventConnectionId);
  synic_.disconnect_message_port(wire::kMessageConnectionId);
  synic_.disconnect_message_port(wire::kMessageConnectionId4);
  for (auto& [id, port] : ports_) {
    if (port.opened) synic_.disconnect_event_port(event_connection_id(port.opened->channel_id()));
  }
}

std::uint16_t Server::on_message(std::span<const std::byte> payload) {
  if (incoming_.load() >= kMaximumIncoming || backlog_.load() >= kMaximumBacklog) return kStatusInsufficientBuffers;
  ++incoming_;
  control_loop_.post([this, bytes = std::vector(payload.begin(), payload.end())] {
    --incoming_;
    Result<void> handled;
    {
      const std::lock_guard lock(mutex_);
      handled = control_.handle_message(bytes);
    }
    if (!handled && complaints_.allow()) log_.warning("a message of the guest's is dropped: {}", handled.error().text());
    run_actions();
  });
  return kStatusSuccess;
}

/// Guests before 2.4 without dedicated interrupts: the channels are bits in the second half of a page that they chose.
void Server::on_shared_event() {
  control_loop_.post([this] {
    std::vector<std::shared_ptr<OpenedChannel>> signalled;
    {
      const std::lock_guard lock(mutex_);
      const auto page = control_.interrupt_page();
      if (!page || *page % memory::kPageSize != 0) return;
      const std::span<std::byte> half = memory_.host_span(memory::Gpa{*page + memory::kPageSize / 2}, memory::kPageSize / 2);
      if (half.empty()) return;
      for (auto& [id, port] : ports_) {
        if (!port.opened || port.opened->channel_id() > wire::kMaximumChannelIdInInterruptPage) continue;
        const std::uint32_t channel = port.opened->channel_id();
        auto* word = reinterpret_cast<std::uint32_t*>(half.data() + std::size_t{channel} / 32 * 4);
        const std::uint32_t bit = 1U << channel % 32;
        if ((std::atomic_ref(*word).fetch_and(~bit) & bit) != 0) signalled.push_back(port.opened);
      }
      memory_.mark_dirty(memory::Gpa{*page + memory::kPageSize / 2}, memory::kPageSize / 2);
    }
    for (const auto& channel : signalled) channel->guest_signalled();
  });
}

/// Carries out what the control plane wants. Control loop.
void Server::run_actions() {
  for (;;) {
    std::vector<Action> actions;
    {
      const std::lock_guard lock(mutex_);
      actions = control_.take_actions();
    }
    if (actions.empty()) break;
    for (Action& action : actions) {
      std::visit([this](auto& what) { run(std::move(what)); }, action);
    }
  }
  finish_removals();
  settled_.notify_all();
}

void Server::run(SendMessage action) {
  wire::MessageHeader header{};
  std::memcpy(&header, action.bytes.data(), std::min(sizeof header, action.bytes.size()));
  if (header.type == static_cast<std::uint32_t>(wire::MessageType::kUnloadComplete)) log_.debug("the guest has unloaded the bus");
  outgoing_.push_back(std::move(action));
  backlog_ = outgoing_.size();
  pump_messages();
}

void Server::pump_messages() {
  while (!outgoing_.empty()) {
    const SendMessage& message = outgoing_.front();
    const auto outcome = synic_.post_message(cpu::VpIndex{message.target_vp}, wire::kMessageSint, wire::kSynicMessageType,
                                             message.bytes);
    if (outcome == hyperv::PostOutcome::kSlotBusy) {
      if (!retry_armed_) {
        retry_armed_ = true;
        control_loop_.add_timer(std::chrono::steady_clock::now() + kSlotRetry, [this] {
          retry_armed_ = false;
          pump_messages();
        });
      }
      break;
    }
    if (outcome == hyperv::PostOutcome::kNotEnabled && complaints_.allow()) {
      log_.warning("a message to the guest is dropped: its processor {} does not take messages", message.target_vp);
    }
    outgoing_.pop_front();
  }
  backlog_ = outgoing_.size();
}

Result<std::shared_ptr<OpenedChannel>> Server::build_channel(const OpenChannel& action, Port& port) {
  const auto pages = action.ring->pages();
  for (const PageRanges::Range& range : action.ring->ranges()) {
    if (range.byte_offset != 0 || range.byte_count % memory::kPageSize != 0) {
      return fail(ErrorCode::kCorrupt, "a ring that is not made of whole pages");
    }
  }
  if (action.downstream_page_offset >= pages.size()) {
    return fail(ErrorCode::kCorrupt, "a ring of {} pages with its second half at {}", pages.size(), action.downstream_page_offset);
  }
  BYGONE_ASSIGN(RingPages to_host, RingPages::create(memory_, pages.first(action.downstream_page_offset)));
  BYGONE_ASSIGN(RingPages to_guest, RingPages::create(memory_, pages.subspan(action.downstream_page_offset)));
  BYGONE_ASSIGN(IncomingRing incoming, IncomingRing::create(std::move(to_host)));
  BYGONE_ASSIGN(OutgoingRing outgoing, OutgoingRing::create(std::move(to_guest)));
  const OfferId offer = action.offer;
  OpenedChannel::Services services;
  services.find_gpadl = [this, offer](GpadlId id) {
    const std::lock_guard lock(mutex_);
    return control_.find_gpadl(offer, id);
  };
  services.offer_subchannels = [this, offer](std::uint16_t count) {
    control_loop_.post([this, offer, count] { add_subchannels(offer, count); });
  };
  auto opened = std::make_shared<OpenedChannel>(*port.device, *port.loop, synic_, memory_, log_, complaints_,
                                                action.target_vp, control_.interrupt_page(), std::move(services));
  opened->attach(std::make_unique<Channel>(memory_, *port.loop, *opened, action.parameters, std::move(incoming),
                                           std::move(outgoing)));
  return opened;
}

void Server::run(const OpenChannel& action) {
  std::shared_ptr<OpenedChannel> opened;
  {
    const std::lock_guard lock(mutex_);
    const auto port = ports_.find(action.offer);
    if (port != ports_.end() && port->second.device != nullptr) {
      auto built = build_channel(action, port->second);
      if (built) {
        opened = port->second.opened = *std::move(built);
      } else if (complaints_.allow()) {
        log_.warning("{}: the guest's channel is refused: {}", port->second.device->offer().name, built.error().text());
      }
    }
  }
  if (!opened) {
    finish_open(action.offer, false);
    return;
  }
  // Before the device hears of the channel: what it sends may be answered at once.
  synic_.connect_event_port(event_connection_id(action.parameters.channel_id),
                            [opened](std::uint16_t) { opened->guest_signalled(); }, &opened->loop());
  opened->start([this, offer = action.offer](bool accepted) {
    control_loop_.post([this, offer, accepted] { finish_open(offer, accepted); });
  });
}

void Server::finish_open(OfferId offer, bool accepted) {
  std::shared_ptr<OpenedChannel> opened;
  {
    const std::lock_guard lock(mutex_);
    const auto port = ports_.find(offer);
    if (port != ports_.end()) opened = accepted ? port->second.opened : std::exchange(port->second.opened, nullptr);
  }
  if (!accepted && opened) synic_.disconnect_event_port(event_connection_id(opened->channel_id()));
  {
    const std::lock_guard lock(mutex_);
    control_.opened(offer, accepted);
  }
  run_actions();
  if (!accepted || !opened) return;
  control_loop_.add_timer(std::chrono::steady_clock::now() + kSignalAgain, [weak = std::weak_ptr(opened)] {
    if (const auto channel = weak.lock()) channel->interrupt();
  });
}

void Server::run(const CloseChannel& action) {
  std::shared_ptr<OpenedChannel> opened;
  {
    const std::lock_guard lock(mutex_);
    const auto port = ports_.find(action.offer);
    if (port != ports_.end()) opened = port->second.opened;
  }
  if (!opened) {
    finish_close(action.offer);
    return;
  }
  synic_.disconnect_event_port(event_connection_id(opened->channel_id()));
  opened->stop([this, offer = action.offer] { control_loop_.post([this, offer] { finish_close(offer); }); });
}

void Server::finish_close(OfferId offer) {
  std::shared_ptr<OpenedChannel> opened;  // destroyed without the lock
  {
    const std::lock_guard lock(mutex_);
    const auto port = ports_.find(offer);
    if (port != ports_.end()) opened = std::exchange(port->second.opened, nullptr);
    control_.closed(offer);
  }
  run_actions();
}

void Server::run(const SetTargetVp& action) {
  std::shared_ptr<OpenedChannel> opened;
  {
    const std::lock_guard lock(mutex_);
    const auto port = ports_.find(action.offer);
    if (port != ports_.end()) opened = port->second.opened;
  }
  if (opened) opened->set_target_vp(action.target_vp);
}

void Server::run(const TearDownGpadl& action) {
  const auto released = [this, action] {
    control_loop_.post([this, action] {
      {
        const std::lock_guard lock(mutex_);
        control_.gpadl_released(action.offer, action.gpadl);
      }
      run_actions();
    });
  };
  std::shared_ptr<OpenedChannel> opened;
  {
    const std::lock_guard lock(mutex_);
    const auto port = ports_.find(action.offer);
    if (port != ports_.end()) opened = port->second.opened;
  }
  if (opened) {
    opened->tear_down_gpadl(action.gpadl, released);
  } else {
    released();
  }
}

void Server::run(const OfferRemoved& action) {
  const std::lock_guard lock(mutex_);
  ports_.erase(action.offer);
}

void Server::run(const ConnectSocket& action) {
  if (connect_socket_) {
    connect_socket_(action.endpoint, action.service);
  } else {
    refuse_socket(action.endpoint, action.service);
  }
}

void Server::set_socket_connector(SocketConnector connector) { connect_socket_ = std::move(connector); }

bool Server::takes_sockets() {
  const std::lock_guard lock(mutex_);
  return control_.takes_sockets();
}

void Server::refuse_socket(const Guid& endpoint, const Guid& service) {
  on_control([=](Control& control) { control.refuse_socket(endpoint, service); });
}

/// Does `work` on the control plane, on its loop, and carries out what follows.
template <typename Work>
void Server::on_control(Work work) {
  control_loop_.post([this, work] {
    {
      const std::lock_guard lock(mutex_);
      work(control_);
    }
    run_actions();
  });
}

Result<void> Server::add_device(Device& device, EventLoop& loop) {
  {
    const std::lock_guard lock(mutex_);
    BYGONE_ASSIGN(const OfferId id, control_.add_offer(device.offer()));
    ports_[id] = Port{&device, &loop, nullptr};
  }
  control_loop_.post([this] { run_actions(); });
  return {};
}

void Server::add_subchannels(OfferId primary, std::uint16_t count) {
  {
    const std::lock_guard lock(mutex_);
    const auto port = ports_.find(primary);
    if (port == ports_.end() || port->second.device == nullptr) return;
    const Port shared{port->second.device, port->second.loop, nullptr};
    auto added = control_.add_subchannels(primary, count);
    if (added) {
      for (const OfferId id : *added) ports_[id] = shared;
    } else if (complaints_.allow()) {
      log_.warning("{}", added.error().text());
    }
  }
  run_actions();
}

void Server::remove_device(Device& device, std::move_only_function<void()> removed) {
  {
    const std::lock_guard lock(mutex_);
    removals_.push_back({&device, std::move(removed)});
    std::vector<OfferId> ids;
    for (const auto& [id, port] : ports_) {
      if (port.device == &device) ids.push_back(id);
    }
    for (const OfferId id : ids) control_.revoke(id);
  }
  control_loop_.post([this] { run_actions(); });
}

/// Devices that are to go and have no channel any more. The guest may still have to release their ids.
void Server::finish_removals() {
  std::vector<Removal> done;
  {
    const std::lock_guard lock(mutex_);
    if (device_users_ != 0) return;
    for (auto removal = removals_.begin(); removal != removals_.end();) {
      const bool busy = std::ranges::any_of(
          ports_, [&](const auto& item) { return item.second.device == removal->device && item.second.opened; });
      if (busy) {
        ++removal;
        continue;
      }
      for (auto& [id, port] : ports_) {
        if (port.device == removal->device) port.device = nullptr;
      }
      done.push_back(std::move(*removal));
      removal = removals_.erase(removal);
    }
  }
  for (Removal& removal : done) {
    if (removal.done) removal.done();
  }
}

bool Server::wait_until_quiet() {
  std::unique_lock lock(mutex_);
  return settled_.wait_for(lock, kSettleTime, [this] { return control_.is_quiet() && incoming_.load() == 0; });
}

template <typename Work>
void Server::for_each_device(Work work) {
  std::vector<std::pair<Device*, EventLoop*>> devices;
  {
    const std::lock_guard lock(mutex_);
    ++device_users_;
    for (const auto& [id, port] : ports_) {
      const bool listed = std::ranges::any_of(devices, [&](const auto& item) { return item.first == port.device; });
      if (port.device != nullptr && !listed) devices.emplace_back(port.device, port.loop);
    }
  }
  for (const auto& [device, loop] : devices) {
    run_on(*loop, [&, target = device] { work(*target); });
  }
  const std::lock_guard lock(mutex_);
  if (--device_users_ == 0 && !removals_.empty()) control_loop_.post([this] { finish_removals(); });
}

void Server::reset() {
  run_on(control_loop_, [this] {
    {
      const std::lock_guard lock(mutex_);
      control_.reset();
    }
    run_actions();
    outgoing_.clear();
    backlog_ = 0;
  });
  if (!wait_until_quiet()) log_.error("a device does not let go of its channel; the reset goes on without it");
  for_each_device([](Device& device) { device.reset(); });
}

Result<void> Server::settle() {
  run_on(control_loop_, [] {});  // messages that came before the vCPUs stopped
  if (!wait_until_quiet()) return fail(ErrorCode::kBusy, "saving the bus: a channel does not finish opening or closing");
  return {};
}

Result<json> Server::save() {
  BYGONE_CHECK(settle());
  json state = {{"devices", json::object()}};
  Result<void> devices_saved;
  for_each_device([&](Device& device) {
    if (!devices_saved) return;
    auto saved = device.save();
    if (saved) {
      state["devices"][device.offer().name] = *std::move(saved);
    } else {
      devices_saved = std::unexpected(std::move(saved).error().within("saving " + device.offer().name));
    }
  });
  if (!devices_saved) return std::unexpected(std::move(devices_saved).error());
  Result<json> control;
  run_on(control_loop_, [&] {
    const std::lock_guard lock(mutex_);
    control = control_.save();
    json& messages = state["messages"] = json::array();
    for (const SendMessage& message : outgoing_) {
      const auto* first = reinterpret_cast<const std::uint8_t*>(message.bytes.data());
      messages.push_back({{"vp", message.target_vp},
                          {"bytes", json::binary(std::vector<std::uint8_t>(first, first + message.bytes.size()))}});
    }
  });
  if (!control) return control;
  state["control"] = *std::move(control);
  return state;
}

Result<void> Server::restore(const json& state) {
  const auto saved_devices = state.find("devices");
  const auto control = state.find("control");
  if (saved_devices == state.end() || control == state.end()) return fail(ErrorCode::kCorrupt, "saved bus state is incomplete");
  Result<void> outcome;
  for_each_device([&](Device& device) {
    const auto saved = saved_devices->find(device.offer().name);
    if (!outcome || saved == saved_devices->end()) return;  // new since then
    if (auto restored = device.restore(*saved); !restored) {
      outcome = std::unexpected(std::move(restored).error().within("restoring " + device.offer().name));
    }
  });
  if (!outcome) return outcome;
  run_on(control_loop_, [&] {
    try {
      for (const json& message : state.at("messages")) {
        SendMessage queued;
        queued.target_vp = message.at("vp").get<std::uint32_t>();
        for (const std::uint8_t byte : message.at("bytes").get_binary()) queued.bytes.push_back(std::byte{byte});
        outgoing_.push_back(std::move(queued));
      }
    } catch (const json::exception& error) {
      outcome = fail(ErrorCode::kCorrupt, "saved bus messages: {}", error.what());
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      auto restored = control_.restore(*control);
      if (!restored) {
        outcome = std::unexpected(std::move(restored).error());
        return;
      }
      for (const auto& subchannel : *restored) {
        const Port& primary = ports_.at(subchannel.primary);
        ports_[subchannel.offer] = Port{primary.device, primary.loop, nullptr};
      }
    }
    run_actions();
    pump_messages();
  });
  if (outcome && !wait_until_quiet()) return fail(ErrorCode::kBusy, "restoring the bus: a channel does not open");
  return outcome;
}

json Server::inspect() {
  json result = {{"devices", json::object()}};
  for_each_device([&](Device& device) { result["devices"][device.offer().name] = device.inspect(); });
  std::vector<std::pair<std::shared_ptr<OpenedChannel>, EventLoop*>> open;
  {
    const std::lock_guard lock(mutex_);
    result["bus"] = control_.inspect();
    for (const auto& [id, port] : ports_) {
      if (port.opened) open.emplace_back(port.opened, port.loop);
    }
  }
  for (const auto& [channel, loop] : open) {
    run_on(*loop, [&, target = channel] {
      const ChannelStatistics statistics = target->statistics();
      result["channels"][std::to_string(target->channel_id())] = {
          {"packets_received", statistics.packets_received}, {"packets_sent", statistics.packets_sent},
          {"signals_received", statistics.signals_received}, {"signals_sent", statistics.signals_sent},
          {"ring_full", statistics.ring_full}};
    });
  }
  return result;
}

}  // namespace bygone::vmbus
