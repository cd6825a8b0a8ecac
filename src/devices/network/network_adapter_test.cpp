#include "devices/network/network_adapter.h"

#include "devices/network/testing_adapter.h"

namespace bygone::devices::network {
namespace {

TEST_F(NetworkAdapterTest, every_version_connects_sends_and_receives) {
  for (const std::uint32_t version : {nvsp::kVersion1, nvsp::kVersion2, nvsp::kVersion4, nvsp::kVersion5, nvsp::kVersion6, nvsp::kVersion6_1}) {
    SCOPED_TRACE(version);
    connect(version);
    const auto frame = make_frame({});
    send_rndis(data_message(frame), nvsp::kChannelTypeData);
    EXPECT_EQ(rndis_status(), kStatusSuccess);
    ASSERT_EQ(backend_->sent.size(), 1U);
    EXPECT_EQ(backend_->sent.front(), frame);
    EXPECT_TRUE(deliver(frame));
    const auto received = receive_all();
    ASSERT_EQ(received.size(), 1U);
    EXPECT_EQ(received.front().frame, frame);
    channel_.reset();
    adapter_.reset();
  }
}

TEST_F(NetworkAdapterTest, unknown_versions_are_refused_and_a_range_gets_its_newest) {
  make_adapter();
  channel_ = guest_.open(*adapter_);
  EXPECT_EQ(negotiate(0x7'0000), static_cast<std::uint32_t>(nvsp::Status::kProtocolTooNew));
  EXPECT_EQ(negotiate(0x3'0000), static_cast<std::uint32_t>(nvsp::Status::kProtocolTooOld));
  send(nvsp_message(MessageType::kInitialize, nvsp::Initialize{nvsp::kVersion1, nvsp::kVersion5}));
  EXPECT_EQ(object_at<nvsp::InitializeComplete>(completion(MessageType::kInitializeComplete), 4).version, nvsp::kVersion5);
  EXPECT_EQ(negotiate(nvsp::kVersion6), static_cast<std::uint32_t>(nvsp::Status::kFailure));  // once is enough
}

TEST_F(NetworkAdapterTest, a_message_before_the_version_costs_the_channel) {
  make_adapter();
  channel_ = guest_.open(*adapter_);
  send(nvsp_message(MessageType::kSendReceiveBuffer, nvsp::SendBuffer{1U, 1U}));
  EXPECT_TRUE(channel_->failure());
}

TEST_F(NetworkAdapterTest, buffers_that_do_not_exist_or_are_too_small_are_refused) {
  make_adapter();
  channel_ = guest_.open(*adapter_);
  ASSERT_EQ(negotiate(nvsp::kVersion5), kStatusSuccess);
  const auto small = guest_.create_gpadl(guest_.allocate_pages(1));
  for (const std::uint32_t gpadl : {0xDEADU, small.value}) {
    send(nvsp_message(MessageType::kSendSendBuffer, nvsp::SendBuffer{gpadl, 0U}));
    EXPECT_NE(object_at<le32>(completion(MessageType::kSendSendBufferComplete), 4), kStatusSuccess);
  }
  send(nvsp_message(MessageType::kSendReceiveBuffer, nvsp::SendBuffer{0xDEADU, 0U}));
  EXPECT_NE(object_at<le32>(completion(MessageType::kSendReceiveBufferComplete), 4), kStatusSuccess);
  give_buffers();
  send(nvsp_message(MessageType::kSendReceiveBuffer, nvsp::SendBuffer{receive_id_.value, 0U}));  // there is one
  EXPECT_NE(object_at<le32>(completion(MessageType::kSendReceiveBufferComplete), 4), kStatusSuccess);
}

TEST_F(NetworkAdapterTest, subchannels_and_extended_oids_are_refused_cleanly) {
  connect();
  send(nvsp_message(MessageType::kSubchannel, nvsp::SubchannelRequest{1U, 4U}));
  const auto refused = object_at<nvsp::SubchannelComplete>(completion(MessageType::kSubchannel), 4);
  EXPECT_NE(refused.status, kStatusSuccess);
  EXPECT_EQ(refused.count, 0U);
  send(nvsp_message(MessageType::kOidQueryEx, nvsp::SubchannelRequest{}));
  completion(MessageType::kOidQueryExComplete);
  EXPECT_EQ(query(Oid::kReceiveScaleCapabilities).first, rndis::Status::kNotSupported);
  EXPECT_TRUE(guest_.open(*adapter_, {.subchannel_index = 1})->failure());
  EXPECT_TRUE(channel_->is_open());
}

TEST_F(NetworkAdapterTest, larger_packets_get_larger_sections) {
  connect(nvsp::kVersion5, 9000);
  EXPECT_GE(section_bytes_, 9000U + 14 + 44);
  const auto frame = make_frame({.payload_bytes = 8960});
  EXPECT_TRUE(deliver(frame));
  const auto received = receive_all();
  ASSERT_EQ(received.size(), 1U);
  EXPECT_EQ(received.front().frame, frame);
  EXPECT_EQ(backend_->guest_mtu, 9000U);
}

// OIDs.

TEST_F(NetworkAdapterTest, what_drivers_ask_first_is_answered) {
  connect();
  const auto number = [&](Oid oid) {
    const auto [status, value] = query(oid);
    EXPECT_EQ(status, rndis::Status::kSuccess);
    return object_at<le32>(value).value();
  };
  EXPECT_EQ(number(Oid::kMaximumFrameSize), 1500U);
  EXPECT_EQ(number(Oid::kMaximumTotalSize), 1514U);
  EXPECT_EQ(number(Oid::kMediaConnectStatus), rndis::kMediaConnected);
  EXPECT_GT(number(Oid::kLinkSpeed), 0U);
  EXPECT_EQ(query(Oid::kPermanentAddress).second, join(kAddress));
  EXPECT_EQ(query(Oid::kCurrentAddress).second, join(kAddress));
  EXPECT_EQ(query(static_cast<Oid>(0x7777)).first, rndis::Status::kNotSupported);
  // Each OID of the list answers, or takes a setting.
  const auto list = query(Oid::kSupportedList).second;
  ASSERT_GE(list.size(), 20U * 4);
  for (std::size_t i = 0; i < list.size() / 4; ++i) {
    const auto oid = static_cast<Oid>(object_at<le32>(list, i * 4).value());
    const auto status = query(oid).first;
    if (status != rndis::Status::kSuccess) {
      EXPECT_THAT(oid, ::testing::AnyOf(Oid::kProtocolOptions, Oid::kNetworkLayerAddresses, Oid::kRndisConfigParameter,
                                        Oid::kOffloadParameters, Oid::kOffloadEncapsulation));
    }
  }
}

TEST_F(NetworkAdapterTest, offload_capabilities_come_in_the_revision_that_is_asked_for) {
  connect();
  for (const auto& [revision, size] : {std::pair<std::uint8_t, std::size_t>{1, 112}, {2, 144}, {3, 156}, {9, 156}}) {
    const auto [status, value] = query(Oid::kOffloadHardwareCapabilities,
                                       join(rndis::ObjectHeader{rndis::kObjectOffload, revision, static_cast<std::uint16_t>(size)}));
    ASSERT_EQ(status, rndis::Status::kSuccess);
    EXPECT_EQ(value.size(), size);
    const auto header = object_at<rndis::ObjectHeader>(value);
    EXPECT_EQ(header.type, rndis::kObjectOffload);
    EXPECT_EQ(header.bytes, size);
    EXPECT_LE(header.revision, 3);
  }
  EXPECT_EQ(object_at<rndis::Offload>(query(Oid::kOffloadCurrentConfiguration).second).coalesces_ipv4, 1);
}

TEST_F(NetworkAdapterTest, the_guest_changes_its_address) {
  connect();
  const auto utf16 = [](std::string_view text) {
    std::vector<std::byte> result;
    for (const char c : text) {
      result.push_back(static_cast<std::byte>(c));
      result.push_back(std::byte{0});
    }
    return result;
  };
  const auto configure = [&](std::string_view name, std::string_view value) {
    const auto name_bytes = utf16(name), value_bytes = utf16(value);
    const rndis::ConfigParameter parameter{sizeof parameter, static_cast<std::uint32_t>(name_bytes.size()), rndis::kConfigParameterString,
                                           static_cast<std::uint32_t>(sizeof parameter + name_bytes.size()),
                                           static_cast<std::uint32_t>(value_bytes.size())};
    return set(Oid::kRndisConfigParameter, join(parameter, name_bytes, value_bytes));
  };
  EXPECT_EQ(configure("NetworkAddress", "020000ABCD77"), rndis::Status::kSuccess);
  const MacAddress changed = {2, 0, 0, 0xAB, 0xCD, 0x77};
  EXPECT_EQ(query(Oid::kCurrentAddress).second, join(changed));
  EXPECT_EQ(query(Oid::kPermanentAddress).second, join(kAddress));
  deliver(make_frame({}));  // to the old one
  EXPECT_TRUE(receive_all().empty());
  deliver(make_frame({.destination = changed}));
  EXPECT_EQ(receive_all().size(), 1U);
  EXPECT_NE(configure("NetworkAddress", "03000000ABCD"), rndis::Status::kSuccess);  // a group
  EXPECT_NE(configure("NetworkAddress", "0200"), rndis::Status::kSuccess);
  EXPECT_NE(configure("NetworkAddress", "02000000zz11"), rndis::Status::kSuccess);
  EXPECT_NE(configure("SomethingElse", "020000ABCD77"), rndis::Status::kSuccess);
  EXPECT_NE(set(Oid::kRndisConfigParameter, join(rndis::ConfigParameter{0xFFFF'FFF0U, 28U, 2U, 0U, 24U})), rndis::Status::kSuccess);
}

TEST_F(NetworkAdapterTest, filters_let_through_what_they_say) {
  connect();
  const MacAddress other = {2, 0, 0, 0, 0, 8}, group = {1, 0, 0x5E, 0, 0, 1}, group2 = {1, 0, 0x5E, 0, 0, 2};
  const MacAddress everyone = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
  const auto passes = [&](const MacAddress& destination) {
    deliver(make_frame({.destination = destination}));
    return receive_all().size() == 1;
  };
  EXPECT_EQ(set(Oid::kMulticastList, join(group)), rndis::Status::kSuccess);
  set_filter(rndis::kFilterDirected);
  EXPECT_TRUE(passes(kAddress));
  EXPECT_FALSE(passes(other));
  EXPECT_FALSE(passes(everyone));
  EXPECT_FALSE(passes(group));
  set_filter(rndis::kFilterBroadcast | rndis::kFilterMulticast);
  EXPECT_FALSE(passes(kAddress));
  EXPECT_TRUE(passes(everyone));
  EXPECT_TRUE(passes(group));
  EXPECT_FALSE(passes(group2));
  set_filter(rndis::kFilterAllMulticast);
  EXPECT_TRUE(passes(group2));
  set_filter(rndis::kFilterPromiscuous);
  EXPECT_TRUE(passes(other));
  set_filter(0);
  EXPECT_FALSE(passes(kAddress));
  EXPECT_EQ(query(Oid::kMulticastList).second, join(group));
  EXPECT_NE(set(Oid::kMulticastList, std::vector<std::byte>(7)), rndis::Status::kSuccess);
  EXPECT_NE(set(Oid::kMulticastList, std::vector<std::byte>(6 * 65)), rndis::Status::kSuccess);
}

TEST_F(NetworkAdapterTest, the_link_goes_down_and_up) {
  connect();
  for (const bool up : {false, true}) {
    backend_->sink->set_link(up);
    const auto packet = channel_->receive();
    ASSERT_TRUE(packet);
    const auto messages = unpack(*packet);
    finish(packet->transaction_id());
    ASSERT_EQ(messages.size(), 1U);
    EXPECT_EQ(messages[0].header.type, static_cast<std::uint32_t>(rndis::MessageType::kIndicateStatus));
    EXPECT_EQ(object_at<rndis::IndicateStatus>(messages[0].body).status,
              static_cast<std::uint32_t>(up ? rndis::Status::kMediaConnect : rndis::Status::kMediaDisconnect));
    EXPECT_EQ(object_at<le32>(query(Oid::kMediaConnectStatus).second), up ? rndis::kMediaConnected : rndis::kMediaDisconnected);
    backend_->sink->set_link(up);  // no news
    EXPECT_FALSE(channel_->receive());
  }
}

}  // namespace
}  // namespace bygone::devices::network
