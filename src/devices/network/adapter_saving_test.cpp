#include "devices/network/network_adapter.h"

#include "devices/network/testing_adapter.h"

// Buffers that go, guests that lie, machines that are saved.
namespace bygone::devices::network {
namespace {

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

TEST_F(NetworkAdapterTest, what_waits_for_room_in_the_ring_is_saved_too) {
  connect(nvsp::kVersion6_1, 1500, {.ring_pages = 2});
  const auto frame = make_frame({});
  for (std::uint32_t i = 0; i < sections_; ++i) {
    ASSERT_TRUE(backend_->sink->deliver(frame, {}));
    backend_->sink->finish_delivery();
  }
  const nlohmann::json state = nlohmann::json::from_cbor(nlohmann::json::to_cbor(adapter_->save().value()));
  TestingBackend other_backend;
  NetworkAdapter other({"net0", {}, kAddress, {}}, guest_.loop(), other_backend);
  ASSERT_TRUE(other.start());
  ASSERT_TRUE(other.restore(state));
  auto restored = guest_.open(other, {.ring_pages = 9, .is_restored = true});
  restored->signal();
  guest_.run();
  std::size_t in_the_ring = 0, after = 0;
  while (const auto packet = channel_->try_receive()) in_the_ring += unpack(*packet).size();
  while (const auto packet = restored->try_receive()) after += unpack(*packet).size();
  EXPECT_GT(in_the_ring, 0U);
  EXPECT_GT(after, 0U);
  EXPECT_EQ(in_the_ring + after, sections_);
  restored.reset();
}

TEST_F(NetworkAdapterTest, a_link_that_failed_before_the_save_is_told_after_it) {
  connect();
  const nlohmann::json state = adapter_->save().value();
  TestingBackend other_backend;
  NetworkAdapter other({"net0", {}, kAddress, {}}, guest_.loop(), other_backend);
  ASSERT_TRUE(other.start());
  other_backend.sink->set_link(false);  // the new host has no such cable
  ASSERT_TRUE(other.restore(state));
  auto restored = guest_.open(other, {.ring_pages = 9, .is_restored = true});
  const auto packet = restored->try_receive();
  ASSERT_TRUE(packet);
  const auto messages = unpack(*packet);
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(object_at<rndis::IndicateStatus>(messages[0].body).status, static_cast<std::uint32_t>(rndis::Status::kMediaDisconnect));
  restored.reset();
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
