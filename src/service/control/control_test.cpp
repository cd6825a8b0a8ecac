#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <filesystem>
#include <future>
#include <thread>

#include "service/control/client.h"
#include "service/control/key_codes.h"
#include "service/control/runtime_directory.h"
#include "service/control/server.h"

namespace bygone::service::control {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Message, bounds_are_held) {
  EXPECT_TRUE(parse_message(R"({"a": [1, {"b": 2}]})"));
  for (const std::string& bad : {std::string("[]"), std::string("{"), std::string("1"), std::string(), "{\"a\":" + std::string(20, '[') + std::string(20, ']') + "}",
                                 "{\"a\":\"" + std::string(kMaximumPacketBytes, 'x') + "\"}"}) {
    EXPECT_EQ(parse_message(bad).error().code, ErrorCode::kCorrupt) << bad.substr(0, 40);
  }
}

TEST(Request, every_kind_comes_back_as_it_went) {
  const std::vector<RequestBody> bodies = {
      request::Status{}, request::Pause{}, request::Resume{}, request::Reset{}, request::Save{}, request::Stop{true}, request::Inspect{}, request::Screenshot{},
      request::Type{"dir\n"}, request::Keys{{{.code = 0x53, .is_release = true, .is_e0 = true}}}, request::Pointer{1, 2, 3, -4, 5}, request::Click{7, 8, 1, 2},
      request::Resize{800, 600}, request::Eject{1, true}, request::Insert{1, "a.iso"}, request::Console{}, request::Watch{true, true}};
  ASSERT_EQ(bodies.size(), std::variant_size_v<RequestBody>);
  for (const RequestBody& body : bodies) {
    const json sent = to_json(Request{9, body});
    const auto parsed = parse_request(sent);
    ASSERT_TRUE(parsed) << sent;
    EXPECT_EQ(to_json(*parsed), sent);
  }
}

TEST(Request, what_is_missing_wrong_or_unknown_is_refused) {
  const auto code = [](const char* text) { return parse_request(json::parse(text)).error().code; };
  EXPECT_EQ(code(R"({"do": "status"})"), ErrorCode::kCorrupt);
  EXPECT_EQ(code(R"({"id": 1, "do": "fly"})"), ErrorCode::kUnsupported);
  EXPECT_EQ(code(R"({"id": 1, "do": "pointer", "x": 40000, "y": 0})"), ErrorCode::kCorrupt);
  EXPECT_EQ(code(R"({"id": 1, "do": "keys", "keys": [{"code": 200}]})"), ErrorCode::kCorrupt);
  EXPECT_EQ(code(R"({"id": 1, "do": "type"})"), ErrorCode::kCorrupt);
  EXPECT_EQ(code(R"({"id": -1, "do": "status"})"), ErrorCode::kCorrupt);
}

TEST(EventMessage, every_kind_comes_back_as_it_went) {
  const std::vector<Event> events = {ScreenMode{800, 600, 3200, 32, 4096}, ScreenDamage{{{1, 2, 3, 4}}}, PointerShape{32, 32, 1, 2, true}, PointerMoved{true, -5, 6},
                                     StateChanged{State::kPaused}, Ended{"crashed", "why"}, LogLine{"info", "cpu", "text"}};
  ASSERT_EQ(events.size(), std::variant_size_v<Event>);
  for (const Event& event : events) {
    const auto parsed = parse_event(to_json(event));
    ASSERT_TRUE(parsed && *parsed) << to_json(event);
    EXPECT_EQ(to_json(**parsed), to_json(event));
  }
  EXPECT_EQ(parse_event({{"event", "news"}}).value(), std::nullopt);
  EXPECT_FALSE(parse_event({{"event", "screen-damage"}, {"areas", json::array({json::array({0, 0, 1})})}}));
  EXPECT_FALSE(parse_event({{"event", "screen-mode"}, {"width", 800}, {"height", 600}, {"stride", 1}, {"depth", 32}, {"offset", 0}}));
}

TEST(KeyCodes, text_is_what_a_person_would_press) {
  const auto keys = keys_for_text("aB\n");
  ASSERT_TRUE(keys);
  std::vector<int> codes;
  for (const Key& key : *keys) codes.push_back(key.is_release ? -key.code : key.code);
  EXPECT_THAT(codes, ElementsAre(0x1E, -0x1E, 0x2A, 0x30, -0x30, -0x2A, 0x1C, -0x1C));
  EXPECT_EQ(keys_for_text("gr\xC3\xBC\xC3\x9F").error().code, ErrorCode::kUnsupported);
}

TEST(KeyCodes, every_printable_character_has_a_key) {
  for (char c = 0x20; c < 0x7F; ++c) EXPECT_TRUE(keys_for_text(std::string(1, c))) << c;
}

