#include "devices/keyboard/keyboard.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "spec/keyboard/keyboard.h"
#include "vmbus/testing/fake_guest.h"

namespace bygone::devices::keyboard {
namespace {

namespace protocol = spec::keyboard;
using vmbus::testing::FakeGuest;

class KeyboardTest : public testing::Test {
 protected:
  void negotiate(std::uint32_t version = protocol::kVersion1_0) {
    channel_ = guest_.open(keyboard_);
    channel_->send(bytes_of(protocol::ProtocolRequest{1U, version}));
    const auto reply = channel_->receive();
    ASSERT_TRUE(reply);
    accepted_ = reply->payload_as<protocol::ProtocolResponse>()->status;
  }
  FakeGuest guest_;
  std::uint8_t leds_ = 0;
  Keyboard keyboard_{[this](std::uint8_t leds) { leds_ = leds; }};
  std::unique_ptr<vmbus::testing::GuestChannel> channel_;
  std::uint32_t accepted_ = 0;
};

TEST_F(KeyboardTest, strokes_arrive_with_their_flags) {
  negotiate();
  ASSERT_EQ(accepted_, 1U);
  ASSERT_TRUE(keyboard_.strike({0x48, true, true, false}));
  const auto packet = channel_->receive();
  ASSERT_TRUE(packet);
  const auto event = packet->payload_as<protocol::Event>();
  EXPECT_EQ(event->make_code, 0x48);
  EXPECT_EQ(event->flags, protocol::kIsBreak | protocol::kIsE0);
}

TEST_F(KeyboardTest, foreign_version_is_refused_and_strokes_are_lost) {
  negotiate(0x00030000);
  EXPECT_EQ(accepted_, 0U);
  EXPECT_FALSE(keyboard_.strike({0x1E}));
}

TEST_F(KeyboardTest, lights_reach_the_host) {
  negotiate();
  channel_->send(bytes_of(protocol::LedIndicators{4U, std::uint16_t{0}, std::uint16_t{6}}));
  guest_.run();
  EXPECT_EQ(leds_, 6);
}

TEST_F(KeyboardTest, nonsense_takes_the_channel) {
  negotiate();
  channel_->send(bytes_of(le64(77)));
  guest_.run();
  EXPECT_TRUE(channel_->failure());
}

TEST_F(KeyboardTest, saved_state_keeps_the_driver_listening) {
  negotiate();
  const auto state = keyboard_.save().value();
  Keyboard other;
  ASSERT_TRUE(other.restore(state));
  auto channel = guest_.open(other, {.is_restored = true});
  EXPECT_TRUE(other.strike({0x1E}));
  EXPECT_FALSE(other.restore(nlohmann::json{{"version", 2}}));
}

}  // namespace
}  // namespace bygone::devices::keyboard
