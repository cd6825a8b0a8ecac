#include "devices/video/video.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "spec/video/synthvid.h"
#include "vmbus/testing/fake_guest.h"

namespace bygone::devices::video {
namespace {

namespace protocol = spec::synthvid;
using protocol::MessageType;
using vmbus::testing::FakeGuest;

constexpr std::uint64_t kVram = 0x100000;

std::vector<std::byte> piped(std::span<const std::byte> message) {
  const spec::vmbus::PipeHeader pipe{spec::vmbus::kPipeData, static_cast<std::uint32_t>(message.size())};
  std::vector<std::byte> whole(bytes_of(pipe).begin(), bytes_of(pipe).end());
  whole.insert(whole.end(), message.begin(), message.end());
  return whole;
}
template <typename T>
struct Piped {
  spec::vmbus::PipeHeader pipe;
  T message;
};

struct Watcher : ScreenObserver {
  void mode_changed(const ScreenMode& changed) override { mode = changed; }
  void damaged(const Rectangle& area) override { areas.push_back(area); }
  void pointer_shaped(const PointerShape& changed) override { shape = changed; }
  void pointer_moved(bool is_visible, std::int32_t x, std::int32_t y) override {
    pointer_is_visible = is_visible;
    pointer_x = x, pointer_y = y;
  }
  ScreenMode mode;
  std::vector<Rectangle> areas;
  PointerShape shape;
  std::int32_t pointer_x = 0, pointer_y = 0;
  bool pointer_is_visible = false;
};

class VideoTest : public testing::Test {
 protected:
  void SetUp() override {
    video_.set_observer(&watcher_);
    channel_ = guest_.open(video_, {.ring_pages = 9});
  }
  template <typename T>
  void send(MessageType type, T message) {
    message.header = {static_cast<std::uint32_t>(type), static_cast<std::uint32_t>(sizeof message)};
    channel_->send(piped(bytes_of(message)));
  }
  template <typename T>
  T reply() {
    const auto packet = channel_->receive();
    EXPECT_TRUE(packet);
    return packet ? packet->payload_as<Piped<T>>()->message : T{};
  }
  std::uint8_t negotiate(std::uint32_t version) {
    send(MessageType::kVersionRequest, protocol::VersionRequest{{}, version});
    return reply<protocol::VersionResponse>().is_accepted;
  }
  void set_mode(std::uint32_t width, std::uint32_t height, std::uint32_t pitch) {
    send(MessageType::kVramLocation, protocol::VramLocation{{}, 5ULL, 1, kVram});
    EXPECT_EQ(reply<protocol::Ack>().context, 5U);
    send(MessageType::kSituationUpdate, protocol::SituationUpdate{{}, 6ULL, 1, 1, 0U, 32, width, height, pitch});
    guest_.run();
  }
  void send_shape(protocol::PointerShape shape, std::span<const std::uint8_t> data) {
    shape.header = {static_cast<std::uint32_t>(MessageType::kPointerShape), static_cast<std::uint32_t>(sizeof shape + data.size())};
    std::vector<std::byte> message(bytes_of(shape).begin(), bytes_of(shape).end());
    const auto bytes = std::as_bytes(data);
    message.insert(message.end(), bytes.begin(), bytes.end());
    channel_->send(piped(message));
    guest_.run();
  }
  FakeGuest guest_;
  Watcher watcher_;
  Video video_{guest_.memory(), {}};
  std::unique_ptr<vmbus::testing::GuestChannel> channel_;
};

TEST_F(VideoTest, every_known_version_shows_a_picture_and_others_are_refused) {
  EXPECT_EQ(negotiate(0x00070003), 0);
  EXPECT_EQ(negotiate(0x00000004), 0);
  for (const auto version : {protocol::kVersion3_0, protocol::kVersion3_2, protocol::kVersion3_3, protocol::kVersion3_4, protocol::kVersion3_5}) {
    SCOPED_TRACE(version >> 16);
    EXPECT_EQ(negotiate(version), version >= protocol::kVersion3_3 ? protocol::kAcceptedWithVersionExchange : protocol::kAccepted);
    set_mode(64, 48, 256);
    EXPECT_EQ(reply<protocol::Ack>().context, 6U);
    EXPECT_EQ(reply<protocol::FeatureChange>().wants_dirt, 1);
    EXPECT_EQ(watcher_.mode.width, 64U);
    EXPECT_TRUE(video_.capture());
    EXPECT_EQ(video_.inspect()["protocol"], version);
    channel_->close();
    channel_ = guest_.open(video_);
  }
}

TEST_F(VideoTest, newer_windows_hears_of_the_machine_and_of_its_screen) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  struct Only {
    protocol::Header header;
  };
  send(MessageType::kBiosInfoRequest, Only{});
  const auto bios = reply<protocol::BiosInfoResponse>();
  EXPECT_EQ(bios.header.type, static_cast<std::uint32_t>(MessageType::kBiosInfoResponse));
  EXPECT_EQ(bios.generation_2, 1U);
  send(MessageType::kCapabilityRequest, Only{});
  const auto capability = reply<protocol::CapabilityResponse>();
  EXPECT_EQ(capability.header.type, static_cast<std::uint32_t>(MessageType::kCapabilityResponse));
  EXPECT_EQ(capability.locks_on_disconnect, 0U);
  EXPECT_FALSE(channel_->failure());
}

TEST_F(VideoTest, picture_is_captured_from_guest_memory) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  EXPECT_EQ(video_.capture().error().code, ErrorCode::kNotFound);
  set_mode(64, 48, 300);
  EXPECT_EQ(watcher_.mode.width, 64U);
  ASSERT_TRUE(guest_.memory().write_object<std::uint32_t>({kVram + 2 * 300 + 3 * 4}, 0x00ABCDEF));
  const Picture picture = video_.capture().value();
  EXPECT_EQ(picture.pixels[2 * 64 + 3], 0x00ABCDEFU);
}

