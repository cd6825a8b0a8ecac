// Carries what the video device tells from its loop to the control server's: modes with the memory behind them, damage, the pointer.
// Threading: the observer's calls on the device's loop; the rest on the server's.
#pragma once

#include <mutex>
#include <optional>
#include <vector>

#include "devices/video/video.h"
#include "memory/guest_memory.h"
#include "service/control/server.h"
#include "support/event_loop.h"

namespace bygone::programs::vm {

class ScreenFeed final : public devices::video::ScreenObserver {
 public:
  /// Opens guest memory for reading by others, so before the sandbox closes the way. All outlive the feed.
  [[nodiscard]] static Result<std::unique_ptr<ScreenFeed>> create(EventLoop& loop, const memory::GuestMemory& memory);

  /// Null: nobody is told. On the server's loop.
  void set_server(service::control::Server* server) { server_ = server; }
  /// As last told: the mode with the memory that it lies in, and the pointer.
  [[nodiscard]] service::control::ScreenNow screen() const;
  [[nodiscard]] const service::control::ScreenMode& mode() const { return mode_; }

  void mode_changed(const devices::video::ScreenMode& mode) override;
  void damaged(const devices::video::Rectangle& area) override;
  void pointer_shaped(const devices::video::PointerShape& shape) override;
  void pointer_moved(bool is_visible, std::int32_t x, std::int32_t y) override;

 private:
  struct Range {
    memory::Gpa base;
    std::uint64_t size;
    UniqueFd file;
  };
  explicit ScreenFeed(EventLoop& loop) : loop_(loop) {}
  [[nodiscard]] const Range* find(const devices::video::ScreenMode& mode) const;
  void tell_mode(const devices::video::ScreenMode& mode);
  void tell_damage();

  EventLoop& loop_;
  std::vector<Range> ranges_;
  service::control::Server* server_ = nullptr;
  service::control::ScreenMode mode_;
  const Range* mode_range_ = nullptr;
  service::control::PointerShape pointer_;
  UniqueFd pointer_file_;  ///< sealed; none before the guest has shown a pointer
  service::control::PointerMoved place_;
  std::mutex mutex_;
  std::vector<devices::video::Rectangle> damage_;  // guarded by mutex_; not yet carried over
};

}  // namespace bygone::programs::vm
