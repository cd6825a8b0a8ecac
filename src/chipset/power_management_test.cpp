#include "chipset/power_management.h"

#include <gtest/gtest.h>

#include "chipset/function_line.h"
#include "support/manual_clock.h"

namespace bygone::chipset {
namespace {

using namespace std::chrono_literals;

class PowerManagementTest : public testing::Test {
 protected:
  ManualTimerService time_;
  bool line_ = false;
  std::string events_;
  FunctionLine sink_{[this](bool asserted) { line_ = asserted; }};
  PowerManagement pm_{time_, sink_,
                      {.sleep = [this](SleepState state) { events_ += state == SleepState::kOff ? "off " : "hibernate "; },
                       .reset = [this] { events_ += "reset "; }}};
};

TEST_F(PowerManagementTest, timer_counts_at_its_rate_and_wraps) {
  time_.advance(1s);
  EXPECT_EQ(pm_.read_port(0x400 + 8, 4), 3'579'545U);
  EXPECT_EQ(pm_.read_port(0x400 + 9, 1) & 0xFF, (3'579'545U >> 8) & 0xFF);
  time_.advance(1200s);
  EXPECT_EQ(pm_.read_port(0x400 + 8, 4), static_cast<std::uint32_t>(3'579'545ULL * 1201));
}

TEST_F(PowerManagementTest, sci_is_enabled_for_good) {
  EXPECT_EQ(pm_.read_port(0x400 + 4, 2), 1U);
  pm_.write_port(0x400 + 4, 2, 0);
  EXPECT_EQ(pm_.read_port(0x400 + 4, 2), 1U);
}

TEST_F(PowerManagementTest, sleep_types_reach_the_machine) {
  pm_.write_port(0x400 + 4, 2, 0x0000);
  pm_.write_port(0x400 + 4, 2, 0x1C00 & (2 << 10));  // a type without the enable bit
  EXPECT_EQ(events_, "");
  pm_.write_port(0x400 + 4, 2, 1 << 13 | 5 << 10);  // no such state
  EXPECT_EQ(events_, "");
  pm_.write_port(0x400 + 4, 2, 1 << 13 | kSleepTypeOff << 10);
  pm_.write_port(0x400 + 5, 1, (1 << 13 | kSleepTypeHibernate << 10) >> 8);
  EXPECT_EQ(events_, "off hibernate ");
}

TEST_F(PowerManagementTest, reset_register_wants_its_value) {
  pm_.write_port(0x400 + 0x33, 1, 6);
  EXPECT_EQ(events_, "");
  pm_.write_port(0x400 + 0x33, 1, 1);
  EXPECT_EQ(events_, "reset ");
}

TEST_F(PowerManagementTest, enabled_general_event_asserts_until_cleared) {
  pm_.raise(GeneralEvent::kGenerationId);
  EXPECT_FALSE(line_);
  pm_.write_port(0x400 + 0xE, 2, 1);
  EXPECT_TRUE(line_);
  EXPECT_EQ(pm_.read_port(0x400 + 0xC, 2), 1U);
  pm_.write_port(0x400 + 0xC, 2, 1);
  EXPECT_FALSE(line_);
}

TEST_F(PowerManagementTest, timer_carry_interrupts_when_enabled) {
  pm_.write_port(0x400 + 2, 2, 1);
  time_.advance(599s);
  EXPECT_FALSE(line_);
  time_.advance(2s);
  EXPECT_TRUE(line_);
  pm_.write_port(0x400 + 0, 2, 1);
  EXPECT_FALSE(line_);
  time_.advance(600s);
  EXPECT_TRUE(line_);
}

TEST_F(PowerManagementTest, power_button_follows_its_enable) {
  pm_.write_port(0x400 + 2, 2, 1 << 8);
  pm_.press_power_button();
  EXPECT_TRUE(line_);
  const nlohmann::json state = pm_.save();
  pm_.reset();
  EXPECT_FALSE(line_);
  ASSERT_TRUE(pm_.restore(state));
  EXPECT_TRUE(line_);
}

}  // namespace
}  // namespace bygone::chipset
