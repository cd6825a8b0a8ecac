#include "support/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <array>

namespace bygone {

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail_errno(errno, "creating an event loop");
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return fail_errno(errno, "creating an event loop's wake-up descriptor");
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer) return fail_errno(errno, "creating an event loop's timer");
  for (const int fd : {wake.get(), timer.get()}) {
    epoll_event event = {};
    event.events = EPOLLIN | EPOLLET;  // told once, and never read: a system call less
    event.data.fd = fd;
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) return fail_errno(errno, "preparing an event loop");
  }
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll), std::move(wake), std::move(timer)));
}

EventLoop::EventLoop(UniqueFd epoll, UniqueFd wake, UniqueFd timer)
    : epoll_(std::move(epoll)), wake_(std::move(wake)), timer_(std::move(timer)) {}

EventLoop::~EventLoop() = default;

Result<void> EventLoop::watch(int fd, std::uint32_t events, FdHandler handler) {
  epoll_event event = {};
  event.events = events;
  event.data.fd = fd;
  const std::lock_guard lock(mutex_);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return fail_errno(errno, fmt::format("watching file descriptor {}", fd));
  }
  handlers_[fd] = std::make_shared<FdHandler>(std::move(handler));
  return {};
}

Result<void> EventLoop::change_events(int fd, std::uint32_t events) {
  epoll_event event = {};
  event.events = events;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) {
    return fail_errno(errno, fmt::format("changing the events of file descriptor {}", fd));
  }
  return {};
}

void EventLoop::unwatch(int fd) {
  std::shared_ptr<FdHandler> handler;  // destroyed without the lock
  const std::lock_guard lock(mutex_);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  if (const auto found = handlers_.find(fd); found != handlers_.end()) {
    handler = std::move(found->second);
    handlers_.erase(found);
  }
}

EventLoop::TimerId EventLoop::add_timer(TimePoint when, Task task) {
  const std::uint64_t id = next_timer_++;
  timers_.emplace(std::pair(when, id), std::move(task));
  arm_timer();
  return TimerId{id};
}

void EventLoop::cancel_timer(TimerId id) {
  std::erase_if(timers_, [id](const auto& entry) { return entry.first.second == static_cast<std::uint64_t>(id); });
  arm_timer();
}

void EventLoop::post(Task task) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(task));
    // Work that the loop gives itself, and what comes before it has looked, needs no system call.
    if (std::exchange(will_look_, true) || thread_ == std::this_thread::get_id()) return;
  }
  wake();
}

void EventLoop::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_requested_ = true;
  }
  wake();
}

void EventLoop::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(wake_.get(), &one, sizeof one);
}

void EventLoop::hold() {
  std::unique_lock lock(mutex_);
  hold_wanted_ = true;
  wake();
  hold_changed_.wait(lock, [this] { return is_held_; });
}

void EventLoop::release() {
  const std::lock_guard lock(mutex_);
  hold_wanted_ = false;
  hold_changed_.notify_all();
}

void EventLoop::post_held(Task task) {
  const std::lock_guard lock(mutex_);
  (is_held_ ? posted_held_ : posted_).push_back(std::move(task));
  hold_changed_.notify_all();
  wake();
}

void EventLoop::run() {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (std::exchange(stop_requested_, false)) return;
    }
    run_once(std::chrono::milliseconds(-1));
  }
}

void EventLoop::run_once(std::chrono::milliseconds limit) {
  {
    const std::lock_guard lock(mutex_);
    thread_ = std::this_thread::get_id();
    if (!posted_.empty()) limit = std::chrono::milliseconds(0);
  }
  std::array<epoll_event, 32> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), static_cast<int>(limit.count()));
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    if (event.data.fd == wake_.get() || event.data.fd == timer_.get()) continue;  // what there is to do is looked for below
    if (const auto handler = handler_of(event.data.fd)) (*handler)(event.events);
  }
  run_due_timers();
  run_held();
  run_posted();
}

/// Lives on if the handler unwatches itself. None: unwatched by an earlier handler of this round.
std::shared_ptr<EventLoop::FdHandler> EventLoop::handler_of(int fd) {
  const std::lock_guard lock(mutex_);
  const auto found = handlers_.find(fd);
  return found == handlers_.end() ? nullptr : found->second;
}

void EventLoop::run_due_timers() {
  const TimePoint now = std::chrono::steady_clock::now();
  bool ran = false;
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    auto node = timers_.extract(timers_.begin());
    node.mapped()();
    ran = true;
  }
  if (ran) arm_timer();
}

void EventLoop::run_posted() {
  std::vector<Task> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(posted_);
    will_look_ = false;
  }
  for (Task& task : tasks) task();
}

/// Stays here while the loop is held.
void EventLoop::run_held() {
  std::unique_lock lock(mutex_);
  if (!hold_wanted_) return;
  is_held_ = true;
  hold_changed_.notify_all();
  while (hold_wanted_ || !posted_held_.empty()) {
    std::vector<Task> tasks = std::exchange(posted_held_, {});
    lock.unlock();
    for (Task& task : tasks) task();
    lock.lock();
    hold_changed_.wait(lock, [this] { return !hold_wanted_ || !posted_held_.empty(); });
  }
  is_held_ = false;
}

void EventLoop::arm_timer() {
  itimerspec spec = {};
  if (!timers_.empty()) {
    const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(
        timers_.begin()->first.first.time_since_epoch()).count();
    const auto when = nanoseconds > 0 ? nanoseconds : 1;
    spec.it_value.tv_sec = when / 1'000'000'000;
    spec.it_value.tv_nsec = when % 1'000'000'000;
  }
  ::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &spec, nullptr);
}

}  // namespace bygone
