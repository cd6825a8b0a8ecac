#include "devices/network/network_adapter.h"

#include "devices/network/testing_adapter.h"

// From the guest to the wire.
namespace bygone::devices::network {
namespace {

TEST_F(NetworkAdapterTest, several_frames_come_in_one_section_of_the_send_buffer) {
  connect();
  const auto first = make_frame({.payload_bytes = 99}), second = make_frame({.payload_bytes = 500});
  const auto one = data_message(first, {}, 8 - data_message(first).size() % 8), two = data_message(second);
  const auto both = join(one, two);
  guest_.write(send_pages_, send_section_bytes_ * std::uint64_t{3}, both);
  send(nvsp_message(MessageType::kSendRndisPacket, nvsp::SendRndisPacket{nvsp::kChannelTypeData, 3U, static_cast<std::uint32_t>(both.size())}));
  EXPECT_EQ(rndis_status(), kStatusSuccess);
  EXPECT_THAT(backend_->sent, ::testing::ElementsAre(first, second));
}

TEST_F(NetworkAdapterTest, a_message_begins_in_the_send_buffer_and_ends_in_pages) {
  connect();
  const auto frame = make_frame({.payload_bytes = 1000});
  const auto message = data_message(frame);
  const std::uint32_t header_bytes = 44;
  guest_.write(send_pages_, 0, std::span(message).first(header_bytes));
  const auto pages = guest_.allocate_pages(1);
  guest_.write(pages, 100, std::span(message).subspan(header_bytes));
  ASSERT_TRUE(channel_->send_gpa_direct(nvsp_message(MessageType::kSendRndisPacket, nvsp::SendRndisPacket{nvsp::kChannelTypeData, 0U, header_bytes}),
                                        pages, 100, static_cast<std::uint32_t>(message.size() - header_bytes), 77));
  EXPECT_EQ(rndis_status(), kStatusSuccess);
  EXPECT_THAT(backend_->sent, ::testing::ElementsAre(frame));
}

TEST_F(NetworkAdapterTest, checksums_that_the_guest_leaves_out_are_made) {
  connect();
  for (const bool v6 : {false, true}) {
    for (const bool udp : {false, true}) {
      const bygone::network::TestFrame what{.is_v6 = v6, .is_udp = udp, .payload_bytes = 701};
      auto without = what;
      without.has_checksums = false;
      const std::uint32_t flags = (v6 ? rndis::kTransmitIsIpv6 : rndis::kTransmitIsIpv4 | rndis::kTransmitIpHeaderChecksum) |
                                  (udp ? rndis::kTransmitUdpChecksum : rndis::kTransmitTcpChecksum);
      backend_->sent.clear();
      send_rndis(data_message(make_frame(without), information(rndis::kChecksumInformation, flags)), nvsp::kChannelTypeData);
      EXPECT_EQ(rndis_status(), kStatusSuccess);
      EXPECT_THAT(backend_->sent, ::testing::ElementsAre(make_frame(what)));
    }
  }
}

TEST_F(NetworkAdapterTest, a_large_send_is_cut_for_a_back_end_that_wants_wire_sizes) {
  connect();
  auto large = make_frame({.has_checksums = false, .payload_bytes = 40000});
  large[16] = large[17] = std::byte{0};  // the length is left out
  send_rndis(data_message(large, information(rndis::kLargeSendInformation, 1448 | 34U << 20 | 1U << 30)), nvsp::kChannelTypeData);
  EXPECT_EQ(rndis_status(), kStatusSuccess);
  ASSERT_EQ(backend_->sent.size(), (40000U + 1447) / 1448);
  for (const auto& frame : backend_->sent) {
    EXPECT_LE(frame.size(), 54U + 1448);
    EXPECT_TRUE(transport_checksum_is_right(frame, find_headers(frame)));
  }
}

TEST_F(NetworkAdapterTest, a_large_send_stays_whole_for_a_back_end_that_takes_it) {
  make_adapter(true);
  connect();
  auto large = make_frame({.has_checksums = false, .payload_bytes = 60000});
  large[16] = large[17] = std::byte{0};
  send_rndis(data_message(large, information(rndis::kLargeSendInformation, 1448)), nvsp::kChannelTypeData);
  EXPECT_EQ(rndis_status(), kStatusSuccess);
  EXPECT_THAT(backend_->sent, ::testing::ElementsAre(make_frame({.payload_bytes = 60000})));
}

TEST_F(NetworkAdapterTest, vlan_tags_move_between_frame_and_information) {
  connect();
  const auto plain = make_frame({});
  const std::uint32_t value = 5 | 0x123 << rndis::kVlanIdShift;  // priority 5, VLAN 0x123
  send_rndis(data_message(plain, information(rndis::kVlanInformation, value)), nvsp::kChannelTypeData);
  EXPECT_EQ(rndis_status(), kStatusSuccess);
  ASSERT_EQ(backend_->sent.size(), 1U);
  const auto tagged = backend_->sent.front();
  ASSERT_EQ(tagged.size(), plain.size() + 4);
  EXPECT_EQ(object_at<be16>(tagged, 12), net::kTypeVlan);
  EXPECT_EQ(object_at<be16>(tagged, 14), 5 << 13 | 0x123);
  EXPECT_TRUE(deliver(tagged));
  const auto received = receive_all();
  ASSERT_EQ(received.size(), 1U);
  EXPECT_EQ(received[0].frame, plain);
  EXPECT_EQ(received[0].vlan, value);
}

TEST_F(NetworkAdapterTest, malformed_messages_are_answered_and_disturb_nothing) {
  connect();
  const auto frame = make_frame({});
  const auto good = data_message(frame);
  const auto with = [&](std::size_t offset, std::uint32_t value, std::vector<std::byte> message) {
    const le32 wire(value);
    std::memcpy(message.data() + offset, &wire, sizeof wire);
    return message;
  };
  const auto with_information = data_message(frame, information(rndis::kChecksumInformation, rndis::kTransmitTcpChecksum));
  const std::vector<std::vector<std::byte>> bad = {
      with(0, 99, good),                   // type
      with(4, 7, good),                    // length below its header
      with(4, 0xFFFF'FFFF, good),          // length beyond the message
      with(8, 4, good),                    // data inside the packet header
      with(8, 0xFFFF'FFF0, good),          // data beyond
      with(12, 0xFFFF'FFFF, good),         // data length
      with(12, 13, good),                  // shorter than an Ethernet header
      with(28, 0xFFFF'FFF0, with_information),  // information offset
      with(32, 0xFFFF'FFF0, with_information),  // information length
      with(44, 8, with_information),            // an item shorter than its header: would loop
      with(44, 0, with_information),
      with(44, 4000, with_information),         // beyond the information
      with(52, 14, with_information),           // its value beyond itself
      with(52, 0xFFFF'FFFC, with_information),
      data_message(make_frame({.is_udp = true}), information(rndis::kLargeSendInformation, 1448)),
      std::vector<std::byte>(7),
  };
  for (std::size_t i = 0; i < bad.size(); ++i) {
    SCOPED_TRACE(i);
    send_rndis(bad[i], nvsp::kChannelTypeData);
    EXPECT_EQ(rndis_status(), static_cast<std::uint32_t>(nvsp::Status::kInvalidRndisPacket));
  }
  EXPECT_TRUE(backend_->sent.empty());
  for (const nvsp::SendRndisPacket request : {nvsp::SendRndisPacket{0U, 0xFFFFU, 100U}, nvsp::SendRndisPacket{0U, 0U, 0xFFFF'FFFFU},
                                              nvsp::SendRndisPacket{0U, 0xFFFF'FFFEU, 6144U}}) {
    send(nvsp_message(MessageType::kSendRndisPacket, request));
    EXPECT_EQ(rndis_status(), static_cast<std::uint32_t>(nvsp::Status::kInvalidRndisPacket));
  }
  send_rndis(good, nvsp::kChannelTypeData);
  EXPECT_EQ(rndis_status(), kStatusSuccess);
  EXPECT_EQ(backend_->sent.size(), 1U);
  EXPECT_EQ(adapter_->inspect()["bad_messages"], bad.size() + 3);
}

TEST_F(NetworkAdapterTest, pages_that_are_no_memory_are_refused) {
  connect();
  const std::vector<std::uint64_t> nowhere = {0x1234'5678};
  ASSERT_TRUE(channel_->send_gpa_direct(nvsp_message(MessageType::kSendRndisPacket, nvsp::SendRndisPacket{0U, nvsp::kNoSendSection, 0U}), nowhere, 0, 200, 77));
  EXPECT_EQ(rndis_status(), static_cast<std::uint32_t>(nvsp::Status::kInvalidRndisPacket));
  const std::vector<std::uint64_t> many(64, 1);  // more than any message
  ASSERT_TRUE(channel_->send_gpa_direct(nvsp_message(MessageType::kSendRndisPacket, nvsp::SendRndisPacket{0U, nvsp::kNoSendSection, 0U}), many, 0, 64 * 4096, 77));
  EXPECT_EQ(rndis_status(), static_cast<std::uint32_t>(nvsp::Status::kInvalidRndisPacket));
}

TEST_F(NetworkAdapterTest, packets_of_other_types_and_cut_off_messages_cost_the_channel) {
  for (int kind = 0; kind < 3; ++kind) {
    connect();
    const le32 type(static_cast<std::uint32_t>(MessageType::kSendRndisPacket));
    const std::array payload = {bytes_of(type).first(kind == 2 ? 0U : 4U)};
    channel_->send_packet({kind == 0 ? vmbus::PacketType::kCancel : vmbus::PacketType::kInBand, 1, true, {}, payload});
    guest_.run();
    EXPECT_TRUE(channel_->failure()) << kind;
    channel_.reset();
  }
}

}  // namespace
}  // namespace bygone::devices::network
