#include "spec/agent/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "spec/agent/cbor.h"

namespace bygone::spec::agent {
namespace {

std::vector<std::byte> payload_of(const std::vector<std::byte>& frame) { return {frame.begin() + 4, frame.end()}; }

std::vector<std::byte> bytes(std::initializer_list<int> values) {
  std::vector<std::byte> result;
  for (const int value : values) result.push_back(static_cast<std::byte>(value));
  return result;
}

Window a_window() {
  return {.id = 0x1400003, .process = 4711, .title = "Ümläut – Welcome.pdf", .class_name = "sumatrapdf.exe",
          .instance_name = "sumatrapdf.exe", .x = -12, .y = 34, .width = 640, .height = 480, .is_active = true,
          .is_minimized = false};
}

class RequestRoundTrip : public testing::TestWithParam<RequestBody> {};
TEST_P(RequestRoundTrip, decode_returns_what_was_encoded) {
  const Request request{77, GetParam()};
  const auto frame = encode(request);
  ASSERT_TRUE(frame) << frame.error().text();
  const auto decoded = decode_request(payload_of(*frame));
  ASSERT_TRUE(decoded) << decoded.error().text();
  ASSERT_TRUE(std::holds_alternative<Request>(*decoded));
  EXPECT_EQ(std::get<Request>(*decoded), request);
}
INSTANTIATE_TEST_SUITE_P(every_request, RequestRoundTrip,
                         testing::Values(HelloRequest{7}, ListProgramsRequest{}, ProgramIconRequest{"a.desktop", 32},
                                         StartProgramRequest{"a.desktop", {}},
                                         StartProgramRequest{"", {"wine", "C:\\Program Files\\x.exe", "ä ö"}},
                                         ListWindowsRequest{}, WatchRequest{}, LogOffRequest{}, ShutdownRequest{true}, SetScreenRequest{1367, 769}));

class ReplyRoundTrip : public testing::TestWithParam<ReplyBody> {};
TEST_P(ReplyRoundTrip, decode_returns_what_was_encoded) {
  const Reply reply{4000000000, GetParam()};
  const auto frame = encode(reply);
  ASSERT_TRUE(frame) << frame.error().text();
  const auto decoded = decode_from_agent(payload_of(*frame));
  ASSERT_TRUE(decoded) << decoded.error().text();
  ASSERT_TRUE(std::holds_alternative<Reply>(*decoded));
  EXPECT_EQ(std::get<Reply>(*decoded), reply);
}
INSTANTIATE_TEST_SUITE_P(every_reply, ReplyRoundTrip,
                         testing::Values(ErrorReply{ReplyError::kNoDisplay, "nobody is logged on"}, DoneReply{},
                                         HelloReply{1, "0.1.0", "Debian GNU/Linux 12", true},
                                         ProgramsReply{{{"a.desktop", "A", "", false}, {"b.desktop", "B", "second", true}}},
                                         ProgramsReply{}, IconReply{"image/png", bytes({0x89, 'P', 'N', 'G', 0, 255})},
                                         StartedReply{99}, WindowsReply{{a_window(), Window{}}}));

class EventRoundTrip : public testing::TestWithParam<Event> {};
TEST_P(EventRoundTrip, decode_returns_what_was_encoded) {
  const auto frame = encode(GetParam());
  ASSERT_TRUE(frame) << frame.error().text();
  const auto decoded = decode_from_agent(payload_of(*frame));
  ASSERT_TRUE(decoded) << decoded.error().text();
  ASSERT_TRUE(std::holds_alternative<Event>(*decoded));
  EXPECT_EQ(std::get<Event>(*decoded), GetParam());
}
INSTANTIATE_TEST_SUITE_P(every_event, EventRoundTrip,
                         testing::Values(Event(WindowOpenedEvent{a_window()}), Event(WindowChangedEvent{a_window()}),
                                         Event(WindowClosedEvent{5}), Event(ProgramEndedEvent{12, -9})));

TEST(agent_message, hello_has_the_documented_bytes) {
  const auto frame = encode(Request{1, HelloRequest{1}});
  ASSERT_TRUE(frame);
  EXPECT_EQ(*frame, bytes({0x17, 0x00, 0x00, 0x00,                                    // 23 bytes follow
                           0xA3,                                                      // a map of three
                           0x62, 'i', 'd', 0x01,                                      // "id": 1
                           0x62, 'd', 'o', 0x65, 'h', 'e', 'l', 'l', 'o',             // "do": "hello"
                           0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 0x01}));          // "version": 1
}

TEST(agent_message, unknown_request_is_refused_with_its_id) {
  const auto payload = encode_cbor(CborValue(CborMap{{"id", CborValue(std::uint64_t{9})}, {"do", CborValue(std::string("fly"))}}));
  const auto decoded = decode_request(payload);
  ASSERT_TRUE(decoded);
  const auto& refused = std::get<RefusedRequest>(*decoded);
  EXPECT_EQ(refused.id, 9U);
  EXPECT_EQ(refused.reply.code, ReplyError::kUnknownRequest);
  EXPECT_THAT(refused.reply.text, testing::HasSubstr("fly"));
}

TEST(agent_message, missing_field_is_refused_and_named) {
  const auto payload =
      encode_cbor(CborValue(CborMap{{"id", CborValue(std::uint64_t{9})}, {"do", CborValue(std::string("shutdown"))}}));
  const auto decoded = decode_request(payload);
  ASSERT_TRUE(decoded);
  const auto& refused = std::get<RefusedRequest>(*decoded);
  EXPECT_EQ(refused.reply.code, ReplyError::kBadRequest);
  EXPECT_THAT(refused.reply.text, testing::HasSubstr("restart"));
}

TEST(agent_message, unknown_keys_are_passed_over) {
  const auto payload = encode_cbor(CborValue(CborMap{{"id", CborValue(std::uint64_t{9})},
                                                     {"later", CborValue(CborArray{CborValue(), CborValue(true)})},
                                                     {"do", CborValue(std::string("watch"))}}));
  const auto decoded = decode_request(payload);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(std::get<Request>(*decoded), (Request{9, WatchRequest{}}));
}

TEST(agent_message, request_without_id_ends_the_connection) {
  const auto payload = encode_cbor(CborValue(CborMap{{"do", CborValue(std::string("watch"))}}));
  EXPECT_FALSE(decode_request(payload));
  EXPECT_FALSE(decode_request(bytes({0x01})));
  EXPECT_FALSE(decode_request({}));
}

TEST(agent_message, bounds_hold_when_writing_and_reading) {
  EXPECT_FALSE(encode(Request{1, StartProgramRequest{std::string(kMaximumTextSize + 1, 'a'), {}}}));
  EXPECT_TRUE(encode(Request{1, StartProgramRequest{std::string(kMaximumTextSize, 'a'), {}}}));
  EXPECT_FALSE(encode(Request{1, StartProgramRequest{std::string("a\0b", 3), {}}}));
  EXPECT_FALSE(encode(Request{1, StartProgramRequest{"", std::vector<std::string>(kMaximumArguments + 1)}}));
  const auto long_title = encode_cbor(CborValue(CborMap{{"id", CborValue(std::uint64_t{1})},
                                                        {"do", CborValue(std::string(kMaximumTextSize + 1, 'x'))}}));
  EXPECT_FALSE(decode_request(long_title));
}

TEST(agent_message, unknown_error_code_is_a_failure_with_its_text) {
  const auto payload = encode_cbor(CborValue(CborMap{{"id", CborValue(std::uint64_t{3})},
                                                     {"reply", CborValue(std::string("error"))},
                                                     {"code", CborValue(std::string("on-fire"))},
                                                     {"text", CborValue(std::string("help"))}}));
  const auto decoded = decode_from_agent(payload);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(std::get<Reply>(*decoded), (Reply{3, ErrorReply{ReplyError::kFailed, "help"}}));
}

TEST(agent_message, unknown_event_is_passed_over) {
  const auto decoded = decode_from_agent(encode_cbor(CborValue(CborMap{{"event", CborValue(std::string("eclipse"))}})));
  ASSERT_TRUE(decoded);
  EXPECT_TRUE(std::holds_alternative<UnknownEvent>(*decoded));
  EXPECT_FALSE(decode_from_agent(encode_cbor(CborValue(CborMap{{"event", CborValue(true)}}))));
}

TEST(agent_frame_reader, returns_messages_from_any_pieces) {
  std::vector<std::byte> stream;
  for (std::uint32_t id = 0; id < 3; ++id) {
    const auto frame = encode(Request{id, WatchRequest{}});
    ASSERT_TRUE(frame);
    stream.insert(stream.end(), frame->begin(), frame->end());
  }
  for (std::size_t piece = 1; piece <= stream.size(); ++piece) {
    FrameReader reader;
    std::vector<std::uint32_t> seen;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      reader.append(std::span(stream).subspan(at, std::min(piece, stream.size() - at)));
      while (true) {
        const auto payload = reader.next();
        ASSERT_TRUE(payload);
        if (!*payload) break;
        const auto request = decode_request(**payload);
        ASSERT_TRUE(request);
        seen.push_back(std::get<Request>(*request).id);
      }
    }
    EXPECT_THAT(seen, testing::ElementsAre(0, 1, 2)) << "in pieces of " << piece;
  }
}

TEST(agent_frame_reader, refuses_lengths_out_of_bounds) {
  FrameReader zero;
  zero.append(bytes({0, 0, 0, 0}));
  EXPECT_FALSE(zero.next());
  FrameReader large;
  large.append(bytes({1, 0, 0x10, 0}));
  EXPECT_FALSE(large.next());
  FrameReader largest;
  largest.append(bytes({0, 0, 0x10, 0}));
  const auto nothing_yet = largest.next();
  ASSERT_TRUE(nothing_yet);
  EXPECT_FALSE(*nothing_yet);
}

TEST(agent_cbor, refuses_what_the_protocol_does_not_use) {
  EXPECT_FALSE(decode_cbor({}));
  EXPECT_FALSE(decode_cbor(bytes({0xC0, 0x00})));                    // tag
  EXPECT_FALSE(decode_cbor(bytes({0xF9, 0x3C, 0x00})));              // half float
  EXPECT_FALSE(decode_cbor(bytes({0x9F, 0xFF})));                    // indefinite array
  EXPECT_FALSE(decode_cbor(bytes({0x1C})));                          // reserved
  EXPECT_FALSE(decode_cbor(bytes({0x00, 0x00})));                    // two values
  EXPECT_FALSE(decode_cbor(bytes({0x62, 'a'})));                     // truncated text
  EXPECT_FALSE(decode_cbor(bytes({0xA1, 0x01, 0x01})));              // key is no text
  EXPECT_FALSE(decode_cbor(bytes({0xA2, 0x61, 'a', 1, 0x61, 'a', 2})));  // a key twice
  EXPECT_FALSE(decode_cbor(bytes({0x3B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})));
  EXPECT_FALSE(decode_cbor(bytes({0x9B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})));  // an array of 2^64-1
}

TEST(agent_cbor, depth_is_bounded) {
  const std::vector<std::byte> deep(100000, std::byte{0x81});
  const auto refused = decode_cbor(deep);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kExhausted);
  auto allowed = std::vector<std::byte>(kMaximumCborDepth, std::byte{0x81});
  allowed.push_back(std::byte{0x00});
  EXPECT_TRUE(decode_cbor(allowed));
}

