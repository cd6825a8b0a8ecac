#include "support/event_loop.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

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

TEST(EventLoop, work_that_it_gives_itself_does_not_wait_for_others) {
  auto loop = EventLoop::create().value();
  int left = 1000;
  std::function<void()> again = [&] { --left > 0 ? loop->post(again) : loop->stop(); };
  loop->post(again);
  loop->run();
  EXPECT_EQ(left, 0);
}

TEST(EventLoop, no_post_of_many_threads_is_slept_over) {
  auto loop = EventLoop::create().value();
  constexpr int kThreads = 3, kPosts = 2000;
  std::atomic<int> done = 0;
  std::thread runner([&] { loop->run(); });
  std::vector<std::thread> others;
  for (int i = 0; i < kThreads; ++i) {
    others.emplace_back([&] {
      for (int post = 0; post < kPosts; ++post) {
        const int before = done;
        loop->post([&] { ++done; done.notify_all(); });
        done.wait(before);  // each by itself: a wake that is lost ends all
      }
    });
  }
  for (std::thread& other : others) other.join();
  loop->stop();
  runner.join();
  loop->run_once(std::chrono::milliseconds(0));
  EXPECT_EQ(done, kThreads * kPosts);
}

TEST(EventLoop, another_thread_may_watch_and_unwatch) {
  auto loop = EventLoop::create().value();
  std::thread runner([&] { loop->run(); });
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  std::atomic<int> calls = 0;
  ASSERT_TRUE(loop->watch(read_end.get(), EPOLLIN, [&](std::uint32_t) {
    char byte = 0;
    EXPECT_EQ(::read(read_end.get(), &byte, 1), 1);
    ++calls;
    calls.notify_all();
  }));
  ASSERT_EQ(::write(write_end.get(), "x", 1), 1);
  calls.wait(0);
  loop->unwatch(read_end.get());
  ASSERT_EQ(::write(write_end.get(), "x", 1), 1);
  std::atomic<bool> looked = false;
  loop->post([&] { looked = true; looked.notify_all(); });
  looked.wait(false);
  EXPECT_EQ(calls, 1);
  loop->stop();
  runner.join();
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
