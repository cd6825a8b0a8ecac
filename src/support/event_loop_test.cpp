#include "support/event_loop.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <atomic>
#include <thread>

namespace bygone {
namespace {

TEST(EventLoop, timers_run_in_order_of_time) {
  auto loop = EventLoop::create().value();
  std::string order;
  const auto now = std::chrono::steady_clock::now();
  loop->add_timer(now + std::chrono::milliseconds(4), [&] { order += 'b'; loop->stop(); });
  loop->add_timer(now + std::chrono::milliseconds(1), [&] { order += 'a'; });
  const auto gone = loop->add_timer(now + std::chrono::milliseconds(2), [&] { order += 'x'; });
  loop->cancel_timer(gone);
  loop->run();
  EXPECT_EQ(order, "ab");
}

TEST(EventLoop, post_from_another_thread_wakes_it) {
  auto loop = EventLoop::create().value();
  int value = 0;
  std::thread other([&] { loop->post([&] { value = 7; loop->stop(); }); });
  loop->run();
  other.join();
  EXPECT_EQ(value, 7);
}

TEST(EventLoop, handler_may_unwatch_itself) {
  auto loop = EventLoop::create().value();
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  int calls = 0;
  ASSERT_TRUE(loop->watch(read_end.get(), EPOLLIN, [&](std::uint32_t) { ++calls; loop->unwatch(read_end.get()); }));
  ASSERT_EQ(::write(write_end.get(), "x", 1), 1);
  loop->run_once(std::chrono::milliseconds(100));
  loop->run_once(std::chrono::milliseconds(0));
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, held_loop_runs_only_work_for_held_loops) {
  auto loop = EventLoop::create().value();
  std::atomic<int> ordinary = 0, held = 0;
  std::thread runner([&] { loop->run(); });
  {
    const LoopHold hold(*loop);
    loop->post([&] {
      ++ordinary;
      ordinary.notify_all();
    });
    loop->post_held([&] {
      ++held;
      held.notify_all();
    });
    held.wait(0);
    EXPECT_EQ(ordinary, 0);
  }
  ordinary.wait(0);  // for ever when it got lost
  EXPECT_EQ(ordinary, 1);
  EXPECT_EQ(held, 1);
  loop->stop();
  runner.join();
}

}  // namespace
}  // namespace bygone
