#include "support/timer_service.h"

#include <pthread.h>
#include <sys/prctl.h>

#include <algorithm>

namespace bygone {
namespace {

std::int64_t steady_nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

PausableClock::PausableClock() : offset_(steady_nanoseconds()) {}

MachineTime PausableClock::now() const {
  const std::int64_t frozen = frozen_.load(std::memory_order_acquire);
  if (frozen != kRunning) return MachineTime(frozen);
  return MachineTime(steady_nanoseconds() - offset_.load(std::memory_order_acquire));
}

void PausableClock::pause() {
  if (!is_paused()) frozen_.store(now().count(), std::memory_order_release);
}

void PausableClock::resume() {
  const std::int64_t frozen = frozen_.load(std::memory_order_acquire);
  if (frozen == kRunning) return;
  offset_.store(steady_nanoseconds() - frozen, std::memory_order_release);
  frozen_.store(kRunning, std::memory_order_release);
}

void PausableClock::set_now(MachineTime now) {
  if (is_paused()) {
    frozen_.store(now.count(), std::memory_order_release);
  } else {
    offset_.store(steady_nanoseconds() - now.count(), std::memory_order_release);
  }
}

class ThreadTimerService::ThreadTimer final : public Timer {
 public:
  ThreadTimer(ThreadTimerService& service, std::function<void()> handler)
      : service_(service), handler_(std::move(handler)) {}
  ~ThreadTimer() override { service_.forget(*this); }
  void arm(MachineTime deadline) override { service_.arm(*this, deadline); }
  void disarm() override { service_.disarm(*this); }

 private:
  friend class ThreadTimerService;
  ThreadTimerService& service_;
  std::function<void()> handler_;
  MachineTime deadline_{};  // guarded by the service's mutex_
  bool is_armed_ = false;   // guarded by the service's mutex_
};

ThreadTimerService::ThreadTimerService() : thread_([this] { serve(); }) {
  ::pthread_setname_np(thread_.native_handle(), "timers");
}

ThreadTimerService::~ThreadTimerService() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

std::unique_ptr<Timer> ThreadTimerService::create_timer(std::function<void()> handler) {
  return std::make_unique<ThreadTimer>(*this, std::move(handler));
}

void ThreadTimerService::arm(ThreadTimer& timer, MachineTime deadline) {
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    if (timer.is_armed_) {
      auto node = armed_.extract({timer.deadline_, &timer});  // kept: rearming allocates nothing
      node.value().first = deadline;
      armed_.insert(std::move(node));
    } else {
      armed_.insert({deadline, &timer});
    }
    timer.deadline_ = deadline;
    timer.is_armed_ = true;
    wake = deadline < sleeping_until_;
  }
  if (wake) changed_.notify_one();
}

void ThreadTimerService::disarm(ThreadTimer& timer) {
  const std::lock_guard lock(mutex_);
  if (timer.is_armed_) armed_.erase({timer.deadline_, &timer});
  timer.is_armed_ = false;
}

void ThreadTimerService::forget(ThreadTimer& timer) {
  std::unique_lock lock(mutex_);
  if (timer.is_armed_) armed_.erase({timer.deadline_, &timer});
  timer.is_armed_ = false;
  if (std::this_thread::get_id() == thread_.get_id()) return;  // a handler destroys its own timer: nothing to wait for
  idle_.wait(lock, [&] { return running_ != &timer; });
}

void ThreadTimerService::pause() {
  std::unique_lock lock(mutex_);
  clock_.pause();
  if (std::this_thread::get_id() == thread_.get_id()) return;
  idle_.wait(lock, [&] { return running_ == nullptr; });
}

void ThreadTimerService::resume() {
  {
    const std::lock_guard lock(mutex_);
    clock_.resume();
  }
  changed_.notify_one();
}

void ThreadTimerService::set_now(MachineTime now) {
  {
    const std::lock_guard lock(mutex_);
    clock_.set_now(now);
  }
  changed_.notify_one();
}

void ThreadTimerService::serve() {
  ::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);  // the default 50 us would be added to every guest tick
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (armed_.empty() || clock_.is_paused()) {
      sleeping_until_ = clock_.is_paused() ? MachineTime::min() : MachineTime::max();
      changed_.wait(lock);
      continue;
    }
    const auto [deadline, timer] = *armed_.begin();
    const MachineTime now = clock_.now();
    if (deadline > now) {
      sleeping_until_ = deadline;
      // A cap keeps far deadlines from overflowing the steady clock's range.
      changed_.wait_for(lock, std::min<MachineTime>(deadline - now, std::chrono::hours(1)));
      continue;
    }
    sleeping_until_ = MachineTime::min();  // awake: looks at the list again anyway
    armed_.erase(armed_.begin());
    timer->is_armed_ = false;
    running_ = timer;
    lock.unlock();
    timer->handler_();
    lock.lock();
    running_ = nullptr;
    idle_.notify_all();
  }
}

}  // namespace bygone
