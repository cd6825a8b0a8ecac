#include "devices/mouse/mouse.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "spec/mouse/mouse.h"
#include "vmbus/testing/fake_guest.h"

namespace bygone::devices::mouse {
namespace {

namespace protocol = spec::mouse;
using vmbus::testing::FakeGuest;

template <typename T>
struct Piped {
  spec::vmbus::PipeHeader pipe{spec::vmbus::kPipeData, sizeof(T)};
  T message;
};
template <typename T>
std::vector<std::byte> piped(const T& message) {
  const Piped<T> whole{{spec::vmbus::kPipeData, sizeof(T)}, message};
  const auto bytes = bytes_of(whole);
  return {bytes.begin(), bytes.end()};
}

class MouseTest : public testing::Test {
 protected:
  void negotiate(std::uint32_t version) {
    channel_ = guest_.open(mouse_);
    channel_->send(piped(protocol::ProtocolRequest{{0U, 4U}, version}));
    const auto reply = channel_->receive();
    ASSERT_TRUE(reply);
    approved_ = reply->payload_as<Piped<protocol::ProtocolResponse>>()->message.is_approved;
  }
  FakeGuest guest_;
  Mouse mouse_;
  std::unique_ptr<vmbus::testing::GuestChannel> channel_;
  int approved_ = -1;
};

TEST_F(MouseTest, describes_itself_then_reports) {
  negotiate(protocol::kVersion2_0);
  ASSERT_EQ(approved_, 1);
  const auto info = channel_->receive();
  ASSERT_TRUE(info);
  const auto described = info->payload_as<Piped<protocol::InitialDeviceInfo>>();
  ASSERT_TRUE(described);
  EXPECT_EQ(info->payload().size(), (sizeof(Piped<protocol::InitialDeviceInfo>) + described->message.descriptor.report_length + 7) / 8 * 8);
  EXPECT_FALSE(mouse_.move({}));
  channel_->send(piped(protocol::Header{3U, 0U}));
  guest_.run();
  ASSERT_TRUE(mouse_.move({.x = 0xFFFF, .y = 100, .buttons = 1, .wheel = -1}));
  const auto packet = channel_->receive();
  ASSERT_TRUE(packet);
  struct Report {
    protocol::Header header;
    protocol::InputReport report;
  };
  const auto report = packet->payload_as<Piped<Report>>()->message.report;
  EXPECT_EQ(report.x, protocol::kAbsoluteMaximum);
  EXPECT_EQ(report.y, 100);
  EXPECT_EQ(report.wheel, 0xFF);
}

TEST_F(MouseTest, five_buttons_both_wheels_and_the_whole_plane_are_reported) {
  negotiate(protocol::kVersion2_0);
  ASSERT_TRUE(channel_->receive());
  channel_->send(piped(protocol::Header{3U, 0U}));
  guest_.run();
  struct Report {
    protocol::Header header;
    protocol::InputReport report;
  };
  const auto moved = [&](PointerState state) {
    EXPECT_TRUE(mouse_.move(state));
    const auto packet = channel_->receive();
    EXPECT_TRUE(packet);
    const auto whole = packet->payload_as<Piped<Report>>();
    EXPECT_TRUE(whole);
    EXPECT_EQ(whole->message.header.type, static_cast<std::uint32_t>(protocol::MessageType::kInputReport));
    EXPECT_EQ(whole->message.header.size, sizeof(protocol::InputReport));
    return whole->message.report;
  };
  for (std::uint8_t button = 0; button < 5; ++button) {
    EXPECT_EQ(moved({.buttons = static_cast<std::uint8_t>(1 << button)}).buttons, 1 << button);
  }
  EXPECT_EQ(moved({.buttons = 0xFF}).buttons, 0x1F) << "there is no sixth";
  for (const std::int8_t notches : {std::int8_t{1}, std::int8_t{-1}, std::int8_t{127}, std::int8_t{-127}}) {
    EXPECT_EQ(moved({.wheel = notches}).wheel, static_cast<std::uint8_t>(notches));
    EXPECT_EQ(moved({.pan = notches}).pan, static_cast<std::uint8_t>(notches));
  }
  EXPECT_EQ(moved({.x = 0, .y = protocol::kAbsoluteMaximum}).y, protocol::kAbsoluteMaximum);
  EXPECT_EQ(mouse_.inspect()["reports"], 5 + 1 + 8 + 1);
}

/// The bits of an input report as HID 1.11, 6.2.2 has a driver count them.
TEST_F(MouseTest, descriptor_describes_the_report_that_is_sent) {
  negotiate(protocol::kVersion2_0);
  const auto info = channel_->receive();
  ASSERT_TRUE(info);
  const auto described = info->payload_as<Piped<protocol::InitialDeviceInfo>>();
  ASSERT_TRUE(described);
  const auto bytes = info->payload().subspan(sizeof(Piped<protocol::InitialDeviceInfo>), described->message.descriptor.report_length);
  std::size_t bits = 0, size = 0, count = 0;
  int depth = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto item = std::to_integer<unsigned>(bytes[at]);
    const std::size_t length = (item & 3) == 3 ? 4 : item & 3;
    ASSERT_LE(at + 1 + length, bytes.size()) << "the last item is cut off";
    const auto value = length == 0 ? 0 : std::to_integer<unsigned>(bytes[at + 1]);
    switch (item & 0xFC) {
      case 0x74: size = value; break;
      case 0x94: count = value; break;
      case 0x80: bits += size * count; break;
      case 0xA0: ++depth; break;
      case 0xC0: --depth; break;
      default: break;
    }
    at += 1 + length;
  }
  EXPECT_EQ(bits, sizeof(protocol::InputReport) * 8);
  EXPECT_EQ(depth, 0);
}

TEST_F(MouseTest, foreign_version_is_refused) {
  negotiate(0x00010000);
  EXPECT_EQ(approved_, 0);
}

TEST_F(MouseTest, nonsense_takes_the_channel) {
  negotiate(protocol::kVersion2_0);
  channel_->send(piped(protocol::Header{9U, 0U}));
  guest_.run();
  EXPECT_TRUE(channel_->failure());
}

TEST_F(MouseTest, saved_state_keeps_the_driver_listening) {
  negotiate(protocol::kVersion2_0);
  channel_->send(piped(protocol::Header{3U, 0U}));
  guest_.run();
  ASSERT_TRUE(mouse_.is_ready());
  const auto state = mouse_.save().value();
  Mouse other;
  EXPECT_FALSE(other.move({}));
  ASSERT_TRUE(other.restore(state));
  auto channel = guest_.open(other, {.is_restored = true});
  EXPECT_TRUE(other.move({.x = 5}));
  EXPECT_FALSE(other.restore(nlohmann::json{{"version", 2}}));
}

}  // namespace
}  // namespace bygone::devices::mouse