TEST_F(VideoTest, mode_outside_memory_takes_the_channel) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  set_mode(16000, 16000, 64000);
  EXPECT_TRUE(channel_->failure());
  EXPECT_EQ(video_.mode().width, 0U);
}

TEST_F(VideoTest, situation_that_answers_the_request_for_features_is_not_answered_with_another) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  set_mode(64, 48, 256);
  EXPECT_EQ(reply<protocol::Ack>().context, 6U);
  const auto features = reply<protocol::FeatureChange>();
  EXPECT_EQ(features.header.type, static_cast<std::uint32_t>(MessageType::kFeatureChange));
  EXPECT_EQ(features.wants_situation, 1);
  send(MessageType::kSituationUpdate, protocol::SituationUpdate{{}, 7ULL, 1, 1, 0U, 32, 64, 48, 256});
  EXPECT_EQ(reply<protocol::Ack>().context, 7U);
  EXPECT_FALSE(channel_->receive());
}

TEST_F(VideoTest, damage_is_clipped_to_the_mode) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  set_mode(64, 48, 256);
  struct {
    protocol::Header header;
    std::uint8_t output = 0, count = 2;
    protocol::Rectangle areas[2] = {{static_cast<std::uint32_t>(-5), 1U, 9999U, 4U}, {9U, 9U, 9U, 9U}};
  } dirt;
  send(MessageType::kDirt, dirt);
  guest_.run();
  ASSERT_EQ(watcher_.areas.size(), 1U);
  EXPECT_EQ(watcher_.areas[0].left, 0);
  EXPECT_EQ(watcher_.areas[0].right, 64);
}

TEST_F(VideoTest, dirt_with_too_few_rectangles_takes_the_channel) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  send(MessageType::kDirt, protocol::Dirt{{}, 0, 200});
  guest_.run();
  EXPECT_TRUE(channel_->failure());
}

TEST_F(VideoTest, resolutions_begin_with_the_preferred_one_and_keep_the_guests_bound) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  ASSERT_TRUE(video_.prefer({1366, 768}));
  send(MessageType::kResolutionRequest, protocol::ResolutionRequest{{}, 4});
  struct Response {
    protocol::ResolutionResponse head;
    protocol::Resolution list[4];
  };
  const auto response = reply<Response>();
  EXPECT_EQ(response.head.count, 4);
  EXPECT_EQ(response.list[response.head.default_index].width, 1366);
  EXPECT_EQ(response.head.edid[1], 0xFF);
  EXPECT_EQ(response.head.edid[56] | (response.head.edid[58] & 0xF0) << 4, 1366) << "the monitor prefers it too";
}