TEST(agent_cbor, number_of_items_is_bounded) {
  auto many = bytes({0x9A, 0x00, 0x01, 0x00, 0x01});
  many.resize(many.size() + 65537, std::byte{0xF6});
  const auto refused = decode_cbor(many);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kExhausted);
}

TEST(agent_cbor, numbers_keep_their_value_at_every_size) {
  for (const std::uint64_t number :
       std::vector<std::uint64_t>{0, 23, 24, 255, 256, 65535, 65536, 4294967295, 4294967296, ~std::uint64_t{0}}) {
    const auto decoded = decode_cbor(encode_cbor(CborValue(std::uint64_t{number})));
    ASSERT_TRUE(decoded);
    ASSERT_NE(decoded->as<std::uint64_t>(), nullptr);
    EXPECT_EQ(*decoded->as<std::uint64_t>(), number);
  }
  for (const std::int64_t number :
       std::vector<std::int64_t>{-1, -24, -25, -256, -257, -65537, -2147483648, INT64_MIN + 1, INT64_MIN}) {
    const auto decoded = decode_cbor(encode_cbor(CborValue(std::int64_t{number})));
    ASSERT_TRUE(decoded);
    ASSERT_NE(decoded->as<std::int64_t>(), nullptr);
    EXPECT_EQ(*decoded->as<std::int64_t>(), number);
  }
}

}  // namespace
}  // namespace bygone::spec::agent
