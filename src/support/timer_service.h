// The machine's time in earnest: a monotonic clock that can be stopped, and a thread that calls timers' handlers.
//
// One thread serves every timer of a machine. It sleeps until the earliest deadline; arming a later timer does not wake it,
// so that a guest that rearms its tick all the time costs no system call.
//
// Threading: as support/clock.h says; pause(), resume() and set_now() from any thread. Destroy every timer first.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "support/clock.h"

namespace bygone {

/// The steady clock less the time that the machine was paused. Starts at 0, running.
class PausableClock final : public Clock {
 public:
  PausableClock();
  [[nodiscard]] MachineTime now() const override;
  [[nodiscard]] bool is_paused() const { return frozen_.load(std::memory_order_acquire) != kRunning; }

 private:
  friend class ThreadTimerService;
  static constexpr std::int64_t kRunning = -1;
  void pause();
  void resume();
  void set_now(MachineTime now);

  std::atomic<std::int64_t> offset_;           // steady clock minus machine time, nanoseconds
  std::atomic<std::int64_t> frozen_ = kRunning;  // machine time while paused
};

class ThreadTimerService final : public TimerService {
 public:
  ThreadTimerService();
  ~ThreadTimerService() override;

  [[nodiscard]] const Clock& clock() const override { return clock_; }
  [[nodiscard]] std::unique_ptr<Timer> create_timer(std::function<void()> handler) override;

  /// Stops time and the timers. Returns when no handler is running (unless called from one). Both may be repeated.
  void pause();
  void resume();
  /// Time continues from `now`; for a restored machine.
  void set_now(MachineTime now);

 private:
  class ThreadTimer;
  void serve();
  void arm(ThreadTimer& timer, MachineTime deadline);
  void disarm(ThreadTimer& timer);
  void forget(ThreadTimer& timer);

  PausableClock clock_;
  std::mutex mutex_;
  std::condition_variable changed_;  // the earliest deadline, pausing or stopping
  std::condition_variable idle_;     // a handler returned
  std::set<std::pair<MachineTime, ThreadTimer*>> armed_;
  ThreadTimer* running_ = nullptr;  // whose handler is being called
  MachineTime sleeping_until_ = MachineTime::min();
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace bygone
