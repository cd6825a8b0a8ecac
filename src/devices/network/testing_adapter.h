// A network adapter under test with a driver's hands on the other end of its rings.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "devices/network/network_adapter.h"
#include "devices/network/testing_backend.h"
#include "network/testing_frames.h"
#include "vmbus/testing/fake_guest.h"

namespace bygone::devices::network {

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

inline constexpr MacAddress kAddress = {2, 0, 0, 0, 0, 9};
inline constexpr std::size_t kReceivePages = 64, kSendPages = 16;
inline constexpr std::uint32_t kStatusSuccess = static_cast<std::uint32_t>(nvsp::Status::kSuccess);

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
      const auto begin = answer.body.begin() + static_cast<std::ptrdiff_t>(complete.information_offset.value());
      value.assign(begin, begin + static_cast<std::ptrdiff_t>(complete.information_bytes.value()));
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

}  // namespace bygone::devices::network
