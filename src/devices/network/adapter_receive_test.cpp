#include "devices/network/network_adapter.h"

#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "devices/network/testing_adapter.h"
#include "network/tap.h"

// From the wire to the guest.
namespace bygone::devices::network {
namespace {

TEST_F(NetworkAdapterTest, a_burst_is_one_packet_and_one_interrupt) {
  connect();
  const auto frame = make_frame({});
  EXPECT_FALSE(channel_->receive());  // idle: from here on it wants interrupts
  const std::uint64_t before = channel_->interrupts();
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(backend_->sink->deliver(frame, {}));
  backend_->sink->finish_delivery();
  EXPECT_EQ(channel_->interrupts(), before + 1);
  const auto packet = channel_->receive();
  ASSERT_TRUE(packet);
  EXPECT_EQ(unpack(*packet).size(), 20U);
  finish(packet->transaction_id());
  EXPECT_FALSE(channel_->receive());
}

TEST_F(NetworkAdapterTest, what_the_guest_says_of_a_frame_that_it_took_is_a_receipt) {
  connect();
  (void)receive_all();  // what lies in the ring already keeps the next packet from being told
  const std::uint64_t before = channel_->host().statistics().completions_received;
  std::thread([&] {  // a thread's pace is its own
    EXPECT_TRUE(deliver(make_frame({})));
    EXPECT_EQ(::sched_getscheduler(0), SCHED_BATCH) << "nobody waits for it";
  }).join();
  EXPECT_EQ(receive_all().size(), 1U);
  EXPECT_EQ(channel_->host().statistics().completions_received, before + 1);
}

TEST_F(NetworkAdapterTest, valid_checksums_are_told) {
  connect();
  deliver(make_frame({}), {.checksums_are_valid = true});
  deliver(make_frame({.is_v6 = true, .is_udp = true}), {.checksums_are_valid = true});
  deliver(make_frame({}));
  const auto received = receive_all();
  ASSERT_EQ(received.size(), 3U);
  EXPECT_EQ(received[0].checksums, rndis::kReceiveIpSucceeded | rndis::kReceiveTcpSucceeded);
  EXPECT_EQ(received[1].checksums, rndis::kReceiveUdpSucceeded);
  EXPECT_FALSE(received[2].checksums);
}

TEST_F(NetworkAdapterTest, without_room_frames_are_lost_and_the_back_end_hears_when_there_is_some) {
  connect();
  const auto frame = make_frame({});
  std::uint32_t taken = 0;
  while (deliver(frame)) ++taken;
  EXPECT_EQ(taken, sections_);
  EXPECT_FALSE(backend_->sink->has_room());
  EXPECT_EQ(backend_->room_again, 0);
  EXPECT_EQ(receive_all().size(), taken);
  EXPECT_EQ(backend_->room_again, 1);
  EXPECT_TRUE(backend_->sink->has_room());
  EXPECT_TRUE(deliver(frame));
}

TEST_F(NetworkAdapterTest, a_back_end_that_only_asks_hears_of_room_too) {
  connect();
  const auto frame = make_frame({});
  while (backend_->sink->has_room()) ASSERT_TRUE(deliver(frame)) << "it asks first, so nothing is lost";
  EXPECT_EQ(backend_->room_again, 0);
  EXPECT_FALSE(receive_all().empty());
  EXPECT_EQ(backend_->room_again, 1);
  // A driver that goes away, or takes its buffer back, makes room as well.
  while (backend_->sink->has_room()) ASSERT_TRUE(deliver(frame));
  channel_->close();
  EXPECT_EQ(backend_->room_again, 2);
  EXPECT_TRUE(backend_->sink->has_room());
}

TEST_F(NetworkAdapterTest, frames_of_a_host_interface_stop_while_the_guest_is_slow_and_none_is_lost) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd wire(pair[1]);
  const auto interface = bygone::network::create_frame_descriptor(guest_.loop(), UniqueFd(pair[0]), "pair", {});
  adapter_ = std::make_unique<NetworkAdapter>(AdapterOptions{"net0", {}, kAddress, {}}, guest_.loop(), *interface);
  ASSERT_TRUE(adapter_->start());
  connect();
  const auto frame = make_frame({});
  std::size_t sent = 0, received = 0;
  for (int idle = 0; idle < 20;) {  // until neither the guest's buffer nor the socket takes more
    const bool took = ::write(wire.get(), frame.data(), frame.size()) > 0;
    sent += took ? 1 : 0;
    idle = took ? 0 : idle + 1;
    guest_.run();
  }
  EXPECT_GT(sent, sections_ / 2);
  for (int round = 0; round < 1000 && received < sent; ++round) received += receive_all().size();
  EXPECT_EQ(received, sent);
  EXPECT_EQ(adapter_->inspect()["frames_without_room"], 0);
  channel_.reset();
  adapter_.reset();  // before its back end
}

TEST_F(NetworkAdapterTest, frames_wait_for_room_in_the_ring) {
  connect(nvsp::kVersion6_1, 1500, {.ring_pages = 2});
  const auto frame = make_frame({});
  for (std::uint32_t i = 0; i < sections_; ++i) {
    ASSERT_TRUE(backend_->sink->deliver(frame, {}));
    if (i % 2 == 0) backend_->sink->finish_delivery();  // many small packets fill the ring
  }
  backend_->sink->finish_delivery();
  EXPECT_EQ(receive_all().size(), sections_);
}

TEST_F(NetworkAdapterTest, large_segments_go_in_pieces_to_a_driver_that_coalesces) {
  connect(nvsp::kVersion6_1);
  rndis::OffloadParameters parameters{};
  parameters.header = {rndis::kObjectDefault, 3, sizeof parameters};
  parameters.coalesce_ipv4 = parameters.coalesce_ipv6 = rndis::kCoalesceOn;
  ASSERT_EQ(set(Oid::kOffloadParameters, join(parameters)), rndis::Status::kSuccess);
  EXPECT_TRUE(backend_->guest_takes_large);
  const auto large = make_frame({.payload_bytes = 30000});
  EXPECT_TRUE(backend_->sink->deliver(make_frame({}), {}));
  EXPECT_TRUE(backend_->sink->deliver(large, {.checksums_are_valid = true, .segment_bytes = 1448}));
  backend_->sink->finish_delivery();
  const auto packet = channel_->receive();
  ASSERT_TRUE(packet);
  const auto pieces = unpack(*packet);
  ASSERT_GT(pieces.size(), 2U);
  std::vector<std::byte> joined;
  for (std::size_t i = 1; i < pieces.size(); ++i) {
    EXPECT_NE(pieces[i].piece_flags & rndis::kPacketIsPiece, 0);
    EXPECT_EQ((pieces[i].piece_flags & rndis::kFirstPiece) != 0, i == 1);
    EXPECT_EQ((pieces[i].piece_flags & rndis::kLastPiece) != 0, i + 1 == pieces.size());
    joined.insert(joined.end(), pieces[i].frame.begin(), pieces[i].frame.end());
  }
  EXPECT_EQ(pieces[0].piece_flags, 0);
  EXPECT_TRUE(pieces[1].checksums);
  EXPECT_EQ(joined, large);
}

TEST_F(NetworkAdapterTest, large_segments_are_cut_for_a_driver_that_does_not_coalesce) {
  connect(nvsp::kVersion5);
  EXPECT_FALSE(backend_->guest_takes_large);
  EXPECT_TRUE(deliver(make_frame({.payload_bytes = 10000}), {.checksums_are_valid = true, .segment_bytes = 1448}));
  const auto received = receive_all();
  ASSERT_EQ(received.size(), 7U);
  std::size_t bytes = 0;
  for (const Received& frame : received) bytes += frame.frame.size() - 54;
  EXPECT_EQ(bytes, 10000U);
}

}  // namespace
}  // namespace bygone::devices::network