TEST_F(VideoTest, guest_hears_what_the_window_would_like_from_3_4_on) {
  for (const auto version : {protocol::kVersion3_3, protocol::kVersion3_4, protocol::kVersion3_5}) {
    SCOPED_TRACE(version >> 16);
    ASSERT_TRUE(video_.prefer({1024, 768}));
    ASSERT_NE(negotiate(version), 0);
    set_mode(64, 48, 256);
    EXPECT_EQ(reply<protocol::Ack>().context, 6U);
    const auto first = reply<protocol::FeatureChange>();
    EXPECT_EQ(first.header.size, version >= protocol::kVersion3_4 ? sizeof(protocol::FeatureChange2) : sizeof(protocol::FeatureChange));
    ASSERT_TRUE(video_.prefer({1367, 769}));
    ASSERT_TRUE(video_.prefer({1367, 769}));  // no news
    if (version >= protocol::kVersion3_4) {
      const auto change = reply<protocol::FeatureChange2>();
      EXPECT_EQ(change.base.header.type, static_cast<std::uint32_t>(MessageType::kFeatureChange));
      EXPECT_EQ(change.base.wants_dirt, 1);
      EXPECT_EQ(change.edid[56] | (change.edid[58] & 0xF0) << 4, 1367);
      EXPECT_EQ(change.edid[59] | (change.edid[61] & 0xF0) << 4, 769);
    }
    EXPECT_FALSE(channel_->receive());
    channel_->close();
    channel_ = guest_.open(video_);
  }
}

TEST_F(VideoTest, odd_widths_are_modes_like_others) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  set_mode(61, 47, 61 * 4);
  ASSERT_TRUE(guest_.memory().write_object<std::uint32_t>({kVram + 46 * 61 * 4 + 60 * 4}, 0x00123456));
  EXPECT_EQ(video_.capture().value().pixels.back(), 0x00123456U);
}

TEST_F(VideoTest, a_small_mode_may_be_a_part_of_a_wide_framebuffer) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  constexpr std::uint32_t kPitch = 7680 * 4;
  set_mode(64, 4, kPitch);
  ASSERT_FALSE(channel_->failure());
  ASSERT_TRUE(guest_.memory().write_object<std::uint32_t>({kVram + std::uint64_t{3} * kPitch + 63 * 4}, 0x00123456));
  EXPECT_EQ(video_.capture().value().pixels.back(), 0x00123456U);
}

TEST_F(VideoTest, the_largest_resolution_is_what_the_video_memory_holds) {
  struct Response {
    protocol::ResolutionResponse head;
    protocol::Resolution list[64];
  };
  const auto widest = [](std::uint16_t megabytes) {
    FakeGuest guest;
    Video video(guest.memory(), {.vram_megabytes = megabytes});
    const auto channel = guest.open(video);
    const protocol::VersionRequest version{{1U, 12U}, protocol::kVersion3_5};
    channel->send(piped(bytes_of(version)));
    EXPECT_TRUE(channel->receive());
    const protocol::ResolutionRequest request{{13U, 9U}, 64};
    channel->send(piped(bytes_of(request)));
    const auto packet = channel->receive();
    EXPECT_TRUE(packet);
    Piped<Response> response{};
    std::memcpy(static_cast<void*>(&response), packet->payload().data(), std::min(sizeof response, packet->payload().size()));
    std::uint32_t width = 0;
    for (int i = 0; i < response.message.head.count; ++i) width = std::max<std::uint32_t>(width, response.message.list[i].width);
    return width;
  };
  EXPECT_EQ(widest(8), 1920U);
  EXPECT_EQ(widest(64), 5120U);
  EXPECT_EQ(widest(128), 7680U);
}

