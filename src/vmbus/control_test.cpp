#include "vmbus/control.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

namespace bygone::vmbus {
namespace {

namespace wire = spec::vmbus;
using wire::MessageType;

Offer make_offer(std::uint8_t instance, std::uint16_t subchannels = 0) {
  Offer offer;
  offer.name = fmt::format("device{}", instance);
  offer.interface_type.bytes[0] = 1;
  offer.instance.bytes[0] = instance;
  offer.maximum_subchannels = subchannels;
  return offer;
}

class ControlTest : public ::testing::Test {
 protected:
  template <typename T>
  Result<void> post(T message, MessageType type) {
    message.header.type = static_cast<std::uint32_t>(type);
    return control_.handle_message(bytes_of(message));
  }
  Result<void> post_empty(MessageType type) {
    const wire::MessageHeader header{static_cast<std::uint32_t>(type), 0};
    return control_.handle_message(bytes_of(header));
  }
  Result<void> contact(Version version) {
    wire::InitiateContact message = {};
    message.version = static_cast<std::uint32_t>(version);
    message.target_message_vp = 1U;
    message.interrupt_page_or_target =
        version >= Version::k5_0 ? std::uint64_t{wire::kMessageSint} | std::uint64_t{wire::kFeatureClientId | 1} << 32 : 0;
    return post(message, MessageType::kInitiateContact);
  }
  void connect(Version version = Version::k5_3) {
    ASSERT_TRUE(contact(version));
    ASSERT_TRUE(post_empty(MessageType::kRequestOffers));
    (void)control_.take_actions();
  }
  /// Takes the actions and returns those of one kind.
  template <typename T>
  std::vector<T> take() {
    for (Action& action : control_.take_actions()) pending_.push_back(std::move(action));
    std::vector<T> result;
    std::erase_if(pending_, [&](Action& action) {
      if (!std::holds_alternative<T>(action)) return false;
      result.push_back(std::get<T>(std::move(action)));
      return true;
    });
    return result;
  }
  /// The one message of `type` that the control plane has sent.
  template <typename T>
  T sent(MessageType type) {
    T value = {};
    int found = 0;
    for (const SendMessage& message : take<SendMessage>()) {
      wire::MessageHeader header;
      std::memcpy(&header, message.bytes.data(), sizeof header);
      if (header.type != static_cast<std::uint32_t>(type)) continue;
      ++found;
      std::memcpy(&value, message.bytes.data(), std::min(sizeof value, message.bytes.size()));
    }
    EXPECT_EQ(found, 1) << "messages of type " << static_cast<int>(type);
    return value;
  }
  std::uint32_t create_gpadl(OfferId offer, std::uint32_t id, std::uint32_t pages) {
    struct {
      wire::GpadlHeader header = {};
      wire::GpaRangeHeader range;
      le64 numbers[26];
    } message;
    message.header.header.type = static_cast<std::uint32_t>(MessageType::kGpadlHeader);
    message.header.channel_id = control_.channel_id(offer);
    message.header.gpadl = id;
    message.header.range_bytes = static_cast<std::uint16_t>(8 + pages * 8);
    message.header.range_count = std::uint16_t{1};
    message.range = {pages * 4096, 0};
    for (std::uint32_t i = 0; i < std::min(pages, 26U); ++i) message.numbers[i] = i + 1;
    EXPECT_TRUE(control_.handle_message(bytes_of(message)));
    for (std::uint32_t done = 26; done < pages; done += 28) {
      struct {
        wire::GpadlBody header = {};
        le64 numbers[28];  // always the full length, as the firmware sends them
      } body;
      body.header.header.type = static_cast<std::uint32_t>(MessageType::kGpadlBody);
      body.header.gpadl = id;
      for (std::uint32_t i = 0; i < 28; ++i) body.numbers[i] = done + i + 1;
      EXPECT_TRUE(control_.handle_message(bytes_of(body)));
    }
    return sent<wire::GpadlCreated>(MessageType::kGpadlCreated).status;
  }
  void request_open(OfferId offer, std::uint32_t gpadl) {
    wire::OpenChannel message = {};
    message.channel_id = control_.channel_id(offer);
    message.open_id = 77U;
    message.ring_gpadl = gpadl;
    message.downstream_page_offset = 2U;
    message.target_vp = 1U;
    ASSERT_TRUE(post(message, MessageType::kOpenChannel));
  }
  void open(OfferId offer, std::uint32_t gpadl = 1) {
    ASSERT_EQ(create_gpadl(offer, gpadl, 4), 0U);
    request_open(offer, gpadl);
    ASSERT_EQ(take<OpenChannel>().size(), 1U);
    control_.opened(offer, true);
    EXPECT_EQ(sent<wire::OpenChannelResult>(MessageType::kOpenChannelResult).status, 0U);
  }
  Result<void> post_close(OfferId offer) {
    wire::CloseChannel message = {};
    message.channel_id = control_.channel_id(offer);
    return post(message, MessageType::kCloseChannel);
  }
  Result<void> tear_down(OfferId offer, std::uint32_t gpadl) {
    wire::GpadlTeardown message = {};
    message.channel_id = control_.channel_id(offer);
    message.gpadl = gpadl;
    return post(message, MessageType::kGpadlTeardown);
  }

