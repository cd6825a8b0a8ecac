#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "devices/integration/key_value.h"
#include "devices/integration/services.h"
#include "devices/integration/wide_text.h"
#include "vmbus/testing/fake_guest.h"

namespace bygone::devices::integration {
namespace {

namespace wire = spec::vmbus;
using vmbus::testing::FakeGuest;
using vmbus::testing::GuestChannel;
using wire::IntegrationMessage;

/// The guest's driver of one service: takes a request, changes it, and sends the same buffer back, as Linux does.
class Driver {
 public:
  Driver(FakeGuest& guest, vmbus::Device& device) : channel(guest.open(device)) {}

  /// The next request, with what follows its header in `body`.
  bool next() {
    const auto packet = channel->receive();
    if (!packet) return false;
    bytes_.assign(packet->payload().begin(), packet->payload().end());
    EXPECT_EQ(packet->type(), vmbus::PacketType::kInBand);
    std::memcpy(&pipe, bytes_.data(), sizeof pipe);
    std::memcpy(&header, bytes_.data() + sizeof pipe, sizeof header);
    EXPECT_EQ(pipe.length, sizeof header + header.size);
    EXPECT_EQ(header.flags, wire::kIntegrationTransaction | wire::kIntegrationRequest);
    return true;
  }
  template <typename T>
  T body() const {
    T value = {};
    EXPECT_GE(header.size, sizeof value);
    std::memcpy(&value, bytes_.data() + sizeof pipe + sizeof header, sizeof value);
    return value;
  }
  template <typename T>
  void set_body(const T& value) {
    std::memcpy(bytes_.data() + sizeof pipe + sizeof header, &value, sizeof value);
  }
  void respond(std::uint32_t status = 0) {
    header.status = status;
    header.flags = wire::kIntegrationTransaction | wire::kIntegrationResponse;
    std::memcpy(bytes_.data() + sizeof pipe, &header, sizeof header);
    ASSERT_TRUE(channel->send(bytes_));
  }
  /// Chooses versions out of what the host offers; false when they are not among them.
  bool negotiate(ServiceVersion framework, ServiceVersion service) {
    if (!next() || header.type != static_cast<std::uint16_t>(IntegrationMessage::kNegotiate)) return false;
    const auto counts = body<wire::IntegrationNegotiate>();
    std::vector<wire::IntegrationVersion> versions(counts.framework_count + counts.service_count);
    const std::size_t at = sizeof pipe + sizeof header + sizeof counts;
    std::memcpy(versions.data(), bytes_.data() + at, versions.size() * sizeof versions[0]);
    const auto has = [&](auto first, auto last, ServiceVersion wanted) {
      return std::any_of(first, last, [&](const auto& v) { return v.major == wanted.major && v.minor == wanted.minor; });
    };
    const auto middle = versions.begin() + counts.framework_count;
    if (!has(versions.begin(), middle, framework) || !has(middle, versions.end(), service)) return false;
    answer(framework, service);
    return true;
  }
  void answer(ServiceVersion framework, ServiceVersion service) {
    struct {
      wire::IntegrationNegotiate counts;
      wire::IntegrationVersion framework, service;
    } chosen = {{1, 1, 0}, {framework.major, framework.minor}, {service.major, service.minor}};
    set_body(chosen);
    respond();
  }

  std::unique_ptr<GuestChannel> channel;
  wire::PipeHeader pipe;
  wire::IntegrationHeader header;