TEST_F(VideoTest, resolutions_beyond_the_video_memory_are_not_preferred) {
  Video small(guest_.memory(), {.vram_megabytes = 8});
  EXPECT_TRUE(small.prefer({1920, 1080}));
  EXPECT_EQ(small.prefer({1920, 1200}).error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(small.prefer({0, 600}).error().code, ErrorCode::kOutOfRange);
  EXPECT_TRUE(video_.prefer({1367, 769}));
}

TEST_F(VideoTest, pointer_shape_is_put_together_from_its_parts) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  struct {
    protocol::PointerShape shape{{}, 0, 1, 2U, 2U, 1U, 1U};
    std::uint8_t data[16] = {1, 2, 3};
  } message;
  message.shape.header = {8U, static_cast<std::uint32_t>(sizeof message)};
  channel_->send(piped(bytes_of(message)));
  guest_.run();
  EXPECT_EQ(watcher_.shape.data.size(), 16U);
  EXPECT_EQ(watcher_.shape.hot_x, 1U);
}

TEST_F(VideoTest, pointer_of_one_part_has_the_last_parts_number_as_linux_and_windows_send_it) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  const std::array<std::uint8_t, 16> first = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  send_shape({{}, protocol::kPointerLastPart, 1, 2U, 2U, 1U, 0U}, first);
  EXPECT_EQ(watcher_.shape.width, 2U);
  EXPECT_EQ(watcher_.shape.hot_x, 1U);
  ASSERT_EQ(watcher_.shape.data.size(), 16U);
  EXPECT_EQ(watcher_.shape.data[15], std::byte{16});
  const std::array<std::uint8_t, 4> second = {0, 1, 1, 1};
  send_shape({{}, protocol::kPointerLastPart, 1, 1U, 1U, 0U, 0U}, second);
  EXPECT_EQ(watcher_.shape.width, 1U);
  ASSERT_EQ(watcher_.shape.data.size(), 4U);
  EXPECT_EQ(watcher_.shape.data[1], std::byte{1}) << "the first one has made place";
}

TEST_F(VideoTest, pointer_of_several_parts_is_shown_when_it_is_whole) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  const std::vector<std::uint8_t> most(8192, 0x55), last(96 * 96 * 4 - 4 * 8192, 0xCC);  // no part has more than 8 KiB
  for (std::uint8_t part = 0; part < 4; ++part) send_shape({{}, part, 1, 96U, 96U, 3U, 4U}, most);
  EXPECT_TRUE(watcher_.shape.data.empty());
  send_shape({{}, protocol::kPointerLastPart, 1, 96U, 96U, 3U, 4U}, last);
  ASSERT_EQ(watcher_.shape.data.size(), 96U * 96 * 4);
  EXPECT_EQ(watcher_.shape.data.front(), std::byte{0x55});
  EXPECT_EQ(watcher_.shape.data.back(), std::byte{0xCC});
  EXPECT_EQ(watcher_.shape.hot_y, 4U);
  watcher_.shape = {};
  send_shape({{}, protocol::kPointerLastPart, 1, 2U, 2U, 0U, 0U}, std::array<std::uint8_t, 4>{});
  EXPECT_TRUE(watcher_.shape.data.empty()) << "a shape that ends before it is whole is none";
}

TEST_F(VideoTest, monochrome_pointers_are_coloured) {
  ASSERT_NE(negotiate(protocol::kVersion3_2), 0);
  // 9 pixels wide, so two bytes a line; AND, then XOR. Black, white, screen, screen, inverted, screen …
  const std::array<std::uint8_t, 4> data = {0b0011'1111, 0x80, 0b0100'1000, 0x00};
  send_shape({{}, protocol::kPointerLastPart, 0, 9U, 1U, 2U, 0U}, data);
  ASSERT_TRUE(watcher_.shape.is_argb);
  ASSERT_EQ(watcher_.shape.data.size(), 36U);
  std::array<le32, 9> pixels;
  std::memcpy(pixels.data(), watcher_.shape.data.data(), sizeof pixels);
  EXPECT_EQ(pixels[0], 0xFF000000U);
  EXPECT_EQ(pixels[1], 0xFFFFFFFFU);
  EXPECT_EQ(pixels[2], 0U);
  EXPECT_EQ(pixels[3], 0xFFFFFFFFU) << "a rim beside what inverts";
  EXPECT_EQ(pixels[4], 0xFF000000U);
  EXPECT_EQ(pixels[5], 0xFFFFFFFFU);
  EXPECT_EQ(pixels[8], 0U);
}