  Control control_;
  std::vector<Action> pending_;
};

TEST_F(ControlTest, every_supported_version_connects_and_others_are_refused) {
  for (const auto version : {Version::k0_13, Version::k1_1, Version::k2_4, Version::k3_0, Version::k4_0, Version::k4_1, Version::k5_0,
                             Version::k5_1, Version::k5_2, Version::k5_3, Version::k6_0}) {
    ASSERT_TRUE(contact(version));
    EXPECT_EQ(sent<wire::VersionResponse>(MessageType::kVersionResponse).version_supported, 1);
    EXPECT_EQ(control_.version(), version);
  }
  ASSERT_TRUE(contact(static_cast<Version>(0x00070000)));
  EXPECT_EQ(sent<wire::VersionResponse>(MessageType::kVersionResponse).version_supported, 0);
  EXPECT_FALSE(control_.is_connected());
}

TEST_F(ControlTest, version_6_answers_with_the_features_that_both_know) {
  ASSERT_TRUE(contact(Version::k6_0));
  const auto messages = take<SendMessage>();
  ASSERT_EQ(messages.size(), 1U);
  ASSERT_EQ(messages[0].bytes.size(), sizeof(wire::VersionResponse2));
  EXPECT_EQ(messages[0].target_vp, 1U);
  wire::VersionResponse2 response;
  std::memcpy(&response, messages[0].bytes.data(), sizeof response);
  EXPECT_EQ(response.supported_features, wire::kFeatureClientId);
  EXPECT_EQ(response.base.selected_version_or_connection_id, wire::kMessageConnectionId4);
}

TEST_F(ControlTest, offers_come_once_and_in_the_size_of_the_version) {
  (void)control_.add_offer(make_offer(1)).value();
  (void)control_.add_offer(make_offer(2)).value();
  ASSERT_TRUE(contact(Version::k0_13));
  ASSERT_TRUE(post_empty(MessageType::kRequestOffers));
  const auto messages = take<SendMessage>();
  ASSERT_EQ(messages.size(), 4U);  // version, two offers, all delivered
  EXPECT_EQ(messages[1].bytes.size(), wire::kOfferChannelSize0_13);
  EXPECT_FALSE(post_empty(MessageType::kRequestOffers));
}

TEST_F(ControlTest, offer_added_later_is_announced) {
  connect();
  const OfferId late = control_.add_offer(make_offer(3)).value();
  const auto offer = sent<wire::OfferChannel>(MessageType::kOfferChannel);
  EXPECT_EQ(offer.channel_id, control_.channel_id(late));
  EXPECT_EQ(offer.is_dedicated_interrupt, 1U);
  EXPECT_EQ(offer.connection_id, offer.channel_id | 0x2000U);
  EXPECT_EQ(offer.monitor_allocated, 0) << "monitor pages are not offered";
}

TEST_F(ControlTest, same_instance_twice_is_refused) {
  (void)control_.add_offer(make_offer(1)).value();
  EXPECT_EQ(control_.add_offer(make_offer(1)).error().code, ErrorCode::kAlreadyExists);
}

TEST_F(ControlTest, channel_opens_closes_and_gives_its_ring_back) {
  const OfferId offer = control_.add_offer(make_offer(1)).value();
  connect();
  open(offer);
  ASSERT_TRUE(post_close(offer));
  ASSERT_TRUE(tear_down(offer, 1));
  EXPECT_TRUE(take<SendMessage>().empty());  // not before the device has let go
  ASSERT_EQ(take<CloseChannel>().size(), 1U);
  control_.closed(offer);
  EXPECT_EQ(sent<wire::GpadlTorndown>(MessageType::kGpadlTorndown).gpadl, 1U);
  open(offer);
}

TEST_F(ControlTest, gpadl_in_several_messages_keeps_its_pages) {
  const OfferId offer = control_.add_offer(make_offer(1)).value();
  connect();
  ASSERT_EQ(create_gpadl(offer, 5, 200), 0U);
  const auto gpadl = control_.find_gpadl(offer, GpadlId{5});
  ASSERT_TRUE(gpadl);
  ASSERT_EQ(gpadl->pages().size(), 200U);
  EXPECT_EQ(gpadl->pages()[199], 200U);
}

TEST_F(ControlTest, gpadl_with_several_ranges) {
  const OfferId offer = control_.add_offer(make_offer(1)).value();
  connect();
  struct {
    wire::GpadlHeader header = {};
    struct {
      wire::GpaRangeHeader range;
      le64 page;
    } ranges[2];
  } message;
  message.header.header.type = static_cast<std::uint32_t>(MessageType::kGpadlHeader);
  message.header.channel_id = control_.channel_id(offer);
  message.header.gpadl = 9U;
  message.header.range_bytes = std::uint16_t{32};
  message.header.range_count = std::uint16_t{2};
  message.ranges[0] = {{4096, 0}, 40};
  message.ranges[1] = {{100, 50}, 20};
  ASSERT_TRUE(control_.handle_message(bytes_of(message)));
  EXPECT_EQ(sent<wire::GpadlCreated>(MessageType::kGpadlCreated).status, 0U);
  EXPECT_EQ(control_.find_gpadl(offer, GpadlId{9})->total_bytes(), 4196U);
}

TEST_F(ControlTest, gpadl_that_lies_about_its_ranges_fails) {
  const OfferId offer = control_.add_offer(make_offer(1)).value();
  connect();
  wire::GpadlHeader header = {};
  header.channel_id = control_.channel_id(offer);
  header.gpadl = 9U;
  header.range_bytes = std::uint16_t{0};
  header.range_count = std::uint16_t{1};
  EXPECT_FALSE(post(header, MessageType::kGpadlHeader));
  EXPECT_NE(sent<wire::GpadlCreated>(MessageType::kGpadlCreated).status, 0U);
}

TEST_F(ControlTest, gpadls_are_bounded) {
  const OfferId offer = control_.add_offer(make_offer(1)).value();
  connect();
  bool refused = false;
  for (std::uint32_t id = 1; id < 200 && !refused; ++id) {
    wire::GpadlHeader header = {};
    header.channel_id = control_.channel_id(offer);
    header.gpadl = id;
    header.range_bytes = std::uint16_t{65528};
    header.range_count = std::uint16_t{1};
    refused = !post(header, MessageType::kGpadlHeader);
  }
  EXPECT_TRUE(refused);
}

TEST_F(ControlTest, buffer_gpadl_of_an_open_channel_waits_for_the_device) {
  const OfferId offer = control_.add_offer(make_offer(1)).value();
  connect();
  open(offer);
  ASSERT_EQ(create_gpadl(offer, 2, 4), 0U);
  ASSERT_TRUE(tear_down(offer, 2));
  EXPECT_EQ(control_.find_gpadl(offer, GpadlId{2}), nullptr);
  ASSERT_EQ(take<TearDownGpadl>().size(), 1U);
  EXPECT_TRUE(take<SendMessage>().empty());
  control_.gpadl_released(offer, GpadlId{2});
  EXPECT_EQ(sent<wire::GpadlTorndown>(MessageType::kGpadlTorndown).gpadl, 2U);
  EXPECT_FALSE(tear_down(offer, 2));
}

TEST_F(ControlTest, open_without_a_ring_fails) {
  const OfferId offer = control_.add_offer(make_offer(1)).value();
  connect();
  request_open(offer, 42);
  EXPECT_NE(sent<wire::OpenChannelResult>(MessageType::kOpenChannelResult).status, 0U);
  EXPECT_TRUE(take<OpenChannel>().empty());
}

TEST_F(ControlTest, reopen_while_closing_waits) {
  const OfferId offer = control_.add_offer(make_offer(1)).value();
  connect();
  open(offer);
  ASSERT_TRUE(post_close(offer));
  ASSERT_EQ(create_gpadl(offer, 2, 4), 0U);
  request_open(offer, 2);
  EXPECT_TRUE(take<OpenChannel>().empty());
  control_.closed(offer);
  EXPECT_EQ(take<OpenChannel>().size(), 1U);
}

TEST_F(ControlTest, new_contact_resets_channels_that_are_open_or_opening) {
  const OfferId first = control_.add_offer(make_offer(1)).value();
  const OfferId second = control_.add_offer(make_offer(2)).value();
  connect();
  open(first);
  ASSERT_EQ(create_gpadl(second, 2, 4), 0U);
  request_open(second, 2);
  EXPECT_EQ(take<OpenChannel>().size(), 1U);
  ASSERT_TRUE(contact(Version::k5_0));
  EXPECT_TRUE(take<SendMessage>().empty());  // the old owner's memory is still in use
  EXPECT_EQ(take<CloseChannel>().size(), 1U);
  control_.opened(second, true);
  EXPECT_EQ(take<CloseChannel>().size(), 1U);
  control_.closed(second);
  EXPECT_TRUE(take<SendMessage>().empty());
  control_.closed(first);
  EXPECT_EQ(sent<wire::VersionResponse>(MessageType::kVersionResponse).version_supported, 1);
  EXPECT_EQ(control_.find_gpadl(first, GpadlId{1}), nullptr);
  ASSERT_TRUE(post_empty(MessageType::kRequestOffers));
  (void)control_.take_actions();
  open(first);
}

TEST_F(ControlTest, second_contact_during_a_reset_replaces_the_first) {
  const OfferId offer = control_.add_offer(make_offer(1)).value();
  connect();
  open(offer);
  ASSERT_TRUE(contact(Version::k5_3));
  ASSERT_TRUE(contact(Version::k4_0));
  control_.closed(offer);
  (void)sent<wire::VersionResponse>(MessageType::kVersionResponse);
  EXPECT_EQ(control_.version(), Version::k4_0);
}

TEST_F(ControlTest, unload_is_answered_when_devices_have_let_go) {
  const OfferId offer = control_.add_offer(make_offer(1)).value();
  connect();
  open(offer);
  ASSERT_TRUE(post_empty(MessageType::kUnload));
  EXPECT_TRUE(take<SendMessage>().empty());
  control_.closed(offer);
  (void)sent<wire::MessageHeader>(MessageType::kUnloadComplete);
  EXPECT_FALSE(control_.is_connected());
  EXPECT_FALSE(post_empty(MessageType::kRequestOffers));
}

TEST_F(ControlTest, subchannels_are_offered_and_go_with_their_primary) {
  const OfferId primary = control_.add_offer(make_offer(1, 3)).value();
  connect();
  open(primary);
  const auto added = control_.add_subchannels(primary, 1).value();
  ASSERT_EQ(added.size(), 1U);
  EXPECT_EQ(sent<wire::OfferChannel>(MessageType::kOfferChannel).subchannel_index, 1U);
  EXPECT_EQ(control_.add_subchannels(primary, 4).error().code, ErrorCode::kOutOfRange);
  open(added[0], 2);
  const std::uint32_t channel_id = control_.channel_id(added[0]);
  ASSERT_TRUE(post_close(primary));
  EXPECT_EQ(sent<wire::RescindChannelOffer>(MessageType::kRescindChannelOffer).channel_id, channel_id);
  EXPECT_EQ(take<CloseChannel>().size(), 2U);
  control_.closed(primary);
  control_.closed(added[0]);
  wire::RelIdReleased released = {};
  released.channel_id = channel_id;
  ASSERT_TRUE(post(released, MessageType::kRelIdReleased));
  EXPECT_EQ(take<OfferRemoved>().size(), 1U);
  EXPECT_FALSE(control_.find_channel(channel_id));
}

TEST_F(ControlTest, revoked_offer_is_removed_after_device_and_guest) {
  const OfferId offer = control_.add_offer(make_offer(1)).value();
  connect();
  open(offer);
  control_.revoke(offer);
  (void)sent<wire::RescindChannelOffer>(MessageType::kRescindChannelOffer);
  ASSERT_TRUE(post_close(offer));  // the guest's close crosses the rescind
  control_.closed(offer);
  EXPECT_TRUE(take<OfferRemoved>().empty());
  wire::RelIdReleased released = {};
  released.channel_id = control_.channel_id(offer);
  ASSERT_TRUE(post(released, MessageType::kRelIdReleased));
  EXPECT_EQ(take<OfferRemoved>().size(), 1U);
}

TEST_F(ControlTest, target_vp_changes_and_is_answered_from_5_3_on) {
  const OfferId offer = control_.add_offer(make_offer(1)).value();
  for (const Version version : {Version::k4_1, Version::k5_3}) {
    connect(version);
    open(offer);
    wire::ModifyChannel message = {};
    message.channel_id = control_.channel_id(offer);
    message.target_vp = 3U;
    ASSERT_TRUE(post(message, MessageType::kModifyChannel));
    ASSERT_EQ(take<SetTargetVp>().size(), 1U);
    EXPECT_EQ(take<SendMessage>().size(), version == Version::k5_3 ? 1U : 0U);
    control_.reset();
    control_.closed(offer);
    (void)control_.take_actions();
    pending_.clear();
  }
}

TEST_F(ControlTest, old_guests_get_their_interrupt_page_and_no_high_channels) {
  for (std::uint8_t i = 0; i < 255; ++i) (void)control_.add_offer(make_offer(i)).value();
  Offer extra = make_offer(0);
  extra.instance.bytes[1] = 1;
  (void)control_.add_offer(extra).value();
  wire::InitiateContact message = {};
  message.version = static_cast<std::uint32_t>(Version::k1_1);
  message.interrupt_page_or_target = std::uint64_t{0x5000};
  ASSERT_TRUE(post(message, MessageType::kInitiateContact));
  EXPECT_EQ(control_.interrupt_page(), 0x5000U);
  ASSERT_TRUE(post_empty(MessageType::kRequestOffers));
  EXPECT_EQ(take<SendMessage>().size(), 1U + 255 + 1);
}

TEST_F(ControlTest, nonsense_is_dropped_with_a_reason) {
  EXPECT_FALSE(control_.handle_message({}));
  EXPECT_FALSE(post_empty(MessageType::kRequestOffers));  // before contact
  connect();
  EXPECT_FALSE(post_empty(MessageType::kOpenChannel));    // too short
  EXPECT_FALSE(post_empty(MessageType::kOfferChannel));   // the host's own
  wire::CloseChannel close = {};
  close.channel_id = 99U;
  EXPECT_FALSE(post(close, MessageType::kCloseChannel));
  wire::GpadlBody body = {};
  EXPECT_FALSE(post(body, MessageType::kGpadlBody));
  EXPECT_TRUE(control_.take_actions().empty());
}

TEST_F(ControlTest, saved_state_restores_open_channels_without_a_second_answer) {
  const OfferId offer = control_.add_offer(make_offer(1, 2)).value();
  connect();
  open(offer);
  const auto added = control_.add_subchannels(offer, 1).value();
  (void)control_.take_actions();
  open(added[0], 2);
  const nlohmann::json state = control_.save().value();
  const auto cbor = nlohmann::json::to_cbor(state);

  Control fresh;
  const OfferId again = fresh.add_offer(make_offer(1, 2)).value();
  const auto subchannels = fresh.restore(nlohmann::json::from_cbor(cbor)).value();
  ASSERT_EQ(subchannels.size(), 1U);
  int opens = 0;
  for (const Action& action : fresh.take_actions()) {
    const auto& request = std::get<OpenChannel>(action);
    EXPECT_TRUE(request.parameters.is_restored);
    EXPECT_EQ(request.ring->pages().size(), 4U);
    ++opens;
    fresh.opened(request.offer, true);
  }
  EXPECT_EQ(opens, 2);
  EXPECT_TRUE(fresh.take_actions().empty());
  EXPECT_EQ(fresh.save().value(), state);
  EXPECT_EQ(fresh.channel_id(again), control_.channel_id(offer));
}

TEST_F(ControlTest, socket_that_has_a_devices_instance_is_not_taken_for_it_when_restored) {
  const OfferId device = control_.add_offer(make_offer(1)).value();
  connect();
  Offer socket = make_offer(1);  // the guest chooses its endpoint
  socket.interface_type.bytes[0] = 9;
  const OfferId other = control_.add_offer(socket).value();
  open(device);
  open(other, 2);
  const nlohmann::json state = control_.save().value();
  Control fresh;
  const OfferId device_again = fresh.add_offer(make_offer(1)).value();
  const OfferId other_again = fresh.add_offer(socket).value();
  ASSERT_TRUE(fresh.restore(nlohmann::json::from_cbor(nlohmann::json::to_cbor(state))));
  EXPECT_EQ(fresh.channel_id(device_again), control_.channel_id(device));
  EXPECT_EQ(fresh.channel_id(other_again), control_.channel_id(other));
  EXPECT_EQ(fresh.take_actions().size(), 2U);
}

TEST_F(ControlTest, gpadl_whose_second_half_is_to_come_survives_a_save) {
  const OfferId offer = control_.add_offer(make_offer(1)).value();
  connect();
  struct {
    wire::GpadlHeader header = {};
    wire::GpaRangeHeader range;
    le64 number = std::uint64_t{40};
  } first;
  first.header.header.type = static_cast<std::uint32_t>(MessageType::kGpadlHeader);
  first.header.channel_id = control_.channel_id(offer);
  first.header.gpadl = 6U;
  first.header.range_bytes = std::uint16_t{24};
  first.header.range_count = std::uint16_t{1};
  first.range = {8192, 0};
  ASSERT_TRUE(control_.handle_message(bytes_of(first)));
  EXPECT_TRUE(take<SendMessage>().empty());
  const nlohmann::json state = control_.save().value();
  control_.reset();
  (void)control_.take_actions();
  Control fresh;
  const OfferId again = fresh.add_offer(make_offer(1)).value();
  ASSERT_TRUE(fresh.restore(state));
  struct {
    wire::GpadlBody header = {};
    le64 number = std::uint64_t{20};
  } second;
  second.header.header.type = static_cast<std::uint32_t>(MessageType::kGpadlBody);
  second.header.gpadl = 6U;
  ASSERT_TRUE(fresh.handle_message(bytes_of(second)));
  const auto gpadl = fresh.find_gpadl(again, GpadlId{6});
  ASSERT_TRUE(gpadl);
  EXPECT_EQ(gpadl->pages()[1], 20U);
  EXPECT_EQ(fresh.inspect()["gpadl_pages"], 2);
}

TEST_F(ControlTest, messages_of_later_versions_are_dropped_in_earlier_ones) {
  const OfferId offer = control_.add_offer(make_offer(1)).value();
  connect(Version::k3_0);
  open(offer);
  wire::ModifyChannel modify = {};
  modify.channel_id = control_.channel_id(offer);
  EXPECT_EQ(post(modify, MessageType::kModifyChannel).error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(post(wire::TlConnectRequest{}, MessageType::kTlConnectRequest).error().code, ErrorCode::kUnsupported);
  EXPECT_TRUE(control_.take_actions().empty());
  EXPECT_FALSE(control_.takes_sockets());
}

TEST_F(ControlTest, messages_elsewhere_than_to_the_buss_own_interrupt_are_refused) {
  wire::InitiateContact message = {};
  message.version = static_cast<std::uint32_t>(Version::k5_2);
  for (const std::uint64_t target : {std::uint64_t{5}, std::uint64_t{wire::kMessageSint} | std::uint64_t{1} << 8}) {
    message.interrupt_page_or_target = target;
    ASSERT_TRUE(post(message, MessageType::kInitiateContact));
    EXPECT_EQ(sent<wire::VersionResponse>(MessageType::kVersionResponse).version_supported, 0);
    EXPECT_FALSE(control_.is_connected());
  }
}

TEST_F(ControlTest, channel_that_is_offered_cannot_be_released_nor_opened_twice) {
  const OfferId offer = control_.add_offer(make_offer(1)).value();
  connect();
  open(offer);
  wire::RelIdReleased released = {};
  released.channel_id = control_.channel_id(offer);
  EXPECT_FALSE(post(released, MessageType::kRelIdReleased));
  wire::OpenChannel again = {};
  again.channel_id = control_.channel_id(offer);
  again.ring_gpadl = 1U;
  EXPECT_FALSE(post(again, MessageType::kOpenChannel));
  EXPECT_TRUE(control_.take_actions().empty());
}

TEST_F(ControlTest, saved_state_with_a_missing_device_is_refused) {
  (void)control_.add_offer(make_offer(1)).value();
  connect();
  const auto state = control_.save().value();
  Control fresh;
  EXPECT_EQ(fresh.restore(state).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(fresh.restore(nlohmann::json::object()).error().code, ErrorCode::kCorrupt);
}

TEST_F(ControlTest, socket_request_is_passed_on_and_its_refusal_sent) {
  connect(Version::k4_1);
  wire::TlConnectRequest request = {};
  request.service.bytes[3] = 9;
  ASSERT_TRUE(post(request, MessageType::kTlConnectRequest));
  ASSERT_EQ(take<ConnectSocket>().size(), 1U);
  control_.refuse_socket(request.endpoint, request.service);
  EXPECT_EQ(sent<wire::TlConnectResult>(MessageType::kTlConnectResult).status, wire::kStatusConnectionRefused);
}

}  // namespace
}  // namespace bygone::vmbus
