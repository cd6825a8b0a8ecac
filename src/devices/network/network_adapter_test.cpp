#include "devices/network/network_adapter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "devices/network/testing_backend.h"
#include "network/testing_frames.h"
#include "vmbus/testing/fake_guest.h"

namespace bygone::devices::network {
namespace {

namespace nvsp = spec::netvsp;
namespace rndis = spec::rndis;
namespace net = spec::internet;
using bygone::network::find_headers;
using bygone::network::FrameLayout;
using bygone::network::make_frame;
using nvsp::MessageType;
using rndis::Oid;
using vmbus::testing::FakeGuest;
using vmbus::testing::GuestChannel;

constexpr MacAddress kAddress = {2, 0, 0, 0, 0, 9};
constexpr std::size_t kReceivePages = 64, kSendPages = 16;
constexpr std::uint32_t kStatusSuccess = static_cast<std::uint32_t>(nvsp::Status::kSuccess);

template <typename T>
T object_at(std::span<const std::byte> bytes, std::size_t offset = 0) {
  T value{};
  EXPECT_LE(offset + sizeof value, bytes.size());
  if (offset + sizeof value <= bytes.size()) std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

template <typename... Parts>
std::vector<std::byte> join(const Parts&... parts) {
  std::vector<std::byte> all;
  const auto add = [&](std::span<const std::byte> bytes) { all.insert(all.end(), bytes.begin(), bytes.end()); };
  const auto add_part = [&]<typename T>(const T& part) {
    if constexpr (std::is_convertible_v<T, std::span<const std::byte>>) {
      add(part);
    } else {
      add(bytes_of(part));
    }
  };
  (add_part(parts), ...);
  return all;
}

template <typename T>
std::vector<std::byte> nvsp_message(MessageType type, const T& body) {
  return join(le32(static_cast<std::uint32_t>(type)), body);
}

/// What a driver makes of one received RNDIS message.
struct Received {
  std::uint32_t channel_type = 0;
  rndis::Header header = {};
  std::vector<std::byte> body;  ///< behind the header
  std::uint64_t transaction = 0;
  std::vector<std::byte> frame;
  std::optional<std::uint32_t> checksums, vlan;
  std::uint8_t piece_flags = 0;
};

class NetworkAdapterTest : public ::testing::Test {
 protected:
  void make_adapter(bool backend_takes_large = false) {
    backend_ = std::make_unique<TestingBackend>(backend_takes_large);
    adapter_ = std::make_unique<NetworkAdapter>(AdapterOptions{"net0", {}, kAddress, {}}, guest_.loop(), *backend_);
    ASSERT_TRUE(adapter_->start());
  }
  std::uint32_t negotiate(std::uint32_t version) {
    send(nvsp_message(MessageType::kInitialize, nvsp::Initialize{version, version}));
    const auto answer = completion(MessageType::kInitializeComplete);
    return answer.empty() ? 0 : object_at<nvsp::InitializeComplete>(answer, 4).status.value();
  }
  /// All that a driver does until it can send and receive.
  void connect(std::uint32_t version = nvsp::kVersion6_1, std::uint32_t mtu = 1500, vmbus::testing::GuestChannelOptions options = {.ring_pages = 9}) {
    if (!adapter_) make_adapter();
    channel_ = guest_.open(*adapter_, options);
    ASSERT_EQ(negotiate(version), kStatusSuccess);
    if (version >= nvsp::kVersion2) {
      send(nvsp_message(MessageType::kSendNdisConfiguration, nvsp::SendNdisConfiguration{mtu + 14, 0U, nvsp::kCapabilityIeee8021Q}), false);
    }
    send(nvsp_message(MessageType::kSendNdisVersion, nvsp::SendNdisVersion{6U, 30U}), false);
    give_buffers();
    const auto initialized = ask(rndis::MessageType::kInitialize, rndis::Initialize{1U, 1U, 0U, 0x4000U});
    ASSERT_EQ(initialized.header.type, static_cast<std::uint32_t>(rndis::MessageType::kInitializeComplete));
    EXPECT_EQ(object_at<rndis::InitializeComplete>(initialized.body).maximum_packets_a_message, kMaximumPacketsAMessage);
    set_filter(rndis::kFilterDirected | rndis::kFilterBroadcast | rndis::kFilterMulticast);
  }
  void give_buffers() {
    receive_pages_ = guest_.allocate_pages(kReceivePages);
    receive_id_ = guest_.create_gpadl(receive_pages_);
    send(nvsp_message(MessageType::kSendReceiveBuffer, nvsp::SendBuffer{receive_id_.value, nvsp::kUsualReceiveBufferId}));
    const auto received = object_at<nvsp::SendReceiveBufferComplete>(completion(MessageType::kSendReceiveBufferComplete), 4);
    ASSERT_EQ(received.status, kStatusSuccess);
    ASSERT_EQ(received.section_count, 1U);
    ASSERT_EQ(received.section.offset, 0U);
    section_bytes_ = received.section.sub_allocation_bytes;
    sections_ = received.section.sub_allocation_count;
    ASSERT_LE(std::uint64_t{section_bytes_} * sections_, kReceivePages * 4096);
    send_pages_ = guest_.allocate_pages(kSendPages);
    send_id_ = guest_.create_gpadl(send_pages_);
    send(nvsp_message(MessageType::kSendSendBuffer, nvsp::SendBuffer{send_id_.value, 0U}));
    const auto sending = object_at<nvsp::SendSendBufferComplete>(completion(MessageType::kSendSendBufferComplete), 4);
    ASSERT_EQ(sending.status, kStatusSuccess);
    send_section_bytes_ = sending.section_bytes;
  }
  void set_filter(std::uint32_t filter) { EXPECT_EQ(set(Oid::kCurrentPacketFilter, join(le32(filter))), rndis::Status::kSuccess); }

  void send(std::span<const std::byte> message, bool wants_completion = true) {
    ASSERT_TRUE(channel_->send(message, 77, wants_completion));
    guest_.run();
  }
  /// The next completion's message. Fails the test when something else comes.
  std::vector<std::byte> completion(MessageType type) {
    const auto packet = channel_->receive();
    if (!packet || packet->type() != vmbus::PacketType::kCompletion) {
      ADD_FAILURE() << "no completion";
      return {};
    }
    EXPECT_EQ(packet->transaction_id(), 77U);
    EXPECT_GE(packet->payload().size(), 32U);
    EXPECT_EQ(object_at<le32>(packet->payload()), static_cast<std::uint32_t>(type));
    return {packet->payload().begin(), packet->payload().end()};
  }
  std::uint32_t rndis_status() {
    const auto message = completion(MessageType::kSendRndisPacketComplete);
    return message.empty() ? 0 : object_at<le32>(message, 4).value();
  }

  /// Sends an RNDIS message through pages of the guest's.
  void send_rndis(std::span<const std::byte> message, std::uint32_t channel_type) {
    const auto pages = guest_.allocate_pages((message.size() + 4095) / 4096);
    guest_.write(pages, 0, message);
    const auto packet = nvsp_message(MessageType::kSendRndisPacket, nvsp::SendRndisPacket{channel_type, nvsp::kNoSendSection, 0U});
    ASSERT_TRUE(channel_->send_gpa_direct(packet, pages, 0, static_cast<std::uint32_t>(message.size()), 77));
    guest_.run();
  }
  template <typename T>
  Received ask(rndis::MessageType type, const T& body, std::span<const std::byte> information = {}) {
    rndis::Header header;
    header.type = static_cast<std::uint32_t>(type);
    header.length = static_cast<std::uint32_t>(sizeof header + sizeof body + information.size());
    send_rndis(join(header, body, information), nvsp::kChannelTypeControl);
    Received answer;
    bool completed = false;
    for (int i = 0; i < 2; ++i) {
      const auto packet = channel_->receive();
      if (!packet) {
        ADD_FAILURE() << "no answer";
        return answer;
      }
      if (packet->type() == vmbus::PacketType::kCompletion) {
        completed = true;
      } else {
        auto messages = unpack(*packet);
        if (!messages.empty()) answer = std::move(messages.front());
        finish(answer.transaction);
      }
    }
    EXPECT_TRUE(completed);
    EXPECT_EQ(answer.channel_type, nvsp::kChannelTypeControl);
    return answer;
  }
  std::pair<rndis::Status, std::vector<std::byte>> query(Oid oid, std::span<const std::byte> information = {}) {
    rndis::OidRequest request{5U, static_cast<std::uint32_t>(oid), static_cast<std::uint32_t>(information.size()), sizeof request, 0U};
    const auto answer = ask(rndis::MessageType::kQuery, request, information);
    EXPECT_EQ(answer.header.type, static_cast<std::uint32_t>(rndis::MessageType::kQueryComplete));
    const auto complete = object_at<rndis::QueryComplete>(answer.body);
    EXPECT_EQ(complete.request_id, 5U);
    std::vector<std::byte> value;
    if (complete.information_bytes != 0) {
      EXPECT_LE(complete.information_offset + complete.information_bytes, answer.body.size());
      value.assign(answer.body.begin() + static_cast<std::ptrdiff_t>(complete.information_offset.value()),
                   answer.body.begin() + static_cast<std::ptrdiff_t>(complete.information_offset + complete.information_bytes));
    }
    return {static_cast<rndis::Status>(complete.status.value()), value};
  }
  rndis::Status set(Oid oid, std::span<const std::byte> information) {
    rndis::OidRequest request{6U, static_cast<std::uint32_t>(oid), static_cast<std::uint32_t>(information.size()), sizeof request, 0U};
    const auto answer = ask(rndis::MessageType::kSet, request, information);
    EXPECT_EQ(answer.header.type, static_cast<std::uint32_t>(rndis::MessageType::kSetComplete));
    return static_cast<rndis::Status>(object_at<rndis::StatusComplete>(answer.body).status.value());
  }

  /// All RNDIS messages of a transfer-pages packet, checked as a driver would.
  std::vector<Received> unpack(const vmbus::Packet& packet) {
    std::vector<Received> messages;
    EXPECT_EQ(packet.type(), vmbus::PacketType::kTransferPages);
    EXPECT_EQ(packet.page_set(), nvsp::kUsualReceiveBufferId);
    EXPECT_TRUE(packet.wants_completion());
    EXPECT_EQ(object_at<le32>(packet.payload()), static_cast<std::uint32_t>(MessageType::kSendRndisPacket));
    for (const vmbus::TransferRange& range : packet.transfer_ranges()) {
      EXPECT_EQ(range.byte_offset % section_bytes_, 0U);
      EXPECT_LE(range.byte_count, section_bytes_);
      EXPECT_LT(range.byte_offset / section_bytes_, sections_);
      Received received;
      received.channel_type = object_at<le32>(packet.payload(), 4);
      received.transaction = packet.transaction_id();
      const auto message = guest_.read(receive_pages_, range.byte_offset, range.byte_count);
      received.header = object_at<rndis::Header>(message);
      EXPECT_EQ(received.header.length, message.size());
      received.body.assign(message.begin() + sizeof(rndis::Header), message.end());
      if (received.channel_type == nvsp::kChannelTypeData) read_packet(received);
      messages.push_back(std::move(received));
    }
    return messages;
  }
  static void read_packet(Received& received) {
    const auto packet = object_at<rndis::Packet>(received.body);
    ASSERT_LE(packet.data_offset + packet.data_bytes, received.body.size());
    const auto data = std::span(received.body).subspan(packet.data_offset, packet.data_bytes);
    received.frame.assign(data.begin(), data.end());
    std::size_t at = packet.information_offset;
    const std::size_t end = at + packet.information_bytes;
    ASSERT_LE(end, packet.data_offset == 0 ? 0 : std::size_t{packet.data_offset});
    while (at < end) {
      const auto item = object_at<rndis::PacketInformation>(received.body, at);
      ASSERT_GE(item.bytes, sizeof item + 4);
      const auto value = object_at<le32>(received.body, at + item.value_offset);
      if (item.type == rndis::kChecksumInformation) received.checksums = value;
      if (item.type == rndis::kVlanInformation) received.vlan = value;
      if (item.type == rndis::kPacketIdInformation) received.piece_flags = object_at<rndis::PacketId>(received.body, at + item.value_offset).flags;
      at += item.bytes;
    }
  }
  void finish(std::uint64_t transaction) {
    ASSERT_TRUE(channel_->complete(transaction, nvsp_message(MessageType::kSendRndisPacketComplete, nvsp::SendRndisPacketComplete{kStatusSuccess})));
    guest_.run();
  }
  /// What is in the ring now, data only; finished at once.
  std::vector<Received> receive_all() {
    std::vector<Received> all;
    while (const auto packet = channel_->receive()) {
      auto messages = unpack(*packet);
      finish(packet->transaction_id());
      for (auto& message : messages) all.push_back(std::move(message));
    }
    return all;
  }
  bool deliver(std::span<const std::byte> frame, const bygone::network::FrameNotes& notes = {}) {
    const bool taken = backend_->sink->deliver(frame, notes);
    backend_->sink->finish_delivery();
    return taken;
  }

  static std::vector<std::byte> data_message(std::span<const std::byte> frame, std::span<const std::byte> information = {}, std::size_t padding = 0) {
    rndis::Packet packet{};
    packet.data_offset = static_cast<std::uint32_t>(sizeof packet + information.size());
    packet.data_bytes = static_cast<std::uint32_t>(frame.size());
    if (!information.empty()) {
      packet.information_offset = static_cast<std::uint32_t>(sizeof packet);
      packet.information_bytes = static_cast<std::uint32_t>(information.size());
    }
    rndis::Header header;
    header.type = static_cast<std::uint32_t>(rndis::MessageType::kPacket);
    header.length = static_cast<std::uint32_t>(sizeof header + packet.data_offset + frame.size() + padding);
    return join(header, packet, information, frame, std::vector<std::byte>(padding));
  }
  static std::vector<std::byte> information(std::uint32_t type, std::uint32_t value) {
    return join(rndis::PacketInformation{16U, type, 12U}, le32(value));
  }

  FakeGuest guest_;
  std::unique_ptr<TestingBackend> backend_;
  std::unique_ptr<NetworkAdapter> adapter_;
  std::unique_ptr<GuestChannel> channel_;
  std::vector<std::uint64_t> receive_pages_, send_pages_;
  vmbus::GpadlId receive_id_, send_id_;
  std::uint32_t section_bytes_ = 0, sections_ = 0, send_section_bytes_ = 0;
};

// Negotiation.

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

// Sending.

TEST_F(NetworkAdapterTest, several_frames_come_in_one_section_of_the_send_buffer) {
  connect();
  const auto first = make_frame({.payload_bytes = 99}), second = make_frame({.payload_bytes = 500});
  const auto one = data_message(first, {}, 8 - data_message(first).size() % 8), two = data_message(second);
  const auto both = join(one, two);
  guest_.write(send_pages_, send_section_bytes_ * 3, both);
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

// Receiving.

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

// Buffers that go, guests that lie, machines that are saved.

TEST_F(NetworkAdapterTest, a_revoked_buffer_is_not_touched_any_more) {
  for (const bool by_gpadl : {false, true}) {
    connect();
    deliver(make_frame({}));
    const auto packet = channel_->receive();
    ASSERT_TRUE(packet);
    if (by_gpadl) {
      guest_.tear_down_gpadl(*channel_, receive_id_);
      guest_.tear_down_gpadl(*channel_, send_id_);
    } else {
      send(nvsp_message(MessageType::kRevokeReceiveBuffer, nvsp::RevokeBuffer{nvsp::kUsualReceiveBufferId}), false);
      send(nvsp_message(MessageType::kRevokeSendBuffer, nvsp::RevokeBuffer{0U}), false);
    }
    const auto before = guest_.read(receive_pages_, 0, kReceivePages * 4096);
    deliver(make_frame({}));
    EXPECT_FALSE(channel_->receive());
    EXPECT_EQ(guest_.read(receive_pages_, 0, kReceivePages * 4096), before);
    finish(packet->transaction_id());  // for what is gone: means nothing
    send(nvsp_message(MessageType::kSendRndisPacket, nvsp::SendRndisPacket{0U, 0U, 100U}));
    EXPECT_EQ(rndis_status(), static_cast<std::uint32_t>(nvsp::Status::kInvalidRndisPacket));
    EXPECT_TRUE(channel_->is_open());
    channel_.reset();
  }
}

TEST_F(NetworkAdapterTest, completions_of_the_guests_invention_free_nothing) {
  connect();
  deliver(make_frame({}));
  const auto packet = channel_->receive();
  ASSERT_TRUE(packet);
  const auto free_sections = [&] { return adapter_->inspect()["receive_sections"]["free"].get<std::uint32_t>(); };
  EXPECT_EQ(free_sections(), sections_ - 1);
  for (const std::uint64_t id : {std::uint64_t{0}, std::uint64_t{77}, packet->transaction_id() + 1, packet->transaction_id() ^ std::uint64_t{1} << 32, ~std::uint64_t{0}}) finish(id);
  EXPECT_EQ(free_sections(), sections_ - 1);
  finish(packet->transaction_id());
  finish(packet->transaction_id());
  EXPECT_EQ(free_sections(), sections_);
}

TEST_F(NetworkAdapterTest, a_receive_buffer_that_is_no_memory_costs_the_channel) {
  make_adapter();
  channel_ = guest_.open(*adapter_, {.ring_pages = 9});
  ASSERT_EQ(negotiate(nvsp::kVersion6_1), kStatusSuccess);
  const auto nowhere = guest_.create_gpadl(std::vector<std::uint64_t>(16, 0x1234'5678));
  send(nvsp_message(MessageType::kSendReceiveBuffer, nvsp::SendBuffer{nowhere.value, 1U}));
  ASSERT_TRUE(channel_->receive());
  send_rndis(join(rndis::Header{static_cast<std::uint32_t>(rndis::MessageType::kInitialize), 24U}, rndis::Initialize{}), nvsp::kChannelTypeControl);
  guest_.run();
  EXPECT_TRUE(channel_->failure());
}

TEST_F(NetworkAdapterTest, a_new_driver_starts_from_the_beginning) {
  connect();
  deliver(make_frame({}));
  channel_->close();
  connect(nvsp::kVersion4);
  EXPECT_TRUE(receive_all().empty());
  deliver(make_frame({}));
  EXPECT_EQ(receive_all().size(), 1U);
}

TEST_F(NetworkAdapterTest, saved_and_restored_it_goes_on) {
  connect();
  deliver(make_frame({.payload_bytes = 10}));
  const auto held = channel_->receive();  // the guest keeps one over the save
  ASSERT_TRUE(held);
  auto saved = adapter_->save();
  ASSERT_TRUE(saved) << saved.error().text();
  const nlohmann::json state = nlohmann::json::from_cbor(nlohmann::json::to_cbor(*saved));

  TestingBackend other_backend;
  NetworkAdapter other({"net0", {}, kAddress, {}}, guest_.loop(), other_backend);
  ASSERT_TRUE(other.start());
  ASSERT_TRUE(other.restore(state));
  auto restored = guest_.open(other, {.ring_pages = 9, .is_restored = true});
  ASSERT_TRUE(restored->is_open()) << restored->failure()->text();
  std::swap(channel_, restored);
  EXPECT_EQ(other.inspect()["receive_sections"]["free"], sections_ - 1);
  finish(held->transaction_id());
  EXPECT_EQ(other.inspect()["receive_sections"]["free"], sections_);
  other_backend.sink->deliver(make_frame({}), {});
  other_backend.sink->finish_delivery();
  EXPECT_EQ(receive_all().size(), 1U);
  send_rndis(data_message(make_frame({})), nvsp::kChannelTypeData);
  EXPECT_EQ(rndis_status(), kStatusSuccess);
  EXPECT_EQ(other_backend.sent.size(), 1U);
  channel_.reset();
  std::swap(channel_, restored);
}

TEST_F(NetworkAdapterTest, a_broken_state_is_refused) {
  connect();
  deliver(make_frame({}));
  const nlohmann::json good = *adapter_->save();
  const auto refused = [&](auto change) {
    nlohmann::json state = good;
    change(state);
    TestingBackend backend;
    NetworkAdapter other({"net0", {}, kAddress, {}}, guest_.loop(), backend);
    if (!other.restore(state)) return true;
    return guest_.open(other, {.ring_pages = 9, .is_restored = true})->failure().has_value();
  };
  EXPECT_FALSE(refused([](auto&) {}));
  EXPECT_TRUE(refused([](auto& state) { state["version"] = 2; }));
  EXPECT_TRUE(refused([](auto& state) { state["protocol"] = 0x12345; }));
  EXPECT_TRUE(refused([](auto& state) { state.erase("rndis"); }));
  EXPECT_TRUE(refused([](auto& state) { state["receive_gpadl"] = 0xDEAD; }));
  EXPECT_TRUE(refused([](auto& state) { state["receive_section_bytes"] = 1; }));
  EXPECT_TRUE(refused([](auto& state) { state["batches"].push_back(1); }));
  EXPECT_TRUE(refused([](auto& state) { state["batches"][4] = 0xFFFF; }));
  EXPECT_TRUE(refused([](auto& state) { state["batches"][0] = 0xFFFF'FFFF; }));
  EXPECT_TRUE(refused([](auto& state) { state = nlohmann::json::array(); }));
}

}  // namespace
}  // namespace bygone::devices::network
