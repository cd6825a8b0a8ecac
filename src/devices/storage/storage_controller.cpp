#include "devices/storage/storage_controller.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <nlohmann/json.hpp>

#include "devices/storage/inquiry.h"
#include "devices/storage/scsi_disk.h"
#include "spec/vmbus/interfaces.h"

namespace bygone::devices::storage {

namespace scsi = spec::scsi;
namespace wire = spec::vmbus;
using wire::StorageOperation;

namespace {

/// Requests of one channel that may be on their way at once; more wait in the ring.
constexpr std::size_t kMaximumInFlight = 512;
/// What they may hold of the host's memory, page lists above all: 512 of the largest that we allow take half of it.
constexpr std::size_t kMaximumHeldBytes = 8U << 20;
constexpr std::size_t kBytesOfAPage = 32;  // its number, twice, and its iovec
constexpr std::uint32_t kMaximumTransferBytes = 1U << 20;
/// After requests for so many pages a turn ends: the guest hears of those that are done, and works on them while the next ones are copied.
constexpr std::size_t kPagesATurn = 128;
constexpr std::size_t kSmallestPacket = 12;  // the header; the body is zeroes then
constexpr std::size_t kKeptRequests = 64;
constexpr std::size_t kKeptBytes = 32768;  // larger ones are not kept

template <typename T>
T body_as(const wire::StoragePacket& packet) {
  static_assert(sizeof(T) <= sizeof packet.body);
  T value;
  std::memcpy(&value, packet.body.data(), sizeof value);
  return value;
}

template <typename T>
void set_body(wire::StoragePacket& packet, const T& value) {
  static_assert(sizeof(T) <= sizeof packet.body);
  std::memcpy(packet.body.data(), &value, sizeof value);
}

}  // namespace

/// A packet on its way from the ring to its reply. Reused, so that its buffers are.
struct StorageController::Request {
  vmbus::Packet packet;
  std::uint64_t transaction_id = 0;
  wire::StoragePacket reply = {};
  ChannelState* channel = nullptr;
  std::shared_ptr<ScsiTarget> target;  ///< keeps a detached one alive
  ScsiOutcome outcome;
  std::uint8_t refusal = 0;            ///< an SRB status: the command never reached a target
  std::size_t held_bytes = 0;          ///< about what it takes of the host's memory
};

struct StorageController::ChannelState {
  explicit ChannelState(vmbus::Channel& opened) : channel(opened) {}
  vmbus::Channel& channel;
  std::size_t in_flight = 0;
  std::size_t held_bytes = 0;                    ///< of those in flight
  std::deque<std::unique_ptr<Request>> replies;  ///< done, waiting for room in the ring
  bool stopped_reading = false;                  ///< enough is in flight, or replies wait
  Closed closed;                                 ///< set: closing
};

StorageController::StorageController(StorageOptions options, EventLoop& loop) : options_(std::move(options)), loop_(loop) {
  offer_.name = options_.name;
  offer_.interface_type = wire::kStorageInterface;
  offer_.instance = options_.instance;
  offer_.flags = wire::kOfferEnumerateDeviceInterface;
  offer_.maximum_subchannels = options_.maximum_subchannels;
}

StorageController::~StorageController() {
  // The loop has stopped. Block devices still complete what they have, on their own threads, into this object.
  std::unique_lock lock(mutex_);
  completed_.wait(lock, [this] { return completions_.size() >= in_flight_; });
}

// Attaching and detaching.

void StorageController::attach(std::uint8_t lun, std::shared_ptr<ScsiTarget> target, ScsiDvd* dvd) {
  loop_.post([this, lun, target = std::move(target), dvd]() mutable {
    luns_[lun] = Lun{std::move(target), dvd, 0};
    tell_bus_changed();
  });
}

void StorageController::attach_disk(std::uint8_t lun, std::shared_ptr<disk::BlockDevice> device) {
  attach(lun, std::make_shared<ScsiDisk>(std::move(device)), nullptr);
}

void StorageController::attach_dvd(std::uint8_t lun, Medium medium, std::function<void()> ejected) {
  auto drive = std::make_shared<ScsiDvd>(std::move(medium), std::move(ejected));
  ScsiDvd* dvd = drive.get();
  attach(lun, std::move(drive), dvd);
}

void StorageController::detach(std::uint8_t lun, std::move_only_function<void()> done) {
  loop_.post([this, lun, done = std::move(done)]() mutable {
    const auto found = luns_.find(lun);
    std::weak_ptr<ScsiTarget> target;
    if (found != luns_.end()) {
      target = found->second.target;
      luns_.erase(found);
      tell_bus_changed();
    }
    if (done) detaches_.push_back({std::move(target), std::move(done)});
    finish_detaches();
  });
}

void StorageController::finish_detaches() {
  for (auto detach = detaches_.begin(); detach != detaches_.end();) {
    if (!detach->target.expired()) {
      ++detach;
      continue;
    }
    auto done = std::move(detach->done);
    detach = detaches_.erase(detach);
    done();
  }
}

void StorageController::insert_medium(std::uint8_t lun, Medium medium, std::move_only_function<void(Result<void>)> done) {
  loop_.post([this, lun, medium = std::move(medium), done = std::move(done)]() mutable {
    const auto found = luns_.find(lun);
    Result<void> outcome;
    if (found == luns_.end() || found->second.dvd == nullptr) {
      outcome = fail(ErrorCode::kNotFound, "{} has no DVD drive at {}", options_.name, lun);
    } else {
      found->second.dvd->insert(std::move(medium));
    }
    if (done) done(std::move(outcome));
  });
}

Medium StorageController::medium(std::uint8_t lun) const {
  const auto found = luns_.find(lun);
  return found == luns_.end() || found->second.dvd == nullptr ? Medium{} : found->second.dvd->medium();
}

void StorageController::eject_medium(std::uint8_t lun, ScsiDvd::Force force, std::move_only_function<void(Result<void>)> done) {
  loop_.post([this, lun, force, done = std::move(done)]() mutable {
    const auto found = luns_.find(lun);
    Result<void> outcome;
    if (found == luns_.end() || found->second.dvd == nullptr) {
      outcome = fail(ErrorCode::kNotFound, "{} has no DVD drive at {}", options_.name, lun);
    } else {
      outcome = found->second.dvd->eject(force);
    }
    if (done) done(std::move(outcome));
  });
}

void StorageController::announce_resize(std::uint8_t lun) {
  loop_.post([this, lun] {
    const auto found = luns_.find(lun);
    if (found == luns_.end()) return;
    found->second.target->raise_attention(scsi::kCapacityChanged);
    tell_bus_changed();
  });
}

/// Asks the guest to look which LUNs there are; it does so with commands of its own.
void StorageController::tell_bus_changed() {
  bus_changed_ = true;
  if (phase_ != Phase::kReady) {
    bus_changed_ = false;  // it will look anyway
    return;
  }
  for (auto& [key, state] : channels_) {
    if (state->channel.parameters().subchannel_index != 0 || state->closed) continue;
    wire::StoragePacket packet = {};
    packet.operation = static_cast<std::uint32_t>(StorageOperation::kEnumerateBus);
    auto sent = state->channel.send({bytes_of(packet).first(packet_size())});
    if (!sent) return state->channel.fail(std::move(sent).error());
    if (*sent) {
      bus_changed_ = false;
      state->channel.flush();
    }
  }
}

// Channels.

StorageController::ChannelState* StorageController::find(const vmbus::Channel& channel) const {
  const auto found = channels_.find(&channel);
  return found == channels_.end() ? nullptr : found->second.get();
}

Result<void> StorageController::open(vmbus::Channel& channel) {
  const auto& parameters = channel.parameters();
  if (parameters.subchannel_index == 0 && !parameters.is_restored) {
    phase_ = Phase::kNew;
    version_ = 0;
  }
  auto& state = channels_[&channel] = std::make_unique<ChannelState>(channel);
  if (parameters.is_restored) {
    for (auto& request : restored_replies_[parameters.channel_id]) state->replies.push_back(std::move(request));
    restored_replies_.erase(parameters.channel_id);
  }
  return {};
}

void StorageController::close(vmbus::Channel& channel, Closed done) {
  ChannelState* state = find(channel);
  if (state == nullptr) return done();
  state->replies.clear();
  if (channel.parameters().subchannel_index == 0) phase_ = Phase::kNew;
  if (state->in_flight == 0) {
    channels_.erase(&channel);
    return done();
  }
  state->closed = std::move(done);  // when the last request has let go of the guest's memory
}

Result<void> StorageController::on_signal(vmbus::Channel& channel) {
  ChannelState* state = find(channel);
  if (state == nullptr || state->closed) return {};
  if (bus_changed_) tell_bus_changed();
  return drain(*state);
}

std::size_t StorageController::requests_in_flight(const vmbus::Channel& channel) const {
  const ChannelState* state = find(channel);
  return state == nullptr ? 0 : state->in_flight;
}

Result<void> StorageController::drain(ChannelState& state) {
  BYGONE_CHECK(send_replies(state));
  state.stopped_reading = false;
  draining_ = true;
  {
    const std::lock_guard lock(mutex_);
    completions_posted_ = true;  // for this drain looks at its end
  }
  std::size_t pages = 0;
  auto work = [&]() -> Result<void> {
    for (;;) {
      if (pages >= kPagesATurn) {
        state.channel.receive_again();
        return {};
      }
      if (state.in_flight >= kMaximumInFlight || state.held_bytes >= kMaximumHeldBytes || !state.replies.empty()) {
        state.stopped_reading = true;
        return {};
      }
      auto request = take_request();
      BYGONE_ASSIGN(const bool got, state.channel.receive(request->packet));
      if (!got) {
        free_requests_.push_back(std::move(request));
        return {};
      }
      pages += request->packet.buffers().pages().size();
      BYGONE_CHECK(handle_packet(state, std::move(request)));
    }
  };
  auto result = work();
  draining_ = false;
  // What was answered at once goes out with this drain's signal.
  process_completions();
  return result;
}

std::unique_ptr<StorageController::Request> StorageController::take_request() {
  if (free_requests_.empty()) return std::make_unique<Request>();
  auto request = std::move(free_requests_.back());
  free_requests_.pop_back();
  return request;
}

std::size_t StorageController::packet_size() const {
  return version_ != 0 && version_ < wire::kStorageVersion5_1 ? wire::kStoragePacketSizeBefore5_1 : sizeof(wire::StoragePacket);
}

Result<void> StorageController::handle_packet(ChannelState& state, std::unique_ptr<Request> request) {
  const vmbus::Packet& packet = request->packet;
  if (packet.type() != vmbus::PacketType::kInBand && packet.type() != vmbus::PacketType::kGpaDirect) {
    if (packet.type() == vmbus::PacketType::kCompletion) return {};
    return fail(ErrorCode::kCorrupt, "a storage packet of type {}", static_cast<int>(packet.type()));
  }
  if (packet.payload().size() < kSmallestPacket) {
    return fail(ErrorCode::kCorrupt, "a storage packet of {} bytes", packet.payload().size());
  }
  request->reply = {};
  std::memcpy(&request->reply, packet.payload().data(), std::min(packet.payload().size(), packet_size()));
  request->transaction_id = packet.transaction_id();
  request->channel = &state;
  request->target.reset();
  request->refusal = 0;
  request->held_bytes = packet.payload().size() + packet.buffers().pages().size() * kBytesOfAPage;
  if (request->reply.operation == static_cast<std::uint32_t>(StorageOperation::kExecuteSrb)) {
    ++state.in_flight;
    ++in_flight_;
    state.held_bytes += request->held_bytes;
    execute(std::move(request));
    return {};
  }
  handle_control(state, request->reply);
  request->reply.operation = static_cast<std::uint32_t>(StorageOperation::kCompleteIo);
  if (packet.wants_completion()) state.replies.push_back(std::move(request));
  return send_replies(state);
}

void StorageController::handle_control(ChannelState& state, wire::StoragePacket& reply) {
  const auto operation = static_cast<StorageOperation>(reply.operation.value());
  const bool primary = state.channel.parameters().subchannel_index == 0;
  reply.status = wire::kStorageStatusInvalidState;
  switch (operation) {
    case StorageOperation::kBeginInitialization:
      if (primary && phase_ == Phase::kNew) {
        phase_ = Phase::kBegun;
        reply.status = wire::kStorageStatusSuccess;
      }
      return;
    case StorageOperation::kQueryProtocolVersion:
      if (primary && phase_ == Phase::kBegun) reply.status = negotiate(reply);
      return;
    case StorageOperation::kQueryProperties:
      if (primary && phase_ == Phase::kVersioned) {
        wire::StorageChannelProperties properties = {};
        if (version_ >= wire::kStorageVersion5_1 && options_.maximum_subchannels != 0) {
          properties.maximum_subchannels = options_.maximum_subchannels;
          properties.flags = wire::kStorageMultiChannel;
        }
        properties.maximum_transfer_bytes = kMaximumTransferBytes;
        set_body(reply, properties);
        phase_ = Phase::kPropertiesKnown;
        reply.status = wire::kStorageStatusSuccess;
      }
      return;
    case StorageOperation::kEndInitialization:
      if (primary && phase_ == Phase::kPropertiesKnown) {
        phase_ = Phase::kReady;
        reply.status = wire::kStorageStatusSuccess;
      }
      return;
    case StorageOperation::kCreateSubChannels: {
      const std::uint16_t count = body_as<le16>(reply);
      if (primary && phase_ == Phase::kReady && version_ >= wire::kStorageVersion5_1 && count <= options_.maximum_subchannels) {
        if (count != 0) state.channel.offer_subchannels(count);
        reply.status = wire::kStorageStatusSuccess;
      }
      return;
    }
    case StorageOperation::kResetLun:
    case StorageOperation::kResetAdapter:
    case StorageOperation::kResetBus:
      // Requests on their way complete as ever: the guest waits for them afterwards.
      if (phase_ == Phase::kReady) reply.status = wire::kStorageStatusSuccess;
      return;
    default: reply.status = wire::kStorageStatusInvalidRequest; return;
  }
}

std::uint32_t StorageController::negotiate(wire::StoragePacket& reply) {
  const std::uint16_t asked = body_as<le16>(reply);
  switch (asked) {
    case wire::kStorageVersion4_2:
    case wire::kStorageVersion5_1:
    case wire::kStorageVersion6_0:
    case wire::kStorageVersion6_2:
      version_ = asked;
      phase_ = Phase::kVersioned;
      return wire::kStorageStatusSuccess;
    default: return wire::kStorageStatusRevisionMismatch;
  }
}

// Commands.

void StorageController::execute(std::unique_ptr<Request> request) {
  const auto srb = body_as<wire::StorageScsiRequest>(request->reply);
  ++commands_;
  request->reply.status = wire::kStorageStatusSuccess;
  if (phase_ != Phase::kReady) {
    request->reply.status = wire::kStorageStatusInvalidState;
    request->refusal = wire::kSrbInvalidRequest;
    return complete(std::move(request), {});
  }
  ScsiCommand command;
  const std::size_t length = std::min<std::size_t>(srb.cdb_length, command.cdb.size());
  std::copy_n(srb.cdb_or_sense.begin(), length, command.cdb.begin());
  const vmbus::PageRanges& buffers = request->packet.buffers();
  command.data = DataBuffer(request->channel->channel.memory(), buffers,
                            std::min<std::uint64_t>(buffers.total_bytes(), srb.data_transfer_length));
  if (command.opcode() == scsi::Opcode::kWriteSame10 || command.opcode() == scsi::Opcode::kWriteSame16) {
    request->held_bytes += kWriteSameBytes;
    request->channel->held_bytes += kWriteSameBytes;
  }
  const auto lun = luns_.find(srb.lun);
  const bool here = srb.path == 0 && srb.target == 0;
  if (here && command.opcode() == scsi::Opcode::kReportLuns) {
    ScsiOutcome outcome = report_luns(command);
    return complete(std::move(request), std::move(outcome));
  }
  if (!here || lun == luns_.end()) return execute_without_target(std::move(request), command);
  ++lun->second.commands;
  request->target = lun->second.target;
  ScsiTarget& target = *request->target;
  target.execute(command, [this, request = std::move(request)](ScsiOutcome outcome) mutable {
    complete(std::move(request), std::move(outcome));
  });
}

void StorageController::execute_without_target(std::unique_ptr<Request> request, const ScsiCommand& command) {
  ScsiOutcome outcome;
  if (command.opcode() == scsi::Opcode::kInquiry) {
    // Guests that scan take any other refusal of INQUIRY for a device of unknown kind.
    outcome = inquire_missing(command);
  } else if (command.opcode() == scsi::Opcode::kReportLuns) {
    const std::array<std::byte, 8> none = {};
    outcome = reply(command, none, command.field<be32>(6));
  } else {
    request->refusal = wire::kSrbInvalidLun;
  }
  complete(std::move(request), std::move(outcome));
}

/// SPC-4 6.33, on behalf of all LUNs.
ScsiOutcome StorageController::report_luns(const ScsiCommand& command) const {
  std::vector<std::byte> data(8 + luns_.size() * 8);
  const be32 length(static_cast<std::uint32_t>(luns_.size() * 8));
  std::memcpy(data.data(), &length, sizeof length);
  std::size_t at = 8;
  for (const auto& [lun, entry] : luns_) {
    data[at + 1] = std::byte{lun};
    at += 8;
  }
  return reply(command, data, command.field<be32>(6));
}

void StorageController::complete(std::unique_ptr<Request> request, ScsiOutcome outcome) {
  request->outcome = std::move(outcome);
  // All under the lock: as soon as it is free the destructor may go on.
  const std::lock_guard lock(mutex_);
  completions_.push_back(std::move(request));
  completed_.notify_one();
  // One post for all that come until the loop looks.
  if (!std::exchange(completions_posted_, true)) loop_.post([this] { process_completions(); });
}

void StorageController::process_completions() {
  if (draining_) return;  // the drain ends with this
  std::vector<std::unique_ptr<Request>> done;
  {
    const std::lock_guard lock(mutex_);
    done.swap(completions_);
    completions_posted_ = false;
  }
  // Looked up again each time: working on one channel may end another.
  std::vector<const vmbus::Channel*> touched;
  for (auto& request : done) {
    ChannelState& state = *request->channel;
    finish(state, *request);
    request->target.reset();
    request->outcome.keep.reset();
    --state.in_flight;
    --in_flight_;
    state.held_bytes -= request->held_bytes;
    if (!state.closed) state.replies.push_back(std::move(request));
    if (std::ranges::find(touched, &state.channel) == touched.end()) touched.push_back(&state.channel);
  }
  for (const vmbus::Channel* channel : touched) {
    ChannelState* state = find(*channel);
    if (state == nullptr) continue;
    if (state->closed) {
      if (state->in_flight != 0) continue;
      Closed closed = std::move(state->closed);
      channels_.erase(&state->channel);
      closed();
      continue;
    }
    auto sent = send_replies(*state);
    // Not from here: each drain of a guest that fills its ring without end would lead to the next.
    if (state->stopped_reading && state->replies.empty()) state->channel.receive_again();
    if (!sent) {
      state->channel.fail(std::move(sent).error());
      continue;
    }
    state->channel.flush();
  }
  if (!done.empty()) finish_detaches();
}

/// The guest gets sense data; this is for the people of the host.
void StorageController::report_host_failure(const wire::StorageScsiRequest& srb, const std::string& what) {
  ++host_failures_;
  last_host_failure_ = fmt::format("LUN {}: {}", srb.lun, what);
  if (host_complaints_.allow()) options_.log.error("{}, {}; the guest has been told that its command failed", options_.name, last_host_failure_);
}

/// Turns an outcome into the reply that the guest gets.
void StorageController::finish(ChannelState& state, Request& request) {
  const ScsiOutcome& outcome = request.outcome;
  auto srb = body_as<wire::StorageScsiRequest>(request.reply);
  if (outcome.written_in_place != 0) {
    request.packet.buffers().mark_dirty(state.channel.memory(), 0, outcome.written_in_place);
  }
  srb.data_transfer_length = static_cast<std::uint32_t>(outcome.transferred);
  srb.sense_length = 0;
  srb.scsi_status = scsi::kStatusGood;
  if (request.refusal != 0) {
    srb.srb_status = request.refusal;
    ++failures_;
  } else if (outcome.overrun) {
    srb.srb_status = wire::kSrbDataOverrun;
    ++failures_;
  } else if (outcome.status == scsi::kStatusGood) {
    srb.srb_status = wire::kSrbSuccess;
  } else {
    ++failures_;
    if (!outcome.host_failure.empty()) report_host_failure(srb, outcome.host_failure);
    srb.scsi_status = outcome.status;
    srb.srb_status = wire::kSrbError | wire::kSrbAutosenseValid;
    srb.sense_length = sizeof outcome.sense;
    srb.cdb_or_sense = {};
    std::memcpy(srb.cdb_or_sense.data(), &outcome.sense, sizeof outcome.sense);
  }
  set_body(request.reply, srb);
  request.reply.flags = 0U;
  request.reply.operation = static_cast<std::uint32_t>(StorageOperation::kCompleteIo);
}

Result<void> StorageController::send_replies(ChannelState& state) {
  while (!state.replies.empty()) {
    auto& request = state.replies.front();
    BYGONE_ASSIGN(const bool sent, state.channel.complete(request->transaction_id,
                                                          bytes_of(request->reply).first(packet_size())));
    if (!sent) return {};
    if (free_requests_.size() < kKeptRequests && request->held_bytes <= kKeptBytes) free_requests_.push_back(std::move(request));
    state.replies.pop_front();
  }
  return {};
}

// Life cycle.

void StorageController::reset() {
  phase_ = Phase::kNew;
  version_ = 0;
  bus_changed_ = false;
  for (auto& [lun, entry] : luns_) entry.target->reset();
}

Result<nlohmann::json> StorageController::save() {
  // No vCPU runs, so nothing new comes; what is on its way ends in the rings. An image whose host does not answer never ends.
  const auto limit = std::chrono::steady_clock::now() + options_.save_limit;
  while (in_flight_ != 0) {
    {
      std::unique_lock lock(mutex_);
      if (!completed_.wait_until(lock, limit, [this] { return !completions_.empty(); })) {
        return fail(ErrorCode::kBusy, "{}: {} requests to disk images have not ended", options_.name, in_flight_);
      }
    }
    process_completions();
  }
  nlohmann::json state = {{"version", 1}, {"phase", static_cast<int>(phase_)}, {"protocol", version_},
                          {"bus_changed", bus_changed_}, {"luns", nlohmann::json::object()}};
  for (const auto& [lun, entry] : luns_) state["luns"][std::to_string(lun)] = entry.target->save();
  // Replies that found the ring full.
  nlohmann::json& replies = state["replies"] = nlohmann::json::array();
  for (const auto& [key, channel] : channels_) {
    for (const auto& request : channel->replies) {
      const auto* first = reinterpret_cast<const std::uint8_t*>(&request->reply);
      replies.push_back({{"channel", channel->channel.parameters().channel_id},
                         {"transaction", request->transaction_id},
                         {"packet", nlohmann::json::binary({first, first + sizeof request->reply})}});
    }
  }
  return state;
}

Result<void> StorageController::restore(const nlohmann::json& state) {
  try {
    if (state.at("version").get<int>() != 1) return fail(ErrorCode::kUnsupported, "storage state of an unknown version");
    const int phase = state.at("phase").get<int>();
    if (phase < 0 || phase > static_cast<int>(Phase::kReady)) return fail(ErrorCode::kCorrupt, "storage state with phase {}", phase);
    for (const auto& [key, saved] : state.at("luns").items()) {
      const auto found = std::ranges::find_if(luns_, [&](const auto& item) { return std::to_string(item.first) == key; });
      if (found == luns_.end()) return fail(ErrorCode::kNotFound, "{} had something at LUN {} when it was saved", options_.name, key);
      BYGONE_CHECK(found->second.target->restore(saved));
    }
    phase_ = static_cast<Phase>(phase);
    version_ = state.at("protocol").get<std::uint16_t>();
    bus_changed_ = state.at("bus_changed").get<bool>();
    for (const nlohmann::json& saved : state.at("replies")) {
      auto request = std::make_unique<Request>();
      request->transaction_id = saved.at("transaction").get<std::uint64_t>();
      const auto& bytes = saved.at("packet").get_binary();
      std::memcpy(&request->reply, bytes.data(), std::min(bytes.size(), sizeof request->reply));
      restored_replies_[saved.at("channel").get<std::uint32_t>()].push_back(std::move(request));
    }
  } catch (const nlohmann::json::exception& error) {
    return fail(ErrorCode::kCorrupt, "storage state: {}", error.what());
  }
  return {};
}

nlohmann::json StorageController::inspect() const {
  nlohmann::json result = {{"ready", phase_ == Phase::kReady},
                           {"protocol", fmt::format("{}.{}", version_ >> 8, version_ & 0xFF)},
                           {"channels", channels_.size()},
                           {"in_flight", in_flight_},
                           {"commands", commands_.get()},
                           {"failures", failures_},
                           {"host_failures", host_failures_},
                           {"last_host_failure", last_host_failure_},
                           {"luns", nlohmann::json::object()}};
  for (const auto& [lun, entry] : luns_) {
    result["luns"][std::to_string(lun)] = entry.target->inspect();
    result["luns"][std::to_string(lun)]["commands"] = entry.commands;
  }
  return result;
}

}  // namespace bygone::devices::storage