 private:
  std::vector<std::byte> bytes_;
};

TEST(ShutdownServiceTest, guest_agrees_and_the_caller_hears) {
  FakeGuest guest;
  ShutdownService service(guest.loop());
  Driver driver(guest, service);
  ASSERT_TRUE(driver.negotiate({3, 0}, {3, 2}));
  guest.run();
  std::optional<Result<void>> outcome;
  service.ask(ShutdownService::Kind::kRestart, ShutdownService::Manner::kForced, "Grüße", [&](Result<void> r) { outcome = r; });
  ASSERT_TRUE(driver.next());
  EXPECT_EQ(driver.header.type, static_cast<std::uint16_t>(IntegrationMessage::kShutdown));
  EXPECT_EQ(driver.header.service.major, 3U);
  const auto request = driver.body<wire::ShutdownRequest>();
  EXPECT_EQ(request.flags, wire::kShutdownForce | wire::kShutdownRestart);
  EXPECT_EQ(get_wide(request.message, request.message.size()), "Grüße");
  EXPECT_FALSE(outcome);
  driver.respond();
  guest.run();
  ASSERT_TRUE(outcome);
  EXPECT_TRUE(*outcome);
}

TEST(ShutdownServiceTest, refusal_absence_and_disappearance_are_told_apart) {
  FakeGuest guest;
  ShutdownService service(guest.loop());
  std::optional<Result<void>> outcome;
  const auto ask = [&](ShutdownService::Kind kind) {
    outcome.reset();
    service.ask(kind, ShutdownService::Manner::kOrderly, "", [&](Result<void> r) { outcome = r; });
    guest.run();
  };
  ask(ShutdownService::Kind::kPowerOff);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->error().code, ErrorCode::kUnsupported);
  Driver driver(guest, service);
  ASSERT_TRUE(driver.negotiate({1, 0}, {1, 0}));  // XP's
  guest.run();
  ask(ShutdownService::Kind::kHibernate);
  EXPECT_EQ(outcome->error().code, ErrorCode::kUnsupported);
  ask(ShutdownService::Kind::kPowerOff);
  ASSERT_TRUE(driver.next());
  driver.respond(wire::kIntegrationFail);
  guest.run();
  EXPECT_EQ(outcome->error().code, ErrorCode::kPermissionDenied);
  ask(ShutdownService::Kind::kPowerOff);
  EXPECT_FALSE(outcome);
  driver.channel->close();
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->error().code, ErrorCode::kCancelled);
}

TEST(IntegrationServiceTest, version_that_was_not_offered_takes_the_channel) {
  FakeGuest guest;
  ShutdownService service(guest.loop());
  Driver driver(guest, service);
  ASSERT_TRUE(driver.next());
  driver.answer({3, 0}, {9, 9});
  guest.run();
  EXPECT_TRUE(driver.channel->failure());
}

TEST(IntegrationServiceTest, guest_that_accepts_nothing_is_left_alone) {
  FakeGuest guest;
  ShutdownService service(guest.loop());
  Driver driver(guest, service);
  ASSERT_TRUE(driver.next());
  driver.set_body(wire::IntegrationNegotiate{});
  driver.respond();
  guest.run();
  EXPECT_FALSE(driver.channel->failure());
  EXPECT_EQ(service.inspect()["ready"], false);
}

TEST(IntegrationServiceTest, short_message_takes_the_channel) {
  FakeGuest guest;
  ShutdownService service(guest.loop());
  Driver driver(guest, service);
  const wire::PipeHeader header{1, 0};
  ASSERT_TRUE(driver.channel->send(bytes_of(header)));
  guest.run();
  EXPECT_TRUE(driver.channel->failure());
}

TEST(HeartbeatServiceTest, guest_that_answers_is_alive) {
  FakeGuest guest;
  HeartbeatService service(guest.loop(), std::chrono::hours(1));
  EXPECT_EQ(service.health(), HeartbeatService::Health::kNoContact);
  Driver driver(guest, service);
  ASSERT_TRUE(driver.negotiate({3, 0}, {3, 0}));
  ASSERT_TRUE(driver.next());
  auto data = driver.body<wire::HeartbeatData>();
  data.sequence = data.sequence + 1;
  driver.set_body(data);
  driver.respond();
  guest.run();
  EXPECT_EQ(service.health(), HeartbeatService::Health::kAlive);
  driver.channel->close();
  EXPECT_EQ(service.health(), HeartbeatService::Health::kNoContact);
}

