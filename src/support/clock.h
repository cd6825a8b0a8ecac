// Time as devices see it: a monotonic count that stops while the machine is paused, and timers on it.
// Devices take these interfaces so that tests drive time by hand.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

namespace bygone {

/// Nanoseconds since the machine was created, without the time it was paused or saved.
using MachineTime = std::chrono::nanoseconds;

/// Threading: now() from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual MachineTime now() const = 0;
};

/// A one-shot timer that its owner rearms. Threading: arm() and disarm() from any thread, also from the handler; the handler runs
/// on the timer service's thread with no lock of the service held. After disarm() a call that already began may still finish.
/// The destructor waits for such a call.
class Timer {
 public:
  virtual ~Timer() = default;
  virtual void arm(MachineTime deadline) = 0;
  virtual void disarm() = 0;
};

class TimerService {
 public:
  virtual ~TimerService() = default;
  [[nodiscard]] virtual const Clock& clock() const = 0;
  [[nodiscard]] virtual std::unique_ptr<Timer> create_timer(std::function<void()> handler) = 0;
};

}  // namespace bygone
