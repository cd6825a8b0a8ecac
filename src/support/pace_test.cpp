#include "support/pace.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

namespace bygone {
namespace {

/// In a thread of its own: what it changes is the thread's.
template <typename Work>
void on_a_thread(Work work) {
  std::thread([&] { work(); }).join();
}

TEST(PaceTest, many_requests_at_once_make_the_thread_patient) {
  on_a_thread([] {
    Pace pace;
    pace.woken();
    pace.found(1);
    EXPECT_FALSE(pace.is_patient());
    EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
    pace.woken();
    pace.found(2);
    EXPECT_TRUE(pace.is_patient());
    EXPECT_EQ(::sched_getscheduler(0), SCHED_BATCH);
  });
}

TEST(PaceTest, single_requests_for_a_while_make_it_quick_again) {
  on_a_thread([] {
    Pace pace;
    pace.found(8);
    int singles = 0;
    while (pace.is_patient() && singles < 1000) {
      pace.woken();
      pace.found(1);
      ++singles;
      if (singles == 3) pace.found(2);  // not in sequence: counted anew
    }
    EXPECT_GT(singles, 4);
    EXPECT_LT(singles, 1000);
    EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
  });
}

TEST(PaceTest, a_quick_thread_lets_the_guest_go_on_for_one_request_in_many) {
  on_a_thread([] {
    Pace pace;
    int tries = 0;
    for (int i = 0; i < 1000; ++i) {
      pace.woken();
      pace.found(1);
      EXPECT_FALSE(pace.is_patient());
      if (::sched_getscheduler(0) != SCHED_BATCH) continue;
      ++tries;
      pace.woken();
      pace.found(0);  // not what it is about
      EXPECT_EQ(::sched_getscheduler(0), SCHED_BATCH);
      pace.woken();
      pace.found(1);
      EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
    }
    EXPECT_GT(tries, 5);
    EXPECT_LT(tries, 100);
  });
}

TEST(PaceTest, a_receipt_does_not_interrupt_the_guest_and_the_next_request_does) {
  on_a_thread([] {
    Pace pace;
    for (int i = 0; i < 100; ++i) {
      pace.woken();
      pace.handed_over();
      pace.found(1);
      EXPECT_EQ(::sched_getscheduler(0), SCHED_BATCH);
      EXPECT_FALSE(pace.is_patient()) << "for the receipt alone";
      pace.woken();
      pace.found(0);  // it was not that
      EXPECT_EQ(::sched_getscheduler(0), SCHED_BATCH);
      pace.woken();
      pace.found(1, 1);
      EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
    }
  });
}

TEST(PaceTest, a_guest_that_asks_while_its_receipt_is_waited_for_does_not_wait_again) {
  on_a_thread([] {
    Pace pace;
    int waits = 0;
    for (int i = 0; i < 1000; ++i) {
      pace.woken();
      pace.handed_over();
      pace.found(1);
      const bool waited = ::sched_getscheduler(0) == SCHED_BATCH;
      waits += waited ? 1 : 0;
      pace.woken();
      pace.found(1, 0);
      waits += ::sched_getscheduler(0) == SCHED_BATCH ? 1 : 0;
    }
    EXPECT_GT(waits, 5) << "it is tried now and then";
    EXPECT_LT(waits, 100) << "of 2000";
  });
}

TEST(PaceTest, wakes_without_requests_change_nothing) {
  on_a_thread([] {
    Pace pace;
    pace.found(2);
    for (int i = 0; i < 1000; ++i) pace.found(0);
    EXPECT_TRUE(pace.is_patient());
  });
}

}  // namespace
}  // namespace bygone