TEST_F(VideoTest, pointer_position_is_told_left_of_and_above_the_screen_too) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  send(MessageType::kPointerPosition, protocol::PointerPosition{{}, 1, 0, static_cast<std::uint32_t>(-3), 200U});
  guest_.run();
  EXPECT_TRUE(watcher_.pointer_is_visible);
  EXPECT_EQ(watcher_.pointer_x, -3);
  EXPECT_EQ(watcher_.pointer_y, 200);
  send(MessageType::kPointerPosition, protocol::PointerPosition{{}, 0, 0, 1U, 2U});
  guest_.run();
  EXPECT_FALSE(watcher_.pointer_is_visible);
}

TEST_F(VideoTest, pointer_larger_than_the_protocol_allows_takes_the_channel) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  send_shape({{}, protocol::kPointerLastPart, 1, 97U, 1U, 0U, 0U}, std::array<std::uint8_t, 4>{});
  EXPECT_TRUE(channel_->failure());
}

TEST_F(VideoTest, sixteen_bits_a_pixel_are_widened) {
  ASSERT_NE(negotiate(protocol::kVersion3_0), 0);
  send(MessageType::kVramLocation, protocol::VramLocation{{}, 5ULL, 1, kVram});
  EXPECT_EQ(reply<protocol::Ack>().context, 5U);
  send(MessageType::kSituationUpdate, protocol::SituationUpdate{{}, 6ULL, 1, 1, 0U, 16, 63U, 4U, 128U});
  guest_.run();
  EXPECT_EQ(watcher_.mode.depth, 16);
  ASSERT_TRUE(guest_.memory().write_object<std::uint16_t>({kVram + 3 * 128 + 62 * 2}, 0xF81F));
  EXPECT_EQ(video_.capture().value().pixels.back(), 0x00FF00FFU);
}

TEST_F(VideoTest, reset_switches_the_screen_off) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  set_mode(64, 48, 256);
  ASSERT_EQ(watcher_.mode.width, 64U);
  channel_->close();
  EXPECT_EQ(video_.mode().width, 64U) << "a driver that goes leaves its picture";
  video_.reset();
  EXPECT_EQ(watcher_.mode.width, 0U);
  EXPECT_EQ(video_.capture().error().code, ErrorCode::kNotFound);
  EXPECT_EQ(video_.inspect()["width"], 0);
}

TEST_F(VideoTest, saved_state_keeps_the_mode) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  set_mode(64, 48, 256);
  const auto state = video_.save().value();
  Video other(guest_.memory(), {});
  ASSERT_TRUE(other.restore(state));
  EXPECT_EQ(other.mode(), video_.mode());
  EXPECT_FALSE(other.restore(nlohmann::json::array()));
}

TEST_F(VideoTest, saved_state_keeps_the_pointer_for_who_looks_later) {
  ASSERT_NE(negotiate(protocol::kVersion3_5), 0);
  set_mode(64, 48, 256);
  send_shape({{}, protocol::kPointerLastPart, 1, 2U, 2U, 1U, 1U}, std::array<std::uint8_t, 16>{9, 8, 7});
  send(MessageType::kPointerPosition, protocol::PointerPosition{{}, 0, 0, 5U, 6U});
  guest_.run();
  auto state = nlohmann::json::from_cbor(nlohmann::json::to_cbor(video_.save().value()));
  Video other(guest_.memory(), {});
  ASSERT_TRUE(other.restore(state));
  Watcher later;
  other.set_observer(&later);
  EXPECT_EQ(later.mode, video_.mode());
  EXPECT_EQ(later.shape.data, watcher_.shape.data);
  EXPECT_EQ(later.shape.data.size(), 16U);
  EXPECT_FALSE(later.pointer_is_visible);
  EXPECT_EQ(later.pointer_y, 6);

  for (const auto& [field, value] : std::initializer_list<std::pair<const char*, nlohmann::json>>{
           {"width", 65}, {"width", 1000}, {"height", -1}, {"data", std::vector<int>(17)}, {"data", {256}}, {"x", "left"}, {"version", 2}}) {
    auto changed = state;
    changed["pointer"][field] = value;
    EXPECT_EQ(other.restore(changed).has_value(), std::string_view(field) == "width" && value == 65) << field << " " << value;
  }
  state.erase("pointer");
  EXPECT_TRUE(other.restore(state)) << "as an older build has saved it";
}

}  // namespace
}  // namespace bygone::devices::video
