#include "vmbus/server.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <cstring>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "vmbus/packet_device.h"
#include "vmbus/testing/fake_synic.h"

namespace bygone::vmbus {
namespace {

namespace wire = spec::vmbus;
using testing::FakeSynic;
using wire::MessageType;

/// Echoes, and remembers one number.
class Echo : public PacketDevice {
 public:
  explicit Echo(std::uint8_t instance) : PacketDevice(make_offer(instance), Framing::kRaw) {}
  [[nodiscard]] std::size_t requests_in_flight(const Channel&) const override { return in_flight; }
  nlohmann::json state = 0;
  int resets = 0;
  std::atomic<std::size_t> in_flight = 0;

 private:
  static Offer make_offer(std::uint8_t instance) {
    Offer offer;
    offer.name = fmt::format("echo{}", instance);
    offer.instance.bytes[0] = instance;
    return offer;
  }
  Result<void> on_message(std::span<const std::byte> message) override {
    send({message});
    return {};
  }
  void reset() override { ++resets; }
  Result<nlohmann::json> save_state() override { return nlohmann::json{{"state", state}}; }
  Result<void> restore_state(const nlohmann::json& saved) override {
    state = saved.at("state");
    return {};
  }
};

/// Echoes on a primary channel and two subchannels, which it offers when it hears something.
class ManyChannels : public Device {
 public:
  ManyChannels() {
    offer_.name = "many";
    offer_.instance.bytes[0] = 77;
    offer_.maximum_subchannels = 2;
  }
  const Offer& offer() const override { return offer_; }
  Result<void> open(Channel&) override { return {}; }
  void close(Channel&, Closed done) override { done(); }
  Result<void> on_signal(Channel& channel) override {
    Packet packet;
    for (;;) {
      BYGONE_ASSIGN(const bool got, channel.receive(packet));
      if (!got) return {};
      if (channel.parameters().subchannel_index == 0) channel.offer_subchannels(2);
      BYGONE_CHECK(channel.send({packet.payload()}));
    }
  }

 private:
  Offer offer_;
};

/// A loop on its own thread.
class LoopThread {
 public:
  LoopThread() : loop_(*EventLoop::create()), thread_([this] { loop_->run(); }) {}
  ~LoopThread() { stop(); }
  void stop() {
    if (!thread_.joinable()) return;
    loop_->stop();
    thread_.join();
  }
  EventLoop& loop() { return *loop_; }

 private:
  std::unique_ptr<EventLoop> loop_;
  std::thread thread_;
};

/// A guest's bus driver: posts messages, takes answers, and drives the rings of one channel.
class BusGuest {
 public:
  BusGuest(memory::GuestMemory& memory, FakeSynic& synic) : memory_(memory), synic_(synic) {}

