#include "chipset/watchdog.h"

#include <gtest/gtest.h>

#include "support/manual_clock.h"

namespace bygone::chipset {
namespace {

using namespace std::chrono_literals;

class WatchdogTest : public testing::Test {
 protected:
  std::uint32_t in(std::uint32_t index) {
    watchdog_.write_port(0x30, 4, index);
    return watchdog_.read_port(0x34, 4);
  }
  void out(std::uint32_t index, std::uint32_t value) {
    watchdog_.write_port(0x30, 4, index);
    watchdog_.write_port(0x34, 4, value);
  }
  ManualTimerService time_;
  int expired_ = 0;
  Watchdog watchdog_{time_, [this] { ++expired_; }};
};

TEST_F(WatchdogTest, expires_unless_the_guest_comes_back) {
  out(Watchdog::kRegisterCount, 10);
  out(Watchdog::kRegisterConfiguration, Watchdog::kConfigured | Watchdog::kEnabled);
  time_.advance(9s);
  out(Watchdog::kRegisterConfiguration, Watchdog::kConfigured | Watchdog::kEnabled);
  time_.advance(9s);
  EXPECT_EQ(expired_, 0);
  time_.advance(2s);
  EXPECT_EQ(expired_, 1);
  watchdog_.reset();
  EXPECT_EQ(in(Watchdog::kRegisterConfiguration), Watchdog::kBootStatus);
  out(Watchdog::kRegisterConfiguration, Watchdog::kBootStatus);
  EXPECT_EQ(in(Watchdog::kRegisterConfiguration), 0U);
}

TEST_F(WatchdogTest, suspended_watchdog_waits) {
  out(Watchdog::kRegisterCount, 1);
  out(Watchdog::kRegisterConfiguration, Watchdog::kConfigured | Watchdog::kEnabled);
  out(Watchdog::kRegisterConfiguration, Watchdog::kConfigured);
  time_.advance(1h);
  EXPECT_EQ(expired_, 0);
}

TEST_F(WatchdogTest, only_whole_known_accesses_count) {
  out(Watchdog::kRegisterConfiguration, 1U << 20 | Watchdog::kConfigured | Watchdog::kEnabled);
  EXPECT_EQ(in(Watchdog::kRegisterConfiguration), 0U);
  EXPECT_EQ(in(Watchdog::kRegisterResolution), 1U);
  EXPECT_EQ(in(77), 0xFFFFFFFFU);
  EXPECT_EQ(watchdog_.read_port(0x34, 1), 0xFFFFFFFFU);
}

TEST_F(WatchdogTest, restored_watchdog_keeps_its_deadline) {
  out(Watchdog::kRegisterCount, 10);
  out(Watchdog::kRegisterConfiguration, Watchdog::kConfigured | Watchdog::kEnabled);
  time_.advance(4s);
  const nlohmann::json state = watchdog_.save();
  watchdog_.reset();
  ASSERT_TRUE(watchdog_.restore(state));
  time_.advance(5s);
  EXPECT_EQ(expired_, 0);
  time_.advance(2s);
  EXPECT_EQ(expired_, 1);
}

}  // namespace
}  // namespace bygone::chipset
