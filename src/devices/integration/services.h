// The integration services: shutdown, heartbeat and time synchronisation. Key-value exchange is in key_value.h.
// Threading: as vmbus::Device; what the host asks for is marked, and posts to the loop.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "devices/integration/integration_service.h"
#include "support/event_loop.h"

namespace bygone::devices::integration {

/// Asks the guest to shut itself down cleanly (versions 1.0 to 3.2).
class ShutdownService final : public IntegrationService {
 public:
  enum class Kind { kPowerOff, kRestart, kHibernate };
  enum class Manner { kOrderly, kForced };  ///< forced: programs that do not answer are ended
  using Outcome = std::move_only_function<void(Result<void>)>;

  explicit ShutdownService(EventLoop& loop);

  /// Any thread. `done` is called on the loop when the guest has agreed (it goes down on its own then) or not.
  /// Errors: kUnsupported (no driver, or it cannot hibernate), kBusy (a request is under way), kPermissionDenied (it refused),
  /// kCancelled (the driver went away first: usually because the guest went down).
  void ask(Kind kind, Manner manner, std::string reason, Outcome done);

 private:
  void on_gone() override;
  [[nodiscard]] Result<void> on_response(std::uint32_t status, std::span<const std::byte> body) override;

  EventLoop& loop_;
  Outcome pending_;
};

/// Tells whether the guest is alive (versions 1.0 and 3.0).
class HeartbeatService final : public IntegrationService {
 public:
  explicit HeartbeatService(EventLoop& loop, std::chrono::milliseconds period = std::chrono::seconds(2));
  ~HeartbeatService() override;

  enum class Health { kNoContact, kAlive, kLost };
  /// Any thread. kLost: three beats went unanswered.
  [[nodiscard]] Health health() const { return health_.load(); }
  [[nodiscard]] nlohmann::json inspect() const override;

 private:
  void on_ready() override;
  void on_gone() override;
  [[nodiscard]] Result<void> on_response(std::uint32_t status, std::span<const std::byte> body) override;
  void beat();

  EventLoop& loop_;
  const std::chrono::milliseconds period_;
  std::optional<EventLoop::TimerId> timer_;
  std::uint64_t sequence_ = 0;
  int unanswered_ = 0;
  std::atomic<Health> health_ = Health::kNoContact;
};

/// Keeps the guest's clock with the host's (versions 1.0, 3.0 and 4.0). Where the two part suddenly (the host was suspended or its
/// clock set, the machine was paused or saved) the guest is told to set its clock; otherwise to steer it.
class TimeSyncService final : public IntegrationService {
 public:
  struct Clocks {
    std::function<std::uint64_t()> host_time;       ///< 100 ns since 1601-01-01 UTC
    std::function<std::uint64_t()> reference_time;  ///< the partition's, 100 ns
  };
  /// The system's clock in Windows' form.
  [[nodiscard]] static std::uint64_t system_host_time();

  TimeSyncService(EventLoop& loop, Clocks clocks, std::chrono::milliseconds period = std::chrono::seconds(5));
  ~TimeSyncService() override;

  /// The guest's clock may have stood still: looks, and sets it if so, now instead of at the next period. Any thread.
  void step();

 private:
  void on_ready() override;
  void on_gone() override;
  [[nodiscard]] Result<void> on_response(std::uint32_t, std::span<const std::byte>) override { return {}; }
  void send_time(bool always_sets);
  void schedule();

  EventLoop& loop_;
  Clocks clocks_;
  const std::chrono::milliseconds period_;
  std::optional<EventLoop::TimerId> timer_;
  std::int64_t offset_ = 0;  ///< host time less reference time when the guest was last told
};

}  // namespace bygone::devices::integration
