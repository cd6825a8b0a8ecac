#include "seamless/agent_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <thread>

namespace bygone::seamless {
namespace {

using namespace std::chrono_literals;
using namespace spec::agent;  // NOLINT(google-build-using-namespace): the protocol's words are what these tests speak

/// An agent that answers with what a test says.
class FakeAgent : public testing::Test {
 protected:
  using Answers = std::function<std::vector<std::byte>(const Request&)>;

  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "bygone-client-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ + "/agent";
  }
  void TearDown() override {
    if (thread_.joinable()) thread_.join();
    std::filesystem::remove_all(folder_);
  }

  void serve(Answers answers) {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    std::memcpy(address.sun_path, path_.data(), path_.size());
    UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    ASSERT_EQ(listen(listener.get(), 1), 0);
    thread_ = std::thread([listener = std::move(listener), answers = std::move(answers)] {
      const UniqueFd peer(accept(listener.get(), nullptr, nullptr));
      FrameReader reader;
      std::byte buffer[4096];
      ssize_t got = 0;
      while ((got = read(peer.get(), buffer, sizeof(buffer))) > 0) {
        reader.append(std::span(buffer).first(static_cast<std::size_t>(got)));
        while (true) {
          const auto payload = reader.next();
          if (!payload || !*payload) break;
          const auto answer = answers(std::get<Request>(*decode_request(**payload)));
          if (send(peer.get(), answer.data(), answer.size(), MSG_NOSIGNAL) < 0) return;
        }
      }
    });
  }
  static std::vector<std::byte> reply(std::uint32_t id, ReplyBody body) { return *encode(Reply{id, std::move(body)}); }
  static std::vector<std::byte> hello(const Request& request) { return reply(request.id, HelloReply{1, "fake", "Test", true}); }

  std::string folder_;
  std::string path_;
  std::thread thread_;
};

TEST_F(FakeAgent, connect_greets) {
  serve(hello);
  const auto client = AgentClient::connect(path_, 5s);
  ASSERT_TRUE(client) << client.error().text();
  EXPECT_EQ((*client)->agent().system, "Test");
}

TEST_F(FakeAgent, connect_without_agent_says_where) {
  const auto client = AgentClient::connect(path_, 5s);
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(client.error().message, testing::HasSubstr(path_));
}

TEST_F(FakeAgent, other_version_is_refused) {
  serve([](const Request& request) { return reply(request.id, HelloReply{2, "new", "Test", true}); });
  const auto client = AgentClient::connect(path_, 5s);
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, ErrorCode::kUnsupported);
}

TEST_F(FakeAgent, silent_agent_is_given_up) {
  serve([](const Request&) { return std::vector<std::byte>(); });
  const auto client = AgentClient::connect(path_, 50ms);
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, ErrorCode::kBusy);
}

TEST_F(FakeAgent, answer_of_the_wrong_kind_or_number_is_an_error) {
  serve([](const Request& request) {
    if (std::holds_alternative<HelloRequest>(request.body)) return hello(request);
    if (std::holds_alternative<LogOffRequest>(request.body)) return reply(request.id, StartedReply{1});
    return reply(request.id + 5, DoneReply{});
  });
  const auto client = AgentClient::connect(path_, 5s);
  ASSERT_TRUE(client) << client.error().text();
  const auto wrong_kind = (*client)->log_off();
  ASSERT_FALSE(wrong_kind);
  EXPECT_EQ(wrong_kind.error().code, ErrorCode::kCorrupt);
  const auto wrong_number = (*client)->shut_down(false);
  ASSERT_FALSE(wrong_number);
  EXPECT_EQ(wrong_number.error().code, ErrorCode::kCorrupt);
}

TEST_F(FakeAgent, agent_errors_carry_their_text) {
  serve([](const Request& request) {
    if (std::holds_alternative<HelloRequest>(request.body)) return hello(request);
    return reply(request.id, ErrorReply{ReplyError::kNotFound, "no such thing"});
  });
  const auto client = AgentClient::connect(path_, 5s);
  ASSERT_TRUE(client) << client.error().text();
  const auto started = (*client)->start_program("x.desktop", {});
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(started.error().message, testing::HasSubstr("no such thing"));
}

TEST_F(FakeAgent, events_before_a_reply_are_kept_in_order) {
  serve([](const Request& request) {
    if (std::holds_alternative<HelloRequest>(request.body)) return hello(request);
    std::vector<std::byte> all = *encode(Event(WindowClosedEvent{1}));
    for (const auto& part : {*encode(Event(WindowClosedEvent{2})), reply(request.id, DoneReply{}), *encode(Event(WindowClosedEvent{3}))}) {
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  });
  const auto client = AgentClient::connect(path_, 5s);
  ASSERT_TRUE(client) << client.error().text();
  ASSERT_TRUE((*client)->watch());
  for (std::uint32_t expected = 1; expected <= 3; ++expected) {
    const auto event = (*client)->next_event(5s);
    ASSERT_TRUE(event) << event.error().text();
    ASSERT_TRUE(*event);
    EXPECT_EQ(std::get<WindowClosedEvent>(**event).window, expected);
  }
  const auto none = (*client)->next_event(10ms);
  ASSERT_TRUE(none);
  EXPECT_FALSE(*none);
}

}  // namespace
}  // namespace bygone::seamless
