#include "devices/integration/services.h"

#include <ctime>
#include <nlohmann/json.hpp>

#include "devices/integration/wide_text.h"
#include "spec/vmbus/interfaces.h"

namespace bygone::devices::integration {

namespace wire = spec::vmbus;
using wire::IntegrationMessage;

namespace {
constexpr int kLostAfter = 3;
constexpr std::uint32_t kShutdownTimeoutSeconds = 30;
/// Clocks that have parted by more than this since the last time (100 ns) have not drifted.
constexpr std::int64_t kSuddenly = 10'000'000;
}  // namespace

// Shutdown.

ShutdownService::ShutdownService(EventLoop& loop)
    : IntegrationService({"shutdown", wire::kShutdownInterface, wire::kShutdownInstance, IntegrationMessage::kShutdown,
                          {{1, 0}, {3, 0}, {3, 1}, {3, 2}}}),
      loop_(loop) {}

void ShutdownService::ask(Kind kind, Manner manner, std::string reason, Outcome done) {
  loop_.post([this, kind, manner, reason = std::move(reason), done = std::move(done)]() mutable {
    if (!is_ready()) {
      return done(fail(ErrorCode::kUnsupported, "the guest has no shutdown service running; shut it down from inside"));
    }
    if (pending_) return done(fail(ErrorCode::kBusy, "the guest has been asked to shut down and has not answered yet"));
    if (kind == Kind::kHibernate && version() < ServiceVersion{3, 2}) {
      return done(fail(ErrorCode::kUnsupported, "the guest's shutdown service cannot hibernate"));
    }
    wire::ShutdownRequest request = {};
    request.reason = wire::kShutdownReasonPlanned;
    request.timeout_seconds = kShutdownTimeoutSeconds;
    request.flags = (manner == Manner::kForced ? wire::kShutdownForce : 0) |
                    (kind == Kind::kRestart     ? wire::kShutdownRestart
                     : kind == Kind::kHibernate ? wire::kShutdownHibernate
                                                : 0);
    (void)put_wide(reason, request.message);
    if (!IntegrationService::request(bytes_of(request))) {
      return done(fail(ErrorCode::kBusy, "the guest does not take messages"));
    }
    pending_ = std::move(done);
  });
}

void ShutdownService::on_gone() {
  if (!pending_) return;
  auto done = std::exchange(pending_, nullptr);
  done(fail(ErrorCode::kCancelled, "the guest's shutdown service went away before it answered"));
}

Result<void> ShutdownService::on_response(std::uint32_t status, std::span<const std::byte>) {
  if (!pending_) return {};
  auto done = std::exchange(pending_, nullptr);
  if (status == wire::kIntegrationOk) {
    done({});
  } else {
    done(fail(ErrorCode::kPermissionDenied, "the guest refuses to shut down (status {:#x})", status));
  }
  return {};
}

// Heartbeat.

HeartbeatService::HeartbeatService(EventLoop& loop, std::chrono::milliseconds period)
    : IntegrationService({"heartbeat", wire::kHeartbeatInterface, wire::kHeartbeatInstance, IntegrationMessage::kHeartbeat,
                          {{1, 0}, {3, 0}}}),
      loop_(loop),
      period_(period) {}

HeartbeatService::~HeartbeatService() {
  if (timer_) loop_.cancel_timer(*timer_);
}

void HeartbeatService::on_ready() {
  unanswered_ = 0;
  beat();
}

void HeartbeatService::on_gone() {
  if (timer_) loop_.cancel_timer(*std::exchange(timer_, std::nullopt));
  health_ = Health::kNoContact;
}

void HeartbeatService::beat() {
  if (unanswered_ >= kLostAfter) health_ = Health::kLost;
  // A guest that answers nothing is asked no more often than its ring can hold.
  wire::HeartbeatData data = {};
  data.sequence = sequence_;
  if (unanswered_ < 2 * kLostAfter && request(bytes_of(data))) ++unanswered_;
  timer_ = loop_.add_timer(std::chrono::steady_clock::now() + period_, [this] {
    timer_.reset();
    beat();
  });
}

Result<void> HeartbeatService::on_response(std::uint32_t, std::span<const std::byte> body) {
  wire::HeartbeatData data;
  if (body.size() < sizeof data.sequence) return fail(ErrorCode::kCorrupt, "heartbeat: an answer of {} bytes", body.size());
  std::memcpy(&data, body.data(), std::min(body.size(), sizeof data));
  sequence_ = data.sequence;
  unanswered_ = 0;
  health_ = Health::kAlive;
  return {};
}

nlohmann::json HeartbeatService::inspect() const {
  auto result = IntegrationService::inspect();
  static constexpr std::array kNames = {"no contact", "alive", "lost"};
  result["health"] = kNames[static_cast<std::size_t>(health())];
  return result;
}

// Time.

std::uint64_t TimeSyncService::system_host_time() {
  timespec now = {};
  ::clock_gettime(CLOCK_REALTIME, &now);
  constexpr std::uint64_t kFrom1601To1970 = 11'644'473'600;  // seconds
  return (static_cast<std::uint64_t>(now.tv_sec) + kFrom1601To1970) * 10'000'000 + static_cast<std::uint64_t>(now.tv_nsec) / 100;
}

TimeSyncService::TimeSyncService(EventLoop& loop, Clocks clocks, std::chrono::milliseconds period)
    : IntegrationService({"timesync", wire::kTimeSyncInterface, wire::kTimeSyncInstance, IntegrationMessage::kTimeSync,
                          {{1, 0}, {3, 0}, {4, 0}}}),
      loop_(loop),
      clocks_(std::move(clocks)),
      period_(period) {}

TimeSyncService::~TimeSyncService() {
  if (timer_) loop_.cancel_timer(*timer_);
}

void TimeSyncService::on_ready() {
  send_time(true);
  schedule();
}

void TimeSyncService::on_gone() {
  if (timer_) loop_.cancel_timer(*std::exchange(timer_, std::nullopt));
}

void TimeSyncService::schedule() {
  timer_ = loop_.add_timer(std::chrono::steady_clock::now() + period_, [this] {
    timer_.reset();
    send_time(false);
    schedule();
  });
}

void TimeSyncService::step() {
  loop_.post([this] { send_time(false); });
}

void TimeSyncService::send_time(bool always_sets) {
  const std::uint64_t host_time = clocks_.host_time();
  const std::uint64_t reference_time = clocks_.reference_time();
  const auto offset = static_cast<std::int64_t>(host_time - reference_time);
  const bool parted = offset - offset_ > kSuddenly || offset_ - offset > kSuddenly;
  offset_ = offset;
  const std::uint8_t flags = always_sets || parted ? wire::kTimeSyncSync : wire::kTimeSyncSample;
  if (version() >= ServiceVersion{4, 0}) {
    wire::TimeSyncReferenceData data = {};
    data.host_time = host_time;
    data.reference_time = reference_time;
    data.flags = flags;
    request(bytes_of(data));
  } else {
    wire::TimeSyncData data = {};
    data.host_time = host_time;
    data.flags = flags;
    request(bytes_of(data));
  }
}

}  // namespace bygone::devices::integration