  template <typename T>
  void post(T message, MessageType type, std::uint32_t connection = 4) {
    message.header.type = static_cast<std::uint32_t>(type);
    std::uint16_t status = 0x13;
    for (int attempt = 0; attempt < 1000 && status == 0x13; ++attempt) {
      status = synic_.guest_posts(connection, bytes_of(message));
      if (status == 0x13) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ASSERT_EQ(status, 0);
  }
  template <typename T>
  T wait(MessageType type) {
    T value = {};
    for (int attempt = 0; attempt < 5000; ++attempt) {
      if (const auto message = synic_.take_message()) {
        wire::MessageHeader header;
        std::memcpy(&header, message->data(), sizeof header);
        if (header.type == static_cast<std::uint32_t>(type)) {
          std::memcpy(&value, message->data(), std::min(sizeof value, message->size()));
          return value;
        }
        if (header.type == static_cast<std::uint32_t>(MessageType::kOfferChannel)) {
          wire::OfferChannel offer = {};  // a shorter one to the drivers of old
          std::memcpy(&offer, message->data(), std::min(sizeof offer, message->size()));
          offers.push_back(offer);
        }
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
    ADD_FAILURE() << "no message of type " << static_cast<int>(type);
    return value;
  }
  struct Only {
    wire::MessageHeader header;
  };
  void connect(Version version = Version::k5_3, std::uint64_t target = wire::kMessageSint) {
    wire::InitiateContact contact = {};
    contact.version = static_cast<std::uint32_t>(version);
    contact.interrupt_page_or_target = target;
    post(contact, MessageType::kInitiateContact, version >= Version::k5_0 ? 4 : 1);
    EXPECT_EQ(wait<wire::VersionResponse>(MessageType::kVersionResponse).version_supported, 1);
    offers.clear();
    post(Only{}, MessageType::kRequestOffers);
    (void)wait<Only>(MessageType::kAllOffersDelivered);
  }
  void open(std::uint32_t channel_id, std::uint64_t first_page = 16) {
    struct {
      wire::MessageHeader header;
      le32 channel_id, gpadl;
      le16 range_bytes, range_count;
      wire::GpaRangeHeader range;
      le64 pages[6];
    } gpadl = {};
    gpadl.channel_id = channel_id;
    gpadl.gpadl = channel_id + 100;
    gpadl.range_bytes = std::uint16_t{56};
    gpadl.range_count = std::uint16_t{1};
    gpadl.range = {6 * 4096, 0};
    std::vector<std::uint64_t> pages;
    for (std::uint64_t i = 0; i < 6; ++i) {
      gpadl.pages[i] = first_page + i;
      pages.push_back(first_page + i);
    }
    ASSERT_TRUE(memory_.fill(memory::Gpa::from_page(first_page), 6 * 4096, std::byte{0}));
    post(gpadl, MessageType::kGpadlHeader);
    EXPECT_EQ(wait<wire::GpadlCreated>(MessageType::kGpadlCreated).status, 0U);
    wire::OpenChannel open = {};
    open.channel_id = channel_id;
    open.ring_gpadl = channel_id + 100;
    open.downstream_page_offset = 3U;
    post(open, MessageType::kOpenChannel);
    EXPECT_EQ(wait<wire::OpenChannelResult>(MessageType::kOpenChannelResult).status, 0U);
    attach(pages);
  }
  void attach(const std::vector<std::uint64_t>& pages) {
    outgoing.emplace(*OutgoingRing::create(*RingPages::create(memory_, std::span(pages).first(3))));
    incoming.emplace(*IncomingRing::create(*RingPages::create(memory_, std::span(pages).subspan(3))));
  }
  bool send(std::string_view text) {
    const std::span<const std::byte> piece = std::as_bytes(std::span(text));
    return *outgoing->send({PacketType::kInBand, 0, false, {}, {&piece, 1}});
  }
  std::string receive() {
    Packet packet;
    for (int attempt = 0; attempt < 5000; ++attempt) {
      if (*incoming->receive(packet)) {
        return {reinterpret_cast<const char*>(packet.payload().data()), packet.payload().size()};
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return "nothing";
  }

  std::vector<wire::OfferChannel> offers;
  std::optional<OutgoingRing> outgoing;
  std::optional<IncomingRing> incoming;

 private:
  memory::GuestMemory& memory_;
  FakeSynic& synic_;
};

class ServerTest : public ::testing::Test {
 protected:
  ServerTest() {
    EXPECT_TRUE(memory_.add_ram(memory::Gpa{0}, 1 << 20));
    server_.emplace(memory_, synic_, control_.loop(), Log());
  }
  ~ServerTest() override {
    slow_.stop();
    control_.stop();
  }
  memory::GuestMemory memory_;
  FakeSynic synic_;
  LoopThread control_, slow_;
  Echo echo_{1};
  std::optional<Server> server_;
  BusGuest guest_{memory_, synic_};
};

TEST_F(ServerTest, packet_goes_through_the_whole_bus_and_back) {
  ASSERT_TRUE(server_->add_device(echo_, slow_.loop()));
  guest_.connect();
  ASSERT_EQ(guest_.offers.size(), 1U);
  const std::uint32_t id = guest_.offers[0].channel_id;
  guest_.open(id);
  ASSERT_TRUE(guest_.send("12345678"));
  ASSERT_TRUE(guest_.outgoing->take_signal());
  ASSERT_TRUE(synic_.guest_signals(guest_.offers[0].connection_id));
  EXPECT_EQ(guest_.receive(), "12345678");
  for (int i = 0; i < 5000 && synic_.events(0, static_cast<std::uint16_t>(id)) == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_GE(synic_.events(0, static_cast<std::uint16_t>(id)), 1);
  const auto tree = server_->inspect();
  EXPECT_EQ(tree["channels"][std::to_string(id)]["packets_received"], 1);
}

TEST_F(ServerTest, a_guest_whose_requests_are_worked_on_is_not_interrupted_for_one_more) {
  ASSERT_TRUE(server_->add_device(echo_, slow_.loop()));
  guest_.connect();
  guest_.open(guest_.offers[0].channel_id);
  for (const auto& [in_flight, policy] : {std::pair{1, SCHED_OTHER}, {3, SCHED_BATCH}}) {
    echo_.in_flight = static_cast<std::size_t>(in_flight);
    ASSERT_TRUE(guest_.send("one more"));
    ASSERT_TRUE(synic_.guest_signals(guest_.offers[0].connection_id));
    EXPECT_EQ(guest_.receive(), "one more");
    std::promise<int> found;
    slow_.loop().post([&] { found.set_value(::sched_getscheduler(0)); });
    EXPECT_EQ(found.get_future().get(), policy) << in_flight << " in flight";
  }
}

TEST_F(ServerTest, guest_is_signalled_again_after_the_open_result) {
  ASSERT_TRUE(server_->add_device(echo_, slow_.loop()));
  guest_.connect();
  guest_.open(guest_.offers[0].channel_id);
  const auto flag = static_cast<std::uint16_t>(guest_.offers[0].channel_id);
  for (int i = 0; i < 5000 && synic_.events(0, flag) == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(synic_.events(0, flag), 1);
}

TEST_F(ServerTest, corrupt_ring_costs_the_channel_and_the_bus_lives_on) {
  Echo other(2);
  ASSERT_TRUE(server_->add_device(echo_, slow_.loop()));
  ASSERT_TRUE(server_->add_device(other, slow_.loop()));
  guest_.connect();
  ASSERT_EQ(guest_.offers.size(), 2U);
  const auto first = guest_.offers[0], second = guest_.offers[1];
  guest_.open(first.channel_id);
  ASSERT_TRUE(memory_.write_object(memory::Gpa::from_page(16), le32(5)));  // no index is 5
  ASSERT_TRUE(synic_.guest_signals(first.connection_id));
  guest_.open(second.channel_id, 32);
  ASSERT_TRUE(guest_.send("still ok"));
  ASSERT_TRUE(synic_.guest_signals(second.connection_id));
  EXPECT_EQ(guest_.receive(), "still ok");
  // Close and reopen give the first channel a new life.
  wire::CloseChannel close = {};
  close.channel_id = first.channel_id;
  guest_.post(close, MessageType::kCloseChannel);
  wire::GpadlTeardown tear_down = {};
  tear_down.channel_id = first.channel_id;
  tear_down.gpadl = first.channel_id + 100;
  guest_.post(tear_down, MessageType::kGpadlTeardown);
  (void)guest_.wait<wire::GpadlTorndown>(MessageType::kGpadlTorndown);
  guest_.open(first.channel_id);
  ASSERT_TRUE(guest_.send("new life"));
  ASSERT_TRUE(synic_.guest_signals(first.connection_id));
  EXPECT_EQ(guest_.receive(), "new life");
}

TEST_F(ServerTest, reconnect_ten_times_leaves_a_working_bus) {
  ASSERT_TRUE(server_->add_device(echo_, slow_.loop()));
  for (int round = 0; round < 10; ++round) {
    guest_.connect(round % 2 == 0 ? Version::k5_3 : Version::k4_0);
    ASSERT_EQ(guest_.offers.size(), 1U);
    guest_.open(guest_.offers[0].channel_id);
    ASSERT_TRUE(guest_.send("round up"));
    ASSERT_TRUE(synic_.guest_signals(guest_.offers[0].connection_id));
    ASSERT_EQ(guest_.receive(), "round up");
    if (round % 3 == 0) {
      guest_.post(BusGuest::Only{}, MessageType::kUnload);
      (void)guest_.wait<BusGuest::Only>(MessageType::kUnloadComplete);
    }
  }
}

TEST_F(ServerTest, windows_7_interrupts_go_through_its_page) {
  ASSERT_TRUE(server_->add_device(echo_, slow_.loop()));
  guest_.connect(Version::k0_13, 0x8000);
  const std::uint32_t id = guest_.offers[0].channel_id;
  guest_.open(id);
  ASSERT_TRUE(guest_.send("old ways"));
  ASSERT_TRUE(memory_.write_object(memory::Gpa{0x8800 + id / 32 * 4}, le32(1U << id % 32)));
  ASSERT_TRUE(synic_.guest_signals(wire::kSharedEventConnectionId));
  EXPECT_EQ(guest_.receive(), "old ways");
  EXPECT_EQ(memory_.read_object<le32>(memory::Gpa{0x8800 + id / 32 * 4})->value(), 0U);
  for (int i = 0; i < 5000 && synic_.events(0, 0) == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(memory_.read_object<le32>(memory::Gpa{0x8000 + id / 32 * 4})->value(), 1U << id % 32);
}

TEST_F(ServerTest, every_version_carries_packets_and_interrupts_both_ways) {
  ASSERT_TRUE(server_->add_device(echo_, slow_.loop()));
  for (const Version version : {Version::k0_13, Version::k1_1, Version::k2_4, Version::k3_0, Version::k4_0, Version::k4_1, Version::k5_0,
                                Version::k5_1, Version::k5_2, Version::k5_3, Version::k6_0}) {
    SCOPED_TRACE(static_cast<std::uint32_t>(version));
    const bool has_page = version < Version::k2_4;
    ASSERT_TRUE(memory_.fill(memory::Gpa{0x8000}, 4096, std::byte{0}));
    guest_.connect(version, has_page ? 0x8000 : version < Version::k5_0 ? 0 : wire::kMessageSint);
    ASSERT_EQ(guest_.offers.size(), 1U);
    const std::uint32_t id = guest_.offers[0].channel_id;
    const auto flag = static_cast<std::uint16_t>(has_page ? 0 : id);
    const int interrupts = synic_.events(0, flag);
    guest_.open(id);
    ASSERT_TRUE(guest_.send("to there"));
    if (version == Version::k0_13) {  // no interrupt of the channel's own
      ASSERT_TRUE(memory_.write_object(memory::Gpa{0x8800 + id / 32 * 4}, le32(1U << id % 32)));
      ASSERT_TRUE(synic_.guest_signals(wire::kSharedEventConnectionId));
    } else {
      EXPECT_EQ(guest_.offers[0].is_dedicated_interrupt, 1U);
      ASSERT_TRUE(synic_.guest_signals(guest_.offers[0].connection_id));
    }
    EXPECT_EQ(guest_.receive(), "to there");
    for (int i = 0; i < 5000 && synic_.events(0, flag) == interrupts; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_GT(synic_.events(0, flag), interrupts);
    const std::uint32_t bits = memory_.read_object<le32>(memory::Gpa{0x8000 + id / 32 * 4})->value();
    EXPECT_EQ(bits, has_page ? 1U << id % 32 : 0U);
    guest_.post(BusGuest::Only{}, MessageType::kUnload, version >= Version::k5_0 ? 4 : 1);
    if (version >= Version::k1_1) (void)guest_.wait<BusGuest::Only>(MessageType::kUnloadComplete);
  }
}

TEST_F(ServerTest, subchannels_are_offered_opened_saved_and_restored) {
  ManyChannels many;
  ASSERT_TRUE(server_->add_device(many, slow_.loop()));
  guest_.connect();
  const std::uint32_t primary = guest_.offers[0].channel_id;
  guest_.open(primary);
  ASSERT_TRUE(guest_.send("hear me!"));
  ASSERT_TRUE(synic_.guest_signals(guest_.offers[0].connection_id));
  EXPECT_EQ(guest_.receive(), "hear me!");
  const auto first = guest_.wait<wire::OfferChannel>(MessageType::kOfferChannel);
  const auto second = guest_.wait<wire::OfferChannel>(MessageType::kOfferChannel);
  EXPECT_EQ(first.subchannel_index, 1U);
  EXPECT_EQ(second.subchannel_index, 2U);
  EXPECT_NE(second.channel_id, first.channel_id);
  guest_.open(second.channel_id, 32);
  ASSERT_TRUE(guest_.send("beside  "));
  ASSERT_TRUE(synic_.guest_signals(second.connection_id));
  EXPECT_EQ(guest_.receive(), "beside  ");
  EXPECT_EQ(server_->inspect()["channels"].size(), 2U);
  const auto state = nlohmann::json::from_cbor(nlohmann::json::to_cbor(server_->save().value()));

  FakeSynic synic;
  ManyChannels many_again;
  LoopThread loop;
  Server server(memory_, synic, loop.loop(), Log());
  ASSERT_TRUE(server.add_device(many_again, loop.loop()));
  ASSERT_TRUE(server.restore(state));
  ASSERT_TRUE(guest_.send("restored"));
  ASSERT_TRUE(synic.guest_signals(second.connection_id));
  EXPECT_EQ(guest_.receive(), "restored");
  // The one that was offered and not opened can still be.
  BusGuest again(memory_, synic);
  again.open(first.channel_id, 48);
  ASSERT_TRUE(again.send("late one"));
  ASSERT_TRUE(synic.guest_signals(first.connection_id));
  EXPECT_EQ(again.receive(), "late one");
  loop.stop();
}

TEST_F(ServerTest, target_processor_changes_while_a_channel_is_open) {
  ASSERT_TRUE(server_->add_device(echo_, slow_.loop()));
  guest_.connect();
  const auto offer = guest_.offers[0];
  guest_.open(offer.channel_id);
  wire::ModifyChannel modify = {};
  modify.channel_id = offer.channel_id;
  modify.target_vp = 3U;
  guest_.post(modify, MessageType::kModifyChannel);
  EXPECT_EQ(guest_.wait<wire::ModifyChannelResponse>(MessageType::kModifyChannelResponse).status, 0U);
  const auto flag = static_cast<std::uint16_t>(offer.channel_id);
  const int before = synic_.events(3, flag);
  ASSERT_TRUE(guest_.send("over to3"));
  ASSERT_TRUE(synic_.guest_signals(offer.connection_id));
  EXPECT_EQ(guest_.receive(), "over to3");
  for (int i = 0; i < 5000 && synic_.events(3, flag) == before; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_GT(synic_.events(3, flag), before);
  modify.target_vp = wire::kNoInterrupts;
  guest_.post(modify, MessageType::kModifyChannel);
  EXPECT_EQ(guest_.wait<wire::ModifyChannelResponse>(MessageType::kModifyChannelResponse).status, 0U);
}

TEST_F(ServerTest, guest_that_breaks_channels_in_a_loop_does_not_fill_the_log) {
  std::atomic<int> lines = 0;
  FakeSynic synic;
  LoopThread loop;
  Echo echo(1);
  Server server(memory_, synic, loop.loop(), Log([&](LogLevel, std::string_view, std::string_view) { ++lines; }));
  ASSERT_TRUE(server.add_device(echo, loop.loop()));
  BusGuest guest(memory_, synic);
  guest.connect();
  const auto offer = guest.offers[0];
  constexpr int kTimes = 60;
  for (int i = 0; i < kTimes; ++i) {
    guest.open(offer.channel_id);
    ASSERT_TRUE(memory_.write_object(memory::Gpa::from_page(16), le32(5)));
    ASSERT_TRUE(synic.guest_signals(offer.connection_id));
    run_on(loop.loop(), [] {});
    wire::CloseChannel close = {};
    close.channel_id = offer.channel_id;
    guest.post(close, MessageType::kCloseChannel);
    wire::GpadlTeardown tear_down = {};
    tear_down.channel_id = offer.channel_id;
    tear_down.gpadl = offer.channel_id + 100;
    guest.post(tear_down, MessageType::kGpadlTeardown);
    (void)guest.wait<wire::GpadlTorndown>(MessageType::kGpadlTorndown);
  }
  EXPECT_GE(lines, 1);
  EXPECT_LT(lines, kTimes);
  loop.stop();
}

TEST_F(ServerTest, saved_machine_continues_in_the_middle_of_a_ring) {
  ASSERT_TRUE(server_->add_device(echo_, slow_.loop()));
  echo_.state = 42;
  guest_.connect();
  const auto offer = guest_.offers[0];
  guest_.open(offer.channel_id);
  ASSERT_TRUE(guest_.send("before  "));
  ASSERT_TRUE(synic_.guest_signals(offer.connection_id));
  EXPECT_EQ(guest_.receive(), "before  ");
  ASSERT_TRUE(guest_.send("in there"));  // unsignalled: in the ring when the machine is saved
  const auto cbor = nlohmann::json::to_cbor(server_->save().value());

  FakeSynic synic;
  Echo echo(1);
  LoopThread loop;
  Server server(memory_, synic, loop.loop(), Log());
  ASSERT_TRUE(server.add_device(echo, loop.loop()));
  ASSERT_TRUE(server.restore(nlohmann::json::from_cbor(cbor)));
  EXPECT_EQ(echo.state, 42);
  EXPECT_EQ(guest_.receive(), "in there");
  ASSERT_TRUE(guest_.send("and more"));
  ASSERT_TRUE(synic.guest_signals(offer.connection_id));
  EXPECT_EQ(guest_.receive(), "and more");
  loop.stop();
}

TEST_F(ServerTest, reset_closes_channels_and_resets_devices) {
  ASSERT_TRUE(server_->add_device(echo_, slow_.loop()));
  guest_.connect();
  guest_.open(guest_.offers[0].channel_id);
  server_->reset();
  EXPECT_EQ(echo_.resets, 1);
  EXPECT_FALSE(synic_.guest_signals(guest_.offers[0].connection_id));
  guest_.connect();
  guest_.open(guest_.offers[0].channel_id);
}

TEST_F(ServerTest, removed_device_is_let_go_and_the_guest_told) {
  ASSERT_TRUE(server_->add_device(echo_, slow_.loop()));
  guest_.connect();
  guest_.open(guest_.offers[0].channel_id);
  std::atomic<bool> removed = false;
  server_->remove_device(echo_, [&] { removed = true; });
  (void)guest_.wait<wire::RescindChannelOffer>(MessageType::kRescindChannelOffer);
  for (int i = 0; i < 5000 && !removed; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_TRUE(removed);
  wire::RelIdReleased released = {};
  released.channel_id = guest_.offers[0].channel_id;
  guest_.post(released, MessageType::kRelIdReleased);
  ASSERT_TRUE(server_->add_device(echo_, slow_.loop()));
  (void)guest_.wait<wire::OfferChannel>(MessageType::kOfferChannel);
}

TEST_F(ServerTest, flood_of_messages_meets_a_bound_and_not_the_end_of_memory) {
  bool refused = false;
  for (int i = 0; i < 100000 && !refused; ++i) {
    wire::InitiateContact contact = {};
    contact.header.type = static_cast<std::uint32_t>(MessageType::kInitiateContact);
    contact.version = static_cast<std::uint32_t>(Version::k3_0);
    refused = synic_.guest_posts(1, bytes_of(contact)) == 0x13;  // the guest never takes an answer
  }
  EXPECT_TRUE(refused);
}

}  // namespace
}  // namespace bygone::vmbus
