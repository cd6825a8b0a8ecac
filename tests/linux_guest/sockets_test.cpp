// Programs on the host and in a Linux guest talk through AF_VSOCK.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <random>
#include <thread>

#include "devices/sockets/unix_socket.h"
#include "linux_guest.h"
#include "seamless/agent_client.h"

namespace bygone::tests {
namespace {

using namespace std::chrono_literals;

std::string random_text(std::size_t size) {
  std::mt19937_64 random(size);
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

/// Writes while it reads, as an echo needs it.
std::string through(const UniqueFd& socket, std::string_view text) {
  std::jthread writer([&] {
    write_all(socket, text);
    ::shutdown(socket.get(), SHUT_WR);
  });
  return read_all(socket, 240s);
}

TEST(SocketsOnLinux, socat_in_the_guest_echoes_what_the_host_sends) {
  LinuxGuest guest({.ports = {1234}});
  ASSERT_TRUE(guest.is_up());
  const UniqueFd server = guest.start("socat -t 60 VSOCK-LISTEN:1234,fork,backlog=64 EXEC:cat");
  UniqueFd socket;
  std::string echo;
  for (int i = 0; i < 50 && echo.empty(); ++i) echo = through(connect_to(guest.socket("guest-1234")), "hello");
  EXPECT_EQ(echo, "hello");
  const std::string much = random_text(16 << 20);
  EXPECT_TRUE(through(connect_to(guest.socket("guest-1234")), much) == much) << "16 MiB there and back";
  std::vector<std::jthread> many;
  std::atomic<int> right = 0;
  many.reserve(20);
  for (std::size_t i = 0; i < 20; ++i) {
    many.emplace_back([&, i] {
      const std::string text = random_text(10000 + i);
      if (through(connect_to(guest.socket("guest-1234")), text) == text) ++right;
    });
  }
  many.clear();
  EXPECT_EQ(right, 20) << "connections at the same time";
}

TEST(SocketsOnLinux, socat_in_the_guest_reaches_a_program_on_the_host) {
  LinuxGuest guest({});
  ASSERT_TRUE(guest.is_up());
  const auto listener = devices::sockets::listen_at(guest.socket("host-777"));
  ASSERT_TRUE(listener);
  const UniqueFd client = guest.start("echo question | socat -t 20 - VSOCK-CONNECT:2:777");
  UniqueFd accepted;
  for (int i = 0; i < 300 && !accepted; ++i) {
    accepted = UniqueFd(::accept(listener->get(), nullptr, nullptr));
    std::this_thread::sleep_for(50ms);
  }
  ASSERT_TRUE(accepted);
  EXPECT_EQ(read_all(accepted, 20s), "question\n");
  write_all(accepted, "answer\n");
  accepted.reset();
  EXPECT_EQ(read_all(client, 20s), "answer\nguest-status 0\n");
  EXPECT_THAT(guest.run("socat -T 5 - VSOCK-CONNECT:2:778 < /dev/null 2>&1 || true"), testing::HasSubstr("Connection timed out"));
}

TEST(SocketsOnLinux, the_agent_answers) {
  LinuxGuest guest({.ports = {0x4247}});
  ASSERT_TRUE(guest.is_up());
  guest.run("mkdir -p /usr/share/applications && printf '[Desktop Entry]\\nType=Application\\nName=Toucher\\nExec=touch /tmp/touched\\n' "
            "> /usr/share/applications/toucher.desktop");
  const UniqueFd agent = guest.start("bygone-agent --user root");
  Result<std::unique_ptr<seamless::AgentClient>> client = fail(ErrorCode::kNotFound, "not tried");
  for (int i = 0; i < 100 && !client; ++i) {
    client = seamless::AgentClient::connect(guest.socket("guest-16967").string(), 10s);
    if (!client) std::this_thread::sleep_for(100ms);
  }
  ASSERT_TRUE(client) << client.error().text();
  EXPECT_EQ((*client)->agent().version, spec::agent::kProtocolVersion);
  const auto programs = (*client)->list_programs();
  ASSERT_TRUE(programs) << programs.error().text();
  ASSERT_EQ(programs->size(), 1U);
  EXPECT_EQ(programs->front().name, "Toucher");
  const auto process = (*client)->start_program(programs->front().id, {});
  ASSERT_TRUE(process) << process.error().text();
  guest.run("for i in $(seq 100); do [ -e /tmp/touched ] && exit 0; sleep 0.1; done; exit 1");
  // A second connection beside the first, and both still work.
  const auto second = seamless::AgentClient::connect(guest.socket("guest-16967").string(), 10s);
  EXPECT_TRUE(second);
  EXPECT_TRUE((*client)->list_programs());
}

}  // namespace
}  // namespace bygone::tests
