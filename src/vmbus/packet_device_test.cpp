#include "vmbus/packet_device.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "vmbus/testing/fake_guest.h"

namespace bygone::vmbus {
namespace {

using testing::FakeGuest;

/// Sends back what it gets; "burst N" earns N numbered messages; "bad" is a broken protocol.
class EchoDevice : public PacketDevice {
 public:
  explicit EchoDevice(Framing framing) : PacketDevice(Offer{.name = "echo"}, framing, {.message_bytes = 64, .queued_bytes = 4096}) {}
  bool announce(const std::string& text) { return send({std::as_bytes(std::span(text))}); }
  int opened = 0, closed = 0;

 private:
  Result<void> on_open(const ChannelParameters&) override { return ++opened, Result<void>(); }
  void on_close() override { ++closed; }
  Result<void> on_message(std::span<const std::byte> message) override {
    if (message.size() >= 3 && std::memcmp(message.data(), "bad", 3) == 0) return fail(ErrorCode::kCorrupt, "bad message");
    send({message});
    return {};
  }
};

std::span<const std::byte> as_bytes(std::string_view text) { return std::as_bytes(std::span(text)); }
std::string text_of(const Packet& packet, std::size_t skip = 0) {
  const auto bytes = packet.payload().subspan(skip);
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

TEST(PacketDeviceTest, raw_message_is_delivered_and_answered) {
  FakeGuest guest;
  EchoDevice device(Framing::kRaw);
  auto channel = guest.open(device);
  ASSERT_TRUE(channel->send(as_bytes("12345678")));
  const auto reply = channel->receive();
  ASSERT_TRUE(reply);
  EXPECT_EQ(text_of(*reply), "12345678");
  EXPECT_EQ(channel->interrupts(), 1U);
  channel->close();
  EXPECT_EQ(device.closed, 1);
}

TEST(PacketDeviceTest, pipe_message_keeps_its_exact_length) {
  FakeGuest guest;
  EchoDevice device(Framing::kPipe);
  auto channel = guest.open(device);
  struct {
    spec::vmbus::PipeHeader header{spec::vmbus::kPipeData, 5};
    char text[5] = {'h', 'e', 'l', 'l', 'o'};
  } message;
  ASSERT_TRUE(channel->send(bytes_of(message)));
  const auto reply = channel->receive();
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->payload_as<spec::vmbus::PipeHeader>()->length, 5U);
  EXPECT_EQ(text_of(*reply, 8).substr(0, 5), "hello");
}

TEST(PacketDeviceTest, pipe_length_beyond_the_packet_takes_the_channel) {
  FakeGuest guest;
  EchoDevice device(Framing::kPipe);
  auto channel = guest.open(device);
  const spec::vmbus::PipeHeader header{spec::vmbus::kPipeData, 9};
  channel->send(bytes_of(header));
  guest.run();
  ASSERT_TRUE(channel->failure());
  EXPECT_FALSE(channel->is_open());
  EXPECT_EQ(device.closed, 1);
}

TEST(PacketDeviceTest, short_pipe_packet_takes_the_channel) {
  FakeGuest guest;
  EchoDevice device(Framing::kPipe);
  auto channel = guest.open(device);
  channel->send({});
  guest.run();
  EXPECT_TRUE(channel->failure());
}

TEST(PacketDeviceTest, message_that_breaks_the_protocol_takes_the_channel_and_a_new_one_works) {
  FakeGuest guest;
  EchoDevice device(Framing::kRaw);
  auto channel = guest.open(device);
  channel->send(as_bytes("bad     "));
  guest.run();
  ASSERT_TRUE(channel->failure());
  auto second = guest.open(device);
  second->send(as_bytes("good now"));
  EXPECT_TRUE(second->receive());
}

TEST(PacketDeviceTest, messages_wait_for_room_in_order) {
  for (const bool flow_control : {true, false}) {
    FakeGuest guest;
    EchoDevice device(Framing::kRaw);
    auto channel = guest.open(device, {.ring_pages = 2, .flow_control = flow_control});
    int sent = 0;
    while (device.announce(fmt::format("{:08}", sent))) ++sent;
    EXPECT_GT(sent, 4096 / 32 + 400);  // the ring and the queue
    for (int i = 0; i < sent; ++i) {
      const auto message = channel->receive();
      ASSERT_TRUE(message) << i << " flow control " << flow_control;
      EXPECT_EQ(text_of(*message), fmt::format("{:08}", i));
    }
    EXPECT_FALSE(channel->receive());
  }
}

TEST(PacketDeviceTest, messages_that_wait_are_saved_and_come_in_order_after_a_restore) {
  FakeGuest guest;
  EchoDevice before(Framing::kRaw), after(Framing::kRaw);
  auto channel = guest.open(before, {.ring_pages = 2});
  int sent = 0;
  while (before.announce(fmt::format("{:08}", sent))) ++sent;
  const auto state = nlohmann::json::from_cbor(nlohmann::json::to_cbor(before.save().value()));
  std::uint64_t waiting = state["unsent"]["sizes"].size();
  ASSERT_EQ(waiting, 4096 / 8);
  channel->close();
  ASSERT_TRUE(after.restore(state));
  channel = guest.open(after, {.ring_pages = 2, .is_restored = true});
  for (std::uint64_t i = static_cast<std::uint64_t>(sent) - waiting; i < static_cast<std::uint64_t>(sent); ++i) {
    const auto message = channel->receive();
    ASSERT_TRUE(message) << i;
    EXPECT_EQ(text_of(*message), fmt::format("{:08}", i));
  }
  EXPECT_FALSE(channel->receive());
}

TEST(PacketDeviceTest, saved_messages_that_are_none_are_refused) {
  EchoDevice device(Framing::kRaw);
  const auto with = [](const nlohmann::json& sizes, const nlohmann::json& bytes) {
    return nlohmann::json{{"unsent", {{"version", 1}, {"sizes", sizes}, {"bytes", bytes}}}};
  };
  EXPECT_TRUE(device.restore(nlohmann::json::object())) << "older states have none";
  EXPECT_TRUE(device.restore(with({1, 2}, {1, 2, 3})));
  EXPECT_FALSE(device.restore(with({1, 3}, {1, 2, 3})));
  EXPECT_FALSE(device.restore(with({1, 1}, {1, 2, 3})));
  EXPECT_FALSE(device.restore(with({0}, nlohmann::json::array())));
  EXPECT_FALSE(device.restore(with({-1}, {1})));
  EXPECT_FALSE(device.restore(with({5000}, std::vector<int>(5000))));
  EXPECT_FALSE(device.restore(with(nlohmann::json::object(), {300})));
  EXPECT_FALSE(device.restore(nlohmann::json{{"unsent", 7}}));
}

TEST(PacketDeviceTest, a_full_ring_leaves_the_loop_to_others_in_between) {
  FakeGuest guest;
  EchoDevice device(Framing::kRaw);
  auto channel = guest.open(device, {.ring_pages = 40});
  constexpr std::uint64_t kPackets = 2 * kPacketsATurn + 500;
  for (std::uint64_t i = 0; i < kPackets; ++i) ASSERT_TRUE(channel->send(as_bytes("12345678")));
  for (std::uint64_t turn = 1; turn <= 2; ++turn) {
    bool others = false;
    guest.loop().post([&] { others = true; });
    guest.loop().run_once(std::chrono::milliseconds(0));
    EXPECT_EQ(channel->host().statistics().packets_received, turn * kPacketsATurn);
    EXPECT_TRUE(others);
  }
  guest.run();
  EXPECT_EQ(channel->host().statistics().packets_received, kPackets) << "and without another signal";
  EXPECT_EQ(channel->host().statistics().signals_received, 1U);
  std::uint64_t echoed = 0;
  while (channel->receive()) ++echoed;
  EXPECT_EQ(echoed, kPackets);
}

TEST(PacketDeviceTest, corrupt_ring_takes_the_channel_only) {
  FakeGuest guest;
  EchoDevice device(Framing::kRaw);
  auto channel = guest.open(device);
  channel->to_host_pages().store(RingPages::Field::kWriteIndex, 3);
  channel->signal();
  guest.run();
  ASSERT_TRUE(channel->failure());
  EXPECT_EQ(channel->failure()->code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace bygone::vmbus
