#include "chipset/char_backend.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <filesystem>
#include <fstream>

namespace bygone::chipset {
namespace {

using namespace std::chrono_literals;

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

class CharBackendTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/bygone-serial-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    loop_ = std::move(*EventLoop::create());
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  void collect(CharBackend& backend) {
    backend.set_input_handler([this](std::span<const std::byte> data) { input_.append(reinterpret_cast<const char*>(data.data()), data.size()); });
  }
  void run_until_input() {
    for (int i = 0; i < 200 && input_.empty(); ++i) loop_->run_once(50ms);
  }
  static std::string read_some(int fd) {
    std::array<char, 64> buffer;
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    return count > 0 ? std::string(buffer.data(), static_cast<std::size_t>(count)) : std::string();
  }
  std::string directory_;
  std::unique_ptr<EventLoop> loop_;
  std::string input_;
};

TEST_F(CharBackendTest, file_is_appended_to) {
  const std::string path = directory_ + "/log";
  for (const char* text : {"one ", "two"}) (*create_file_backend(path))->write(bytes(text));
  std::string content;
  std::getline(std::ifstream(path), content);
  EXPECT_EQ(content, "one two");
  EXPECT_EQ(create_file_backend("/nonexistent/log").error().code, ErrorCode::kNotFound);
}

TEST_F(CharBackendTest, console_carries_both_ways_and_survives_the_end_of_its_input) {
  int in[2], out[2];
  ASSERT_EQ(::pipe(in), 0);
  ASSERT_EQ(::pipe(out), 0);
  auto backend = std::move(*create_console_backend(*loop_, in[0], out[1]));
  collect(*backend);
  backend->write(bytes("prompt"));
  EXPECT_EQ(read_some(out[0]), "prompt");
  ASSERT_EQ(::write(in[1], "ls", 2), 2);
  run_until_input();
  EXPECT_EQ(input_, "ls");
  ::close(in[1]);
  loop_->run_once(50ms);
  backend->write(bytes("still"));
  EXPECT_EQ(read_some(out[0]), "still");
  backend.reset();
  for (const int fd : {in[0], out[0], out[1]}) ::close(fd);
}

TEST_F(CharBackendTest, terminal_pair_carries_both_ways) {
  std::string path;
  auto backend = std::move(*create_pty_backend(*loop_, path));
  collect(*backend);
  const UniqueFd other(::open(path.c_str(), O_RDWR | O_NOCTTY));
  ASSERT_TRUE(other) << path;
  backend->write(bytes("hi"));
  EXPECT_EQ(read_some(other.get()), "hi");
  ASSERT_EQ(::write(other.get(), "yo", 2), 2);
  run_until_input();
  EXPECT_EQ(input_, "yo");
}

TEST_F(CharBackendTest, socket_serves_its_owner_only_and_one_client_after_another) {
  const std::string path = directory_ + "/com1";
  auto backend = std::move(*create_socket_backend(*loop_, path));
  collect(*backend);
  struct stat file = {};
  ASSERT_EQ(::stat(path.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777U, 0600U);
  backend->write(bytes("nobody listens"));
  for (int round = 0; round < 2; ++round) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, path.size());
    UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
    ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    input_.clear();
    ASSERT_EQ(::write(client.get(), "in", 2), 2);
    run_until_input();
    EXPECT_EQ(input_, "in");
    backend->write(bytes("out"));
    EXPECT_EQ(read_some(client.get()), "out");
    client.reset();
    loop_->run_once(50ms);
  }
  backend.reset();
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(CharBackendTest, slow_reader_still_gets_everything) {
  std::string path;
  auto backend = std::move(*create_pty_backend(*loop_, path));
  const UniqueFd other(::open(path.c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK));
  ASSERT_TRUE(other) << path;
  std::string expected;
  for (int i = 0; i < 4000; ++i) expected += fmt::format("line {:5}\n", i);  // far more than a terminal holds
  for (std::size_t i = 0; i < expected.size(); i += 11) backend->write(bytes(expected).subspan(i, 11));
  std::string got;
  for (int i = 0; i < 20'000 && got.size() < expected.size(); ++i) {
    got += read_some(other.get());
    loop_->run_once(0ms);
  }
  EXPECT_TRUE(got == expected) << got.size() << " of " << expected.size() << " characters";
}

TEST_F(CharBackendTest, socket_does_not_replace_a_file) {
  const std::string path = directory_ + "/precious";
  std::ofstream(path) << "data";
  EXPECT_EQ(create_socket_backend(*loop_, path).error().code, ErrorCode::kAlreadyExists);
  EXPECT_TRUE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace bygone::chipset
