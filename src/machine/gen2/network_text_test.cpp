#include "machine/gen2/network_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bygone::machine::gen2 {
namespace {

using network::NatOptions;
using network::TapOptions;

TEST(NetworkTextTest, nothing_said_is_nat_and_none_is_none) {
  const auto standard = parse_networks({});
  ASSERT_TRUE(standard);
  ASSERT_EQ(standard->size(), 1U);
  EXPECT_TRUE(std::holds_alternative<NatOptions>(standard->front().backend));
  EXPECT_TRUE(parse_networks({"none"})->empty());
  EXPECT_FALSE(parse_networks({"none", "nat"}));
}

TEST(NetworkTextTest, everything_can_be_said) {
  const auto networks = parse_networks({"nat,forward=tcp:2222:22,forward=udp:0.0.0.0:53:5353,mac=02:00:00:00:aB:01,capture=/tmp/x.pcapng",
                                        "tap:tap0,mac=02-00-00-00-00-02", "fd:5", "unplugged"});
  ASSERT_TRUE(networks) << networks.error().text();
  ASSERT_EQ(networks->size(), 4U);
  const auto& nat = std::get<NatOptions>((*networks)[0].backend);
  ASSERT_EQ(nat.forwards.size(), 2U);
  EXPECT_FALSE(nat.forwards[0].is_udp);
  EXPECT_EQ(nat.forwards[0].host_address, "127.0.0.1");
  EXPECT_EQ(nat.forwards[0].host_port, 2222);
  EXPECT_EQ(nat.forwards[0].guest_port, 22);
  EXPECT_TRUE(nat.forwards[1].is_udp);
  EXPECT_EQ(nat.forwards[1].host_address, "0.0.0.0");
  EXPECT_EQ((*networks)[0].address, (network::MacAddress{2, 0, 0, 0, 0xAB, 1}));
  EXPECT_EQ((*networks)[0].capture, "/tmp/x.pcapng");
  EXPECT_EQ(std::get<TapOptions>((*networks)[1].backend).interface_name, "tap0");
  EXPECT_EQ((*networks)[1].address, (network::MacAddress{2, 0, 0, 0, 0, 2}));
  EXPECT_EQ(std::get<TapOptions>((*networks)[2].backend).descriptor, 5);
  EXPECT_TRUE(std::holds_alternative<std::monostate>((*networks)[3].backend));
}

TEST(NetworkTextTest, what_is_wrong_is_refused) {
  for (const char* text : {"", "bridge", "tap:", "tap", "fd:x", "fd:1", "nat:x", "nat,forward=22", "nat,forward=tcp:0:22", "nat,forward=tcp:99999:22",
                           "nat,forward=sctp:1:2", "nat,mac=03:00:00:00:00:01", "nat,mac=02:00:00:00:00", "nat,mac=02:00:00:00:00:0g",
                           "nat,capture=", "nat,speed=9", "tap:t0,forward=tcp:1:2", "nat,"}) {
    const auto networks = parse_networks({text});
    ASSERT_FALSE(networks) << text;
    EXPECT_EQ(networks.error().code, ErrorCode::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace bygone::machine::gen2
