// Key-value exchange: what the guest tells of itself (name, addresses, operating system), and what the host writes for the
// guest's programs to read (versions 1.0 to 5.0).
//
// One request is under way at a time, as the guest's daemon wants it; more wait here, up to a bound. The guest's own pools are
// read once it is there and then every period.
// Threading: as vmbus::Device; set(), remove(), refresh() and values() from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "devices/integration/integration_service.h"
#include "support/event_loop.h"
#include "support/guarded.h"

namespace bygone::devices::integration {

using KeyValues = std::map<std::string, std::string>;

class KeyValueService final : public IntegrationService {
 public:
  /// `host`: what the guest may know of its host and itself (pool kHost): HostName, VirtualMachineName…
  explicit KeyValueService(EventLoop& loop, KeyValues host = {}, std::chrono::milliseconds period = std::chrono::seconds(60));
  ~KeyValueService() override;

  /// Writes a value that the guest can read (pool kExternal), or takes it away. Kept, and written again after a reboot.
  /// Errors: kInvalidArgument (empty or too long), kExhausted (too many).
  [[nodiscard]] Result<void> set(const std::string& key, const std::string& value);
  void remove(const std::string& key);
  /// Asks the guest for its pools now instead of at the next period; values() has them a moment later.
  void refresh();
  /// What the guest last told in one of its pools (kGuest, kAutomatic), or what it is told (kExternal, kHost).
  [[nodiscard]] KeyValues values(spec::vmbus::KeyValuePool pool) const;

  [[nodiscard]] nlohmann::json inspect() const override;

 private:
  [[nodiscard]] Result<nlohmann::json> save_state() override;
  [[nodiscard]] Result<void> restore_state(const nlohmann::json& state) override;
  struct Task {
    spec::vmbus::KeyValueOperation operation = spec::vmbus::KeyValueOperation::kEnumerate;
    spec::vmbus::KeyValuePool pool = spec::vmbus::KeyValuePool::kAutomatic;
    std::uint32_t index = 0;
    std::string key;
    std::string value;
  };
  struct Known {
    KeyValues external;   ///< what the host wants the guest to have
    KeyValues guest;
    KeyValues automatic;
  };

  void on_ready() override;
  void on_gone() override;
  [[nodiscard]] Result<void> on_response(std::uint32_t status, std::span<const std::byte> body) override;
  void read_pools();
  void enqueue(Task task);
  void start_next();
  [[nodiscard]] bool send_task(const Task& task);
  [[nodiscard]] Result<void> on_item(std::span<const std::byte> body);

  EventLoop& loop_;
  const KeyValues host_;
  const std::chrono::milliseconds period_;
  std::optional<EventLoop::TimerId> timer_;
  std::deque<Task> tasks_;
  std::optional<Task> current_;
  KeyValues collecting_;
  Guarded<Known> known_;
};

}  // namespace bygone::devices::integration