TEST(KeyCodes, combinations_are_released_in_reverse) {
  const auto keys = keys_for_combination("ctrl-alt-del");
  ASSERT_TRUE(keys);
  std::vector<int> codes;
  for (const Key& key : *keys) codes.push_back(key.is_release ? -key.code : key.code);
  EXPECT_THAT(codes, ElementsAre(0x1D, 0x38, 0x53, -0x53, -0x38, -0x1D));
  EXPECT_TRUE((*keys)[2].is_e0);
  EXPECT_EQ(keys_for_combination("ctrl-shift--")->size(), 6U);
  EXPECT_EQ(keys_for_combination("ctrl-nokey").error().code, ErrorCode::kInvalidArgument);
}

/// Answers Status with a field, Screenshot with a file, Pause with an error, keeps Save's reply, and drops the others' on the floor.
class FakeHandler final : public Handler {
 public:
  void handle(RequestBody body, std::vector<UniqueFd>, Reply reply) override {
    if (std::holds_alternative<request::Status>(body)) return reply.done({{"state", "running"}});
    if (std::holds_alternative<request::Pause>(body)) return reply.refuse({ErrorCode::kBusy, "not now", "wait"});
    if (std::holds_alternative<request::Save>(body)) {
      kept.push_back(std::move(reply));
      return;
    }
    if (!std::holds_alternative<request::Screenshot>(body)) return;
    auto file = sealed_file(std::as_bytes(std::span("pixels")));
    ASSERT_TRUE(file);
    reply.done({}, std::move(*file));
  }
  ScreenNow screen() override {
    ScreenNow now{.mode = {64, 32, 256, 32, 0}, .mode_file = sealed_file({}).value_or(UniqueFd()), .pointer = {1, 1, 0, 0, true}, .pointer_file = {}, .place = {true, 7, 8}};
    if (has_pointer) now.pointer_file = sealed_file(std::as_bytes(std::span("dot"))).value_or(UniqueFd());
    return now;
  }
  std::atomic<bool> has_pointer = false;
  std::vector<Reply> kept;
};

class ControlTest : public testing::Test {
 protected:
  ControlTest() {
    std::string pattern = "/tmp/bygone-control-XXXXXX";
    root_ = ::mkdtemp(pattern.data());
    ::setenv("XDG_RUNTIME_DIR", root_.c_str(), 1);
    EXPECT_TRUE(make_runtime_directory("Test"));
    loop_ = EventLoop::create().value();
    server_ = Server::create(*loop_, "Test", control_socket("Test").string(), handler_, Log()).value();
    thread_ = std::thread([this] { loop_->run(); });
  }
  ~ControlTest() override {
    loop_->stop();
    thread_.join();
    handler_.kept.clear();
    server_.reset();
    std::filesystem::remove_all(root_);
  }
  /// Returns when the work is done: until then no client of this thread reads.
  template <typename Work>
  void on_loop(Work work) {
    std::promise<void> done;
    loop_->post([&] {
      work(*server_);
      done.set_value();
    });
    done.get_future().wait();
  }

  std::string root_;
  FakeHandler handler_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Server> server_;
  std::thread thread_;
};

TEST_F(ControlTest, replies_errors_and_files_arrive) {
  auto client = Client::connect("Test").value();
  EXPECT_EQ(client->machine(), "Test");
  EXPECT_EQ(client->process(), ::getpid());
  EXPECT_EQ(client->ask(request::Status{})->message["state"], "running");
  const auto refused = client->ask(request::Pause{});
  EXPECT_EQ(refused.error().code, ErrorCode::kBusy);
  EXPECT_EQ(refused.error().hint, "wait");
  const auto picture = client->ask(request::Screenshot{});
  ASSERT_EQ(picture->fds.size(), 1U);
  EXPECT_EQ(read_sealed_file(picture->fds[0].get(), 100)->size(), sizeof "pixels");
  EXPECT_EQ(read_sealed_file(picture->fds[0].get(), 1).error().code, ErrorCode::kExhausted);
  EXPECT_EQ(client->ask(request::Reset{}).error().code, ErrorCode::kInternal);  // the handler forgot it
}

TEST_F(ControlTest, a_reply_may_come_late_and_not_at_all_hurts_nobody) {
  {
    auto client = Client::connect("Test", std::chrono::milliseconds(50)).value();
    EXPECT_EQ(client->ask(request::Save{}).error().code, ErrorCode::kBusy);
  }
  auto client = Client::connect("Test").value();
  EXPECT_TRUE(client->ask(request::Status{}));
}

