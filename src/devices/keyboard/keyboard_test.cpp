#include "devices/keyboard/keyboard.h"

#include <gtest/gtest.h>

#include <array>
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

TEST_F(KeyboardTest, every_code_arrives_pressed_and_released_with_each_prefix) {
  negotiate();
  ASSERT_EQ(accepted_, 1U);
  for (const bool is_e0 : {false, true}) {
    for (const bool is_e1 : {false, true}) {
      for (unsigned code = 1; code < 0x80; ++code) {
        for (const bool is_release : {false, true}) {
          ASSERT_TRUE(keyboard_.strike({static_cast<std::uint8_t>(code), is_release, is_e0, is_e1}));
          const auto packet = channel_->receive();
          ASSERT_TRUE(packet);
          const auto event = packet->payload_as<protocol::Event>();
          ASSERT_TRUE(event);
          EXPECT_EQ(event->type, static_cast<std::uint32_t>(protocol::MessageType::kEvent));
          EXPECT_EQ(event->make_code, code);
          EXPECT_EQ(event->flags, (is_release ? protocol::kIsBreak : 0U) | (is_e0 ? protocol::kIsE0 : 0U) | (is_e1 ? protocol::kIsE1 : 0U));
        }
      }
    }
  }
  EXPECT_EQ(keyboard_.inspect()["strokes"], 4 * 127 * 2);
}

TEST_F(KeyboardTest, lights_reach_the_host) {
  negotiate();
  for (const unsigned leds : {1U, 2U, 4U, 7U, 0U}) {
    // As it lies in memory: the type, the lights, padding.
    const std::array<std::uint8_t, 8> message = {4, 0, 0, 0, static_cast<std::uint8_t>(leds), 0, 0, 0};
    channel_->send(std::as_bytes(std::span(message)));
    guest_.run();
    EXPECT_EQ(leds_, leds);
  }
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
