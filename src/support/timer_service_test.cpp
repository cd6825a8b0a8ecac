#include "support/timer_service.h"

#include <gtest/gtest.h>

#include <future>

#include "support/manual_clock.h"

namespace bygone {
namespace {

using namespace std::chrono_literals;

TEST(ThreadTimerService, calls_handlers_in_order_of_deadline) {
  ThreadTimerService service;
  std::vector<int> order;
  std::promise<void> done;
  auto late = service.create_timer([&] {
    order.push_back(2);
    done.set_value();
  });
  auto early = service.create_timer([&] { order.push_back(1); });
  const MachineTime now = service.clock().now();
  late->arm(now + 20ms);
  early->arm(now + 10ms);
  done.get_future().wait();
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
  EXPECT_GE(service.clock().now(), now + 20ms);
}

TEST(ThreadTimerService, disarmed_timer_stays_silent) {
  ThreadTimerService service;
  bool called = false;
  std::promise<void> done;
  auto silent = service.create_timer([&] { called = true; });
  auto end = service.create_timer([&] { done.set_value(); });
  const MachineTime now = service.clock().now();
  silent->arm(now + 5ms);
  end->arm(now + 10ms);
  silent->disarm();
  done.get_future().wait();
  EXPECT_FALSE(called);
}

TEST(ThreadTimerService, handler_rearms_its_own_timer) {
  ThreadTimerService service;
  int calls = 0;
  std::promise<void> done;
  std::unique_ptr<Timer> timer;
  timer = service.create_timer([&] {
    if (++calls == 3) {
      done.set_value();
    } else {
      timer->arm(service.clock().now());
    }
  });
  timer->arm(service.clock().now());
  done.get_future().wait();
  EXPECT_EQ(calls, 3);
}

TEST(ThreadTimerService, time_stands_still_while_paused) {
  ThreadTimerService service;
  std::promise<MachineTime> fired;
  auto timer = service.create_timer([&] { fired.set_value(service.clock().now()); });
  service.pause();
  const MachineTime at_pause = service.clock().now();
  timer->arm(at_pause);  // due at once, but time stands still
  auto future = fired.get_future();
  EXPECT_EQ(future.wait_for(20ms), std::future_status::timeout);
  EXPECT_EQ(service.clock().now(), at_pause);
  service.resume();
  EXPECT_GE(future.get(), at_pause);
}

TEST(ThreadTimerService, restored_time_continues_from_its_value) {
  ThreadTimerService service;
  service.pause();
  service.set_now(1h);
  EXPECT_EQ(service.clock().now(), 1h);
  service.resume();
  EXPECT_GE(service.clock().now(), 1h);
}

TEST(ManualTimerService, handlers_see_the_clock_at_their_deadline) {
  ManualTimerService service;
  std::vector<MachineTime> seen;
  auto first = service.create_timer([&] { seen.push_back(service.now()); });
  auto second = service.create_timer([&] { seen.push_back(service.now()); });
  second->arm(3us);
  first->arm(2us);
  service.advance(1us);
  EXPECT_TRUE(seen.empty());
  service.advance(5us);
  EXPECT_EQ(seen, (std::vector<MachineTime>{2us, 3us}));
  EXPECT_EQ(service.now(), 6us);
}

}  // namespace
}  // namespace bygone