TEST(HeartbeatServiceTest, guest_that_does_not_answer_is_lost_and_not_flooded) {
  FakeGuest guest;
  HeartbeatService service(guest.loop(), std::chrono::milliseconds(0));
  Driver driver(guest, service);
  ASSERT_TRUE(driver.negotiate({3, 0}, {3, 0}));
  for (int i = 0; i < 100 && service.health() != HeartbeatService::Health::kLost; ++i) guest.run(std::chrono::milliseconds(1));
  EXPECT_EQ(service.health(), HeartbeatService::Health::kLost);
  for (int i = 0; i < 10; ++i) guest.run();
  int beats = 0;
  while (driver.channel->try_receive()) ++beats;
  EXPECT_LE(beats, 6);
}

TEST(TimeSyncServiceTest, first_message_sets_the_clock_and_later_ones_steer_it) {
  FakeGuest guest;
  std::uint64_t host = 1000, reference = 50;
  TimeSyncService service(guest.loop(), {[&] { return host; }, [&] { return reference; }}, std::chrono::milliseconds(0));
  Driver driver(guest, service);
  ASSERT_TRUE(driver.negotiate({3, 0}, {4, 0}));
  ASSERT_TRUE(driver.next());
  auto data = driver.body<wire::TimeSyncReferenceData>();
  EXPECT_EQ(data.host_time, 1000U);
  EXPECT_EQ(data.reference_time, 50U);
  EXPECT_EQ(data.flags, wire::kTimeSyncSync);
  driver.respond();
  ASSERT_TRUE(driver.next());
  EXPECT_EQ(driver.body<wire::TimeSyncReferenceData>().flags, wire::kTimeSyncSample);
}

TEST(TimeSyncServiceTest, old_guests_get_the_old_form) {
  FakeGuest guest;
  TimeSyncService service(guest.loop(), {[] { return std::uint64_t{7}; }, [] { return std::uint64_t{8}; }}, std::chrono::hours(1));
  Driver driver(guest, service);
  ASSERT_TRUE(driver.negotiate({1, 0}, {1, 0}));
  ASSERT_TRUE(driver.next());
  EXPECT_EQ(driver.header.size, sizeof(wire::TimeSyncData));
  EXPECT_EQ(driver.body<wire::TimeSyncData>().host_time, 7U);
}

TEST(TimeSyncServiceTest, clock_is_set_where_the_two_have_parted_suddenly) {
  FakeGuest guest;
  std::uint64_t host = 5'000'000'000, reference = 1000;
  TimeSyncService service(guest.loop(), {[&] { return host; }, [&] { return reference; }}, std::chrono::hours(1));
  Driver driver(guest, service);
  ASSERT_TRUE(driver.negotiate({3, 0}, {4, 0}));
  const auto flags_after_step = [&] {
    service.step();
    EXPECT_TRUE(driver.next());
    return driver.body<wire::TimeSyncReferenceData>().flags;
  };
  ASSERT_TRUE(driver.next());
  EXPECT_EQ(flags_after_step(), wire::kTimeSyncSample) << "nothing has happened";
  host += 50'000'000, reference += 50'000'000 - 1000;
  EXPECT_EQ(flags_after_step(), wire::kTimeSyncSample) << "a little drift";
  host += 36'000'000'000;  // an hour's sleep: the partition's time stood still
  EXPECT_EQ(flags_after_step(), wire::kTimeSyncSync);
  EXPECT_EQ(flags_after_step(), wire::kTimeSyncSample);
  host -= 100'000'000;  // somebody set the host's clock back
  EXPECT_EQ(flags_after_step(), wire::kTimeSyncSync);
}

