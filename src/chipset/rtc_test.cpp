#include "chipset/rtc.h"

#include <gtest/gtest.h>

#include "chipset/function_line.h"
#include "support/manual_clock.h"

namespace bygone::chipset {
namespace {

using namespace std::chrono_literals;

// 2008-02-29 23:59:58 UTC, a Friday.
constexpr std::chrono::microseconds kStart = 1'204'329'598s;

class RtcTest : public testing::Test {
 protected:
  std::uint8_t in(std::uint8_t index) {
    rtc_.write_port(0x70, 1, index);
    return static_cast<std::uint8_t>(rtc_.read_port(0x71, 1));
  }
  void out(std::uint8_t index, std::uint8_t value) {
    rtc_.write_port(0x70, 1, index);
    rtc_.write_port(0x71, 1, value);
  }
  std::string date() {
    return fmt::format("{:02x}{:02x}-{:02x}-{:02x} {:02x}:{:02x}:{:02x}", in(0x32), in(9), in(8), in(7), in(4), in(2), in(0));
  }
  ManualTimerService time_;
  bool line_ = false;
  int edges_ = 0;
  FunctionLine sink_{[this](bool is_high) {
    edges_ += is_high && !line_;
    line_ = is_high;
  }};
  Rtc rtc_{time_, sink_, [this] { return kStart + std::chrono::duration_cast<std::chrono::microseconds>(time_.now()); }};
};

TEST_F(RtcTest, tells_utc_in_decimal_and_crosses_a_leap_day) {
  EXPECT_EQ(date(), "2008-02-29 23:59:58");
  EXPECT_EQ(in(6), 6);
  time_.advance(2s);
  EXPECT_EQ(date(), "2008-03-01 00:00:00");
}

TEST_F(RtcTest, binary_and_twelve_hour_modes_encode) {
  out(0xB, 0x04);  // binary, 12 hours
  EXPECT_EQ(in(4), 11 | 0x80);
  EXPECT_EQ(in(2), 59);
  EXPECT_EQ(in(9), 8);
}

TEST_F(RtcTest, set_time_runs_on_from_there) {
  out(0xB, 0x82);
  out(0, 0x30);
  out(2, 0x15);
  out(4, 0x06);
  out(7, 0x25);
  out(8, 0x10);
  out(9, 0x01);
  out(0x32, 0x20);
  time_.advance(10s);  // halted
  EXPECT_EQ(in(0), 0x30);
  out(0xB, 0x02);
  EXPECT_EQ(date(), "2001-10-25 06:15:30");
  time_.advance(31s);
  EXPECT_EQ(date(), "2001-10-25 06:16:01");
}

TEST_F(RtcTest, nonsense_time_leaves_the_clock_alone) {
  out(0xB, 0x82);
  out(8, 0x99);
  out(0xB, 0x02);
  EXPECT_EQ(date(), "2008-02-29 23:59:58");
  out(0x32, 0xFF);  // the year 16508
  EXPECT_EQ(date(), "2008-02-29 23:59:58");
  EXPECT_TRUE(rtc_.restore(rtc_.save()));
}

TEST_F(RtcTest, update_in_progress_shows_just_before_the_second) {
  EXPECT_EQ(in(0xA) & 0x80, 0);
  time_.advance(999'800us);
  EXPECT_EQ(in(0xA) & 0x80, 0x80);
  time_.advance(300us);
  EXPECT_EQ(in(0xA) & 0x80, 0);
}

TEST_F(RtcTest, alarm_interrupts_at_its_time_with_wildcards) {
  out(5, 0xC0);
  out(3, 0xC0);
  out(1, 0x05);
  in(0xC);
  out(0xB, 0x22);
  time_.advance(6s);
  EXPECT_FALSE(line_);
  time_.advance(1s);  // 00:00:05
  EXPECT_TRUE(line_);
  EXPECT_EQ(in(0xC) & 0xA0, 0xA0);
  EXPECT_FALSE(line_);
  time_.advance(60s);
  EXPECT_TRUE(line_);
}

TEST_F(RtcTest, periodic_interrupt_keeps_its_rate_even_unacknowledged) {
  out(0xA, 0x26);  // 1024 Hz
  out(0xB, 0x42);
  time_.advance(1s);
  EXPECT_EQ(edges_, 1024);
  EXPECT_EQ(in(0xC) & 0xC0, 0xC0);
  out(0xB, 0x02);
  time_.advance(1s);
  EXPECT_EQ(edges_, 1024);
}

TEST_F(RtcTest, update_flag_is_there_for_those_who_poll) {
  in(0xC);
  time_.advance(300ms);
  EXPECT_EQ(in(0xC), 0);
  time_.advance(1s);
  EXPECT_EQ(in(0xC) & 0x10, 0x10);
  EXPECT_FALSE(line_);
}

TEST_F(RtcTest, memory_and_time_survive_reset_and_restore) {
  out(0x40, 0x5A);
  out(0xB, 0x42);
  const nlohmann::json state = rtc_.save();
  rtc_.reset();
  EXPECT_EQ(in(0x40), 0x5A);
  EXPECT_EQ(in(0xB), 0x02);
  ASSERT_TRUE(rtc_.restore(state));
  EXPECT_EQ(in(0xB), 0x42);
  nlohmann::json broken = state;
  broken["index"] = 200;
  EXPECT_FALSE(rtc_.restore(broken));
}

}  // namespace
}  // namespace bygone::chipset
