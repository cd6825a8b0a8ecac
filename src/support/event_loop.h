// One thread's event loop: file descriptors, timers and work posted from other threads.
// Threading: watch(), change_events(), unwatch(), post(), stop(), hold(), release() and post_held() from any thread; everything else on
// the loop's own thread or before run().
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "support/pace.h"
#include "support/result.h"
#include "support/unique_fd.h"

namespace bygone {

class EventLoop {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Task = std::move_only_function<void()>;
  /// `events` are epoll's EPOLLIN, EPOLLOUT, …
  using FdHandler = std::function<void(std::uint32_t events)>;
  enum class TimerId : std::uint64_t {};

  [[nodiscard]] static Result<std::unique_ptr<EventLoop>> create();
  ~EventLoop();

  /// Calls `handler` on the loop whenever one of `events` is there. The caller keeps `fd` open until unwatch(fd), which waits for
  /// nothing: called by another thread it may return while the handler runs.
  [[nodiscard]] Result<void> watch(int fd, std::uint32_t events, FdHandler handler);
  [[nodiscard]] Result<void> change_events(int fd, std::uint32_t events);
  void unwatch(int fd);

  /// Calls `task` once at or after `when`.
  TimerId add_timer(TimePoint when, Task task);
  void cancel_timer(TimerId id);

  /// Queues `task` to run on the loop, in order.
  void post(Task task);

  /// Stops the loop, which another thread runs, from doing anything but post_held() work; returns when it has stopped. Whoever looks
  /// at a whole machine holds its loops, so that nothing moves meanwhile. Not twice.
  void hold();
  void release();
  /// As post(), and the task runs also if the loop is held now.
  void post_held(Task task);

  /// Of the thread that runs the loop, for who serves a guest on it.
  [[nodiscard]] Pace& pace() { return pace_; }

  /// Runs until stop().
  void run();
  /// Runs what is ready, waiting at most `limit` for something to become so. For tests and for embedding.
  void run_once(std::chrono::milliseconds limit);
  void stop();

 private:
  EventLoop(UniqueFd epoll, UniqueFd wake, UniqueFd timer);
  [[nodiscard]] std::shared_ptr<FdHandler> handler_of(int fd);
  void run_due_timers();
  void run_posted();
  void run_held();
  void arm_timer();
  void wake();

  UniqueFd epoll_;
  UniqueFd wake_;
  UniqueFd timer_;
  std::map<std::pair<TimePoint, std::uint64_t>, Task> timers_;
  std::uint64_t next_timer_ = 1;
  std::mutex mutex_;
  std::map<int, std::shared_ptr<FdHandler>> handlers_;  // guarded by mutex_
  std::thread::id thread_;        // who runs the loop, or did so last; guarded by mutex_
  std::vector<Task> posted_;      // guarded by mutex_
  bool will_look_ = false;        // at posted_, before it sleeps; guarded by mutex_
  std::vector<Task> posted_held_;  // guarded by mutex_
  bool hold_wanted_ = false;       // guarded by mutex_
  bool is_held_ = false;           // guarded by mutex_
  std::condition_variable hold_changed_;
  bool stop_requested_ = false;  // guarded by mutex_
  Pace pace_;
};

/// Holds a loop while it lives.
class LoopHold {
 public:
  explicit LoopHold(EventLoop& loop) : loop_(&loop) { loop.hold(); }
  LoopHold(LoopHold&& other) noexcept : loop_(std::exchange(other.loop_, nullptr)) {}
  LoopHold& operator=(LoopHold&&) = delete;
  ~LoopHold() {
    if (loop_ != nullptr) loop_->release();
  }

 private:
  EventLoop* loop_;
};

}  // namespace bygone