TEST(TimeSyncServiceTest, windows_time_counts_from_1601) {
  EXPECT_GT(TimeSyncService::system_host_time(), 133'000'000'000'000'000U);  // 2022
}

// Every service in every version that it offers, in both frameworks.

TEST(ShutdownServiceTest, every_version_asks_and_hears) {
  for (const ServiceVersion framework : {ServiceVersion{1, 0}, ServiceVersion{3, 0}}) {
    for (const ServiceVersion version : {ServiceVersion{1, 0}, ServiceVersion{3, 0}, ServiceVersion{3, 1}, ServiceVersion{3, 2}}) {
      SCOPED_TRACE(fmt::format("{}.{} in {}.{}", version.major, version.minor, framework.major, framework.minor));
      FakeGuest guest;
      ShutdownService service(guest.loop());
      Driver driver(guest, service);
      ASSERT_TRUE(driver.negotiate(framework, version));
      guest.run();
      const bool hibernates = version >= ServiceVersion{3, 2};
      std::optional<Result<void>> outcome;
      service.ask(hibernates ? ShutdownService::Kind::kHibernate : ShutdownService::Kind::kPowerOff, ShutdownService::Manner::kOrderly, "",
                  [&](Result<void> result) { outcome = result; });
      ASSERT_TRUE(driver.next());
      EXPECT_EQ(driver.header.framework.major, framework.major);
      EXPECT_EQ(driver.header.service.minor, version.minor);
      EXPECT_EQ(driver.body<wire::ShutdownRequest>().flags, hibernates ? wire::kShutdownHibernate : 0U);
      driver.respond();
      guest.run();
      ASSERT_TRUE(outcome);
      EXPECT_TRUE(*outcome);
      const auto tree = service.inspect();
      EXPECT_EQ(tree["version"], fmt::format("{}.{}", version.major, version.minor));
      EXPECT_EQ(tree["requests"], 1);
      EXPECT_EQ(tree["responses"], 1);
    }
  }
}

TEST(ShutdownServiceTest, restored_it_asks_again_in_the_same_version) {
  FakeGuest guest;
  nlohmann::json state;
  std::unique_ptr<Driver> driver;
  ShutdownService before(guest.loop());
  driver = std::make_unique<Driver>(guest, before);
  ASSERT_TRUE(driver->negotiate({1, 0}, {3, 1}));
  guest.run();
  state = before.save().value();
  ShutdownService after(guest.loop());
  ASSERT_TRUE(after.restore(nlohmann::json::from_cbor(nlohmann::json::to_cbor(state))));
  driver->channel = guest.open(after, {.is_restored = true});
  std::optional<Result<void>> outcome;
  after.ask(ShutdownService::Kind::kPowerOff, ShutdownService::Manner::kOrderly, "", [&](Result<void> result) { outcome = result; });
  ASSERT_TRUE(driver->next()) << "and no versions are offered again";
  EXPECT_EQ(driver->header.type, static_cast<std::uint16_t>(IntegrationMessage::kShutdown));
  EXPECT_EQ(driver->header.framework.major, 1U);
  EXPECT_EQ(driver->header.service.minor, 1U);
  driver->respond();
  guest.run();
  EXPECT_TRUE(outcome && *outcome);
  driver.reset();
}

TEST(HeartbeatServiceTest, every_version_beats_and_goes_on_when_restored) {
  for (const ServiceVersion version : {ServiceVersion{1, 0}, ServiceVersion{3, 0}}) {
    FakeGuest guest;
    HeartbeatService before(guest.loop(), std::chrono::hours(1)), after(guest.loop(), std::chrono::hours(1));
    Driver driver(guest, before);
    ASSERT_TRUE(driver.negotiate(version, version));
    ASSERT_TRUE(driver.next());
    EXPECT_EQ(driver.header.type, static_cast<std::uint16_t>(IntegrationMessage::kHeartbeat));
    ASSERT_TRUE(after.restore(before.save().value()));
    driver.channel = guest.open(after, {.is_restored = true});
    EXPECT_EQ(after.health(), HeartbeatService::Health::kNoContact);
    ASSERT_TRUE(driver.next());
    driver.respond();
    guest.run();
    EXPECT_EQ(after.health(), HeartbeatService::Health::kAlive);
    EXPECT_EQ(after.inspect()["health"], "alive");
    driver.channel.reset();
  }
}

TEST(TimeSyncServiceTest, every_version_sets_the_clock_again_when_restored) {
  for (const ServiceVersion version : {ServiceVersion{1, 0}, ServiceVersion{3, 0}, ServiceVersion{4, 0}}) {
    FakeGuest guest;
    const TimeSyncService::Clocks clocks{[] { return std::uint64_t{7}; }, [] { return std::uint64_t{8}; }};
    TimeSyncService before(guest.loop(), clocks, std::chrono::hours(1)), after(guest.loop(), clocks, std::chrono::hours(1));
    const auto flags = [&](Driver& driver) {
      return version.major == 4 ? driver.body<wire::TimeSyncReferenceData>().flags : driver.body<wire::TimeSyncData>().flags;
    };
    Driver driver(guest, before);
    ASSERT_TRUE(driver.negotiate({version.major == 1 ? std::uint16_t{1} : std::uint16_t{3}, 0}, version));
    ASSERT_TRUE(driver.next());
    EXPECT_EQ(flags(driver), wire::kTimeSyncSync);
    ASSERT_TRUE(after.restore(before.save().value()));
    driver.channel = guest.open(after, {.is_restored = true});
    ASSERT_TRUE(driver.next());
    EXPECT_EQ(flags(driver), wire::kTimeSyncSync) << "it slept in a file";
    driver.channel.reset();
  }
}

class KeyValueServiceTest : public ::testing::Test {
 protected:
  /// Answers requests as a guest with one key in the automatic pool until the host asks no more.
  void serve(Driver& driver) {
    while (driver.next()) {
      const auto message = driver.body<wire::KeyValueEnumerate>();
      const auto operation = static_cast<wire::KeyValueOperation>(message.header.operation);
      if (operation == wire::KeyValueOperation::kEnumerate) {
        const bool has = message.header.pool == static_cast<std::uint8_t>(wire::KeyValuePool::kAutomatic) && message.index == 0;
        if (has) {
          auto item = message;
          item.data.type = wire::kKeyValueTypeString;
          item.data.key_size = static_cast<std::uint32_t>(put_wide("OSName", item.data.key));
          item.data.value_size = static_cast<std::uint32_t>(put_wide("Debian", item.data.value));
          driver.set_body(item);
        }
        driver.respond(has ? 0 : wire::kIntegrationNoMoreItems);
      } else if (operation == wire::KeyValueOperation::kSet) {
        const auto exchange = driver.body<wire::KeyValueExchange>();
        auto& pool = exchange.header.pool == static_cast<std::uint8_t>(wire::KeyValuePool::kHost) ? host_ : written_;
        pool[get_wide(exchange.data.key, exchange.data.key_size)] = get_wide(exchange.data.value, exchange.data.value_size);
        driver.respond();
      } else {
        const auto removal = driver.body<wire::KeyValueDelete>();
        written_.erase(get_wide(removal.key, removal.key_size));
        driver.respond();
      }
    }
  }
  FakeGuest guest_;
  KeyValueService service_{guest_.loop(), {{"HostName", "castle"}}, std::chrono::hours(1)};
  KeyValues written_, host_;
};

TEST_F(KeyValueServiceTest, guest_tells_of_itself_and_reads_what_the_host_writes) {
  ASSERT_TRUE(service_.set("before", "boot"));
  Driver driver(guest_, service_);
  ASSERT_TRUE(driver.negotiate({3, 0}, {4, 0}));
  serve(driver);
  EXPECT_EQ(service_.values(wire::KeyValuePool::kAutomatic), (KeyValues{{"OSName", "Debian"}}));
  EXPECT_EQ(written_, (KeyValues{{"before", "boot"}}));
  EXPECT_EQ(host_, (KeyValues{{"HostName", "castle"}}));
  ASSERT_TRUE(service_.set("later", "on"));
  service_.remove("before");
  serve(driver);
  EXPECT_EQ(written_, (KeyValues{{"later", "on"}}));
  driver.channel->close();
  EXPECT_TRUE(service_.values(wire::KeyValuePool::kAutomatic).empty());
}

TEST_F(KeyValueServiceTest, every_version_tells_of_addresses_and_system_in_all_types) {
  struct Told {
    const char* key;
    std::uint32_t type;
    const char* value;
  };
  static constexpr Told kTold[] = {{"NetworkAddressIPv4", wire::kKeyValueTypeString, "10.0.2.15;192.168.7.1"},
                                   {"NetworkAddressIPv6", wire::kKeyValueTypeString, "fe80::1"},
                                   {"OSVersion", wire::kKeyValueTypeString, "5.1.2600"},
                                   {"ServicePackMajor", wire::kKeyValueTypeU32, "3"},
                                   {"Ticks", wire::kKeyValueTypeU64, "4294967297"}};
  for (const ServiceVersion version : {ServiceVersion{1, 0}, ServiceVersion{3, 0}, ServiceVersion{4, 0}, ServiceVersion{5, 0}}) {
    SCOPED_TRACE(version.major);
    KeyValueService service(guest_.loop(), {}, std::chrono::hours(1));
    Driver driver(guest_, service);
    ASSERT_TRUE(driver.negotiate({version.major == 1 ? std::uint16_t{1} : std::uint16_t{3}, 0}, version));
    while (driver.next()) {
      auto item = driver.body<wire::KeyValueEnumerate>();
      const bool has = item.header.pool == static_cast<std::uint8_t>(wire::KeyValuePool::kAutomatic) && item.index < std::size(kTold);
      if (has) {
        const Told& told = kTold[item.index];
        item.data.type = told.type;
        item.data.key_size = static_cast<std::uint32_t>(put_wide(told.key, item.data.key));
        if (told.type == wire::kKeyValueTypeString) {
          item.data.value_size = static_cast<std::uint32_t>(put_wide(told.value, item.data.value));
        } else {
          const le64 number(std::stoull(told.value));
          item.data.value_size = told.type == wire::kKeyValueTypeU32 ? 4U : 8U;
          std::memcpy(item.data.value.data(), &number, sizeof number);
        }
        driver.set_body(item);
      }
      driver.respond(has ? 0 : wire::kIntegrationNoMoreItems);
    }
    KeyValues expected;
    for (const Told& told : kTold) expected[told.key] = told.value;
    EXPECT_EQ(service.values(wire::KeyValuePool::kAutomatic), expected);
    EXPECT_EQ(service.inspect()["automatic"]["OSVersion"], "5.1.2600");
    driver.channel->close();
  }
}

TEST_F(KeyValueServiceTest, values_too_long_are_refused) {
  EXPECT_EQ(service_.set("", "x").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(service_.set("key", std::string(1024, 'x')).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(KeyValueServiceTest, endless_enumeration_ends) {
  Driver driver(guest_, service_);
  ASSERT_TRUE(driver.negotiate({3, 0}, {4, 0}));
  int answers = 0;
  while (driver.next()) {
    auto item = driver.body<wire::KeyValueEnumerate>();
    item.data.key_size = static_cast<std::uint32_t>(put_wide("key" + std::to_string(answers), item.data.key));
    driver.set_body(item);
    driver.respond();
    ASSERT_LT(++answers, 3000);
  }
  EXPECT_EQ(service_.values(wire::KeyValuePool::kAutomatic).size(), 1024U);
}

TEST_F(KeyValueServiceTest, saved_state_keeps_the_values) {
  ASSERT_TRUE(service_.set("kept", "yes"));
  const auto state = service_.save().value();
  KeyValueService fresh(guest_.loop());
  ASSERT_TRUE(fresh.restore(nlohmann::json::from_cbor(nlohmann::json::to_cbor(state))));
  EXPECT_EQ(fresh.values(wire::KeyValuePool::kExternal), (KeyValues{{"kept", "yes"}}));
  EXPECT_EQ(fresh.restore(nlohmann::json::object()).error().code, ErrorCode::kCorrupt);
}

TEST(WideTextTest, text_survives_both_ways_and_is_cut_at_a_character) {
  std::array<std::uint8_t, 64> field = {};
  for (const std::string text : {"", "abc", "Grüße", "日本", "😀x"}) {
    EXPECT_EQ(get_wide(field, put_wide(text, field)), text);
  }
  std::array<std::uint8_t, 8> small = {};
  EXPECT_EQ(get_wide(small, put_wide("ab😀", small)), "ab");
  EXPECT_EQ(get_wide(small, put_wide("\xFF\xC0", small)), "\uFFFD\uFFFD");
}

}  // namespace
}  // namespace bygone::devices::integration
