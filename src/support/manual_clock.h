// Time that a test moves by hand: advance() runs what falls due, in order, on the caller's thread.
// Threading: one thread.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "support/clock.h"

namespace bygone {

class ManualTimerService final : public TimerService {
 public:
  [[nodiscard]] const Clock& clock() const override { return clock_; }
  [[nodiscard]] MachineTime now() const { return clock_.now_; }

  [[nodiscard]] std::unique_ptr<Timer> create_timer(std::function<void()> handler) override {
    return std::make_unique<ManualTimer>(*this, std::move(handler));
  }

  /// Moves time on; each handler sees the clock at its own deadline.
  void advance(MachineTime by) {
    const MachineTime end = clock_.now_ + by;
    while (ManualTimer* next = earliest(end)) {
      clock_.now_ = std::max(clock_.now_, *next->deadline_);
      next->deadline_.reset();
      next->handler_();
    }
    clock_.now_ = end;
  }
  /// Moves time on while nobody serves timers: what fell due runs with the next advance().
  void pass_unserved(MachineTime by) { clock_.now_ += by; }
  /// When the next handler will run; nullopt: nothing is armed.
  [[nodiscard]] std::optional<MachineTime> next_deadline() const {
    const ManualTimer* next = earliest(MachineTime::max());
    return next == nullptr ? std::nullopt : next->deadline_;
  }

 private:
  class ManualTimer final : public Timer {
   public:
    ManualTimer(ManualTimerService& service, std::function<void()> handler)
        : service_(service), handler_(std::move(handler)) {
      service_.timers_.push_back(this);
    }
    ~ManualTimer() override { std::erase(service_.timers_, this); }
    void arm(MachineTime deadline) override { deadline_ = deadline; }
    void disarm() override { deadline_.reset(); }

   private:
    friend class ManualTimerService;
    ManualTimerService& service_;
    std::function<void()> handler_;
    std::optional<MachineTime> deadline_;
  };
  struct ManualClock final : Clock {
    [[nodiscard]] MachineTime now() const override { return now_; }
    MachineTime now_{};
  };

  [[nodiscard]] ManualTimer* earliest(MachineTime limit) const {
    ManualTimer* best = nullptr;
    for (ManualTimer* timer : timers_) {
      if (!timer->deadline_ || *timer->deadline_ > limit) continue;
      if (best == nullptr || *timer->deadline_ < *best->deadline_) best = timer;
    }
    return best;
  }

  ManualClock clock_;
  std::vector<ManualTimer*> timers_;
};

}  // namespace bygone
