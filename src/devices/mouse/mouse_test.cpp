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