TEST_F(ControlTest, a_watcher_gets_the_screen_and_others_do_not) {
  auto watcher = Client::connect("Test").value();
  auto other = Client::connect("Test").value();
  ASSERT_TRUE(watcher->ask(request::Watch{.screen = true}));
  ASSERT_TRUE(other->ask(request::Status{}));
  const auto mode = watcher->next_event(std::chrono::seconds(10));
  ASSERT_TRUE(mode && *mode);
  EXPECT_EQ(std::get<ScreenMode>((*mode)->event).stride, 256U);
  EXPECT_EQ((*mode)->fds.size(), 1U);
  const auto all = watcher->next_event(std::chrono::seconds(10));
  EXPECT_THAT(std::get<ScreenDamage>((*all)->event).areas, ElementsAre(Area{0, 0, 64, 32}));
  on_loop([](Server& server) {
    server.damage({1, 2, 3, 4});
    server.tell(StateChanged{State::kPaused});
  });
  const auto damage = watcher->next_event(std::chrono::seconds(10));
  EXPECT_THAT(std::get<ScreenDamage>((*damage)->event).areas, ElementsAre(Area{1, 2, 3, 4}));
  const auto state = other->next_event(std::chrono::seconds(10));
  EXPECT_EQ(std::get<StateChanged>((*state)->event).state, State::kPaused);
}

TEST_F(ControlTest, a_watcher_that_comes_later_gets_the_pointer_as_it_is) {
  handler_.has_pointer = true;
  auto watcher = Client::connect("Test").value();
  ASSERT_TRUE(watcher->ask(request::Watch{.screen = true}));
  std::optional<PointerShape> shape;
  for (;;) {
    auto event = watcher->next_event(std::chrono::seconds(10));
    ASSERT_TRUE(event && *event);
    if (const auto* told = std::get_if<PointerShape>(&(*event)->event)) {
      shape = *told;
      ASSERT_EQ((*event)->fds.size(), 1U);
      EXPECT_EQ(read_sealed_file((*event)->fds[0].get(), 100).value().size(), 4U);
    }
    if (const auto* moved = std::get_if<PointerMoved>(&(*event)->event)) {
      EXPECT_EQ(moved->x, 7);
      break;
    }
  }
  EXPECT_TRUE(shape && shape->width == 1);
}

TEST_F(ControlTest, a_watcher_that_sleeps_gets_all_damage_in_bounded_messages) {
  auto watcher = Client::connect("Test").value();
  ASSERT_TRUE(watcher->ask(request::Watch{.screen = true}));
  constexpr int kRounds = 20000;
  on_loop([](Server& server) {
    for (int i = 0; i < kRounds; ++i) server.damage({i % 1000, i % 700, i % 1000 + 1, i % 700 + 1});
    server.damage({5, 5, 6, 6});
    server.tell(StateChanged{State::kPaused});
  });
  int messages = 0;
  Area seen{16384, 16384, 0, 0};
  for (bool is_paused = false; !is_paused || seen.right < 1000;) {
    const auto event = watcher->next_event(std::chrono::seconds(10));
    ASSERT_TRUE(event && *event);
    is_paused = is_paused || std::holds_alternative<StateChanged>((*event)->event);
    if (const auto* damage = std::get_if<ScreenDamage>(&(*event)->event)) {
      ++messages;
      for (const Area& area : damage->areas) seen = {std::min(seen.left, area.left), std::min(seen.top, area.top), std::max(seen.right, area.right), std::max(seen.bottom, area.bottom)};
    }
  }
  EXPECT_LT(messages, kRounds / 10);  // what the socket held, and what was gathered since
  EXPECT_EQ(seen.left, 0);
}

TEST_F(ControlTest, nonsense_ends_its_connection_only) {
  UniqueFd raw(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  control_socket("Test").string().copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::connect(raw.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_TRUE(receive_packet(raw.get()));  // the greeting
  ASSERT_GT(::send(raw.get(), "\x00\xff{", 3, 0), 0);
  EXPECT_EQ(receive_packet(raw.get()).error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(Client::connect("Test").value()->ask(request::Status{}));
}

TEST_F(ControlTest, what_does_not_run_is_not_found) {
  const auto client = Client::connect("Nobody");
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(client.error().message, HasSubstr("\"Nobody\" is not running"));
}

TEST_F(ControlTest, the_folders_are_closed_to_others) {
  namespace fs = std::filesystem;
  for (const fs::path& folder : {runtime_root(), runtime_directory("Test"), guest_sockets("Test")}) {
    EXPECT_EQ(fs::status(folder).permissions(), fs::perms::owner_all) << folder;
  }
  fs::remove_all(runtime_directory("Test") / "sockets");
  fs::create_directory_symlink("/tmp", runtime_directory("Test") / "sockets");
  EXPECT_EQ(make_runtime_directory("Test").error().code, ErrorCode::kPermissionDenied);
}

}  // namespace
}  // namespace bygone::service::control
