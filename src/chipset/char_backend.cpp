#include "chipset/char_backend.h"

#include <fcntl.h>
#include <pty.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>

#include <array>
#include <mutex>

namespace bygone::chipset {

namespace {

using InputHandler = std::function<void(std::span<const std::byte>)>;

/// Writes everything; gives up when the descriptor would block or is broken.
void write_all(int fd, std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t written = ::write(fd, data.data(), data.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    data = data.subspan(static_cast<std::size_t>(written));
  }
}

/// The input handler, which another thread may take away while it is being called.
class Input {
 public:
  void set(InputHandler handler) {
    const std::lock_guard lock(mutex_);
    handler_ = std::move(handler);
  }
  void deliver(std::span<const std::byte> data) {
    const std::lock_guard lock(mutex_);
    if (handler_) handler_(data);
  }

 private:
  std::mutex mutex_;
  InputHandler handler_;
};

class ConsoleBackend final : public CharBackend {
 public:
  ConsoleBackend(EventLoop& loop, int input, int output) : loop_(loop), input_fd_(input), output_fd_(output) {}
  ~ConsoleBackend() override { stop_watching(); }

  Result<void> start() {
    if (input_fd_ < 0) return {};
    // A plain file or /dev/null cannot be watched: then there is simply no input.
    if (const auto watched = loop_.watch(input_fd_, EPOLLIN, [this](std::uint32_t) { on_input(); }); !watched) input_fd_ = -1;
    return {};
  }
  void write(std::span<const std::byte> data) override { write_all(output_fd_, data); }
  void set_input_handler(InputHandler handler) override { input_.set(std::move(handler)); }

 private:
  void on_input() {
    std::array<std::byte, 256> buffer;
    const ssize_t count = ::read(input_fd_, buffer.data(), buffer.size());
    if (count > 0) {
      input_.deliver(std::span(buffer).first(static_cast<std::size_t>(count)));
    } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
      stop_watching();
    }
  }
  void stop_watching() {
    if (input_fd_ >= 0) loop_.unwatch(input_fd_);
    input_fd_ = -1;
  }

  EventLoop& loop_;
  int input_fd_;
  int output_fd_;
  Input input_;
};

class FileBackend final : public CharBackend {
 public:
  explicit FileBackend(UniqueFd file) : file_(std::move(file)) {}
  void write(std::span<const std::byte> data) override { write_all(file_.get(), data); }
  void set_input_handler(InputHandler) override {}

 private:
  UniqueFd file_;
};

class PtyBackend final : public CharBackend {
 public:
  // The other end stays open here too, so that the pair survives readers that come and go.
  PtyBackend(EventLoop& loop, UniqueFd primary, UniqueFd secondary)
      : loop_(loop), primary_(std::move(primary)), secondary_(std::move(secondary)) {}
  ~PtyBackend() override { loop_.unwatch(primary_.get()); }

  Result<void> start() {
    return loop_.watch(primary_.get(), EPOLLIN, [this](std::uint32_t) {
      std::array<std::byte, 256> buffer;
      const ssize_t count = ::read(primary_.get(), buffer.data(), buffer.size());
      if (count > 0) input_.deliver(std::span(buffer).first(static_cast<std::size_t>(count)));
    });
  }
  void write(std::span<const std::byte> data) override { write_all(primary_.get(), data); }
  void set_input_handler(InputHandler handler) override { input_.set(std::move(handler)); }

 private:
  EventLoop& loop_;
  UniqueFd primary_;
  UniqueFd secondary_;
  Input input_;
};

class SocketBackend final : public CharBackend {
 public:
  SocketBackend(EventLoop& loop, UniqueFd listener, std::string path)
      : loop_(loop), listener_(std::move(listener)), path_(std::move(path)) {}
  ~SocketBackend() override {
    loop_.unwatch(listener_.get());
    drop_client();
    ::unlink(path_.c_str());
  }

  Result<void> start() {
    return loop_.watch(listener_.get(), EPOLLIN, [this](std::uint32_t) { on_connection(); });
  }
  void write(std::span<const std::byte> data) override {
    const std::lock_guard lock(mutex_);
    while (client_ && !data.empty()) {
      const ssize_t sent = ::send(client_.get(), data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent <= 0) return;  // slow or gone: the loop notices a hang-up
      data = data.subspan(static_cast<std::size_t>(sent));
    }
  }
  void set_input_handler(InputHandler handler) override { input_.set(std::move(handler)); }

 private:
  void on_connection() {
    UniqueFd accepted(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!accepted || client_) return;  // a second client is turned away
    const int fd = accepted.get();
    if (!loop_.watch(fd, EPOLLIN | EPOLLRDHUP, [this](std::uint32_t) { on_input(); })) return;
    const std::lock_guard lock(mutex_);
    client_ = std::move(accepted);
  }
  void on_input() {
    std::array<std::byte, 256> buffer;
    const ssize_t count = ::recv(client_.get(), buffer.data(), buffer.size(), 0);
    if (count > 0) {
      input_.deliver(std::span(buffer).first(static_cast<std::size_t>(count)));
    } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
      drop_client();
    }
  }
  void drop_client() {
    if (!client_) return;
    loop_.unwatch(client_.get());
    const std::lock_guard lock(mutex_);
    client_.reset();
  }

  EventLoop& loop_;
  UniqueFd listener_;
  std::string path_;
  std::mutex mutex_;
  UniqueFd client_;  // changed on the loop's thread with mutex_ held
  Input input_;
};

}  // namespace

Result<std::unique_ptr<CharBackend>> create_console_backend(EventLoop& loop, int input, int output) {
  auto backend = std::make_unique<ConsoleBackend>(loop, input, output);
  BYGONE_CHECK(backend->start());
  return backend;
}

Result<std::unique_ptr<CharBackend>> create_file_backend(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file) return fail_errno(errno, "opening serial output " + path);
  return std::make_unique<FileBackend>(std::move(file));
}

Result<std::unique_ptr<CharBackend>> create_pty_backend(EventLoop& loop, std::string& path) {
  int primary = -1, secondary = -1;
  if (::openpty(&primary, &secondary, nullptr, nullptr, nullptr) != 0) return fail_errno(errno, "creating a pseudo-terminal");
  UniqueFd first(primary), second(secondary);
  termios settings = {};
  if (::tcgetattr(secondary, &settings) == 0) {
    ::cfmakeraw(&settings);
    ::tcsetattr(secondary, TCSANOW, &settings);
  }
  ::fcntl(primary, F_SETFD, FD_CLOEXEC);
  ::fcntl(secondary, F_SETFD, FD_CLOEXEC);
  ::fcntl(primary, F_SETFL, O_NONBLOCK);
  std::array<char, 64> name = {};
  if (::ttyname_r(secondary, name.data(), name.size()) != 0) return fail_errno(errno, "naming a pseudo-terminal");
  auto backend = std::make_unique<PtyBackend>(loop, std::move(first), std::move(second));
  BYGONE_CHECK(backend->start());
  path = name.data();
  return backend;
}

Result<std::unique_ptr<CharBackend>> create_socket_backend(EventLoop& loop, const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return fail(ErrorCode::kInvalidArgument, "the socket path {} is empty or longer than {} characters", path,
                sizeof(address.sun_path) - 1);
  }
  path.copy(address.sun_path, path.size());
  struct stat there = {};
  if (::lstat(path.c_str(), &there) == 0) {
    if (!S_ISSOCK(there.st_mode)) return fail(ErrorCode::kAlreadyExists, "{} exists and is not a socket", path);
    ::unlink(path.c_str());
  }
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return fail_errno(errno, "creating a socket");
  ::fchmod(listener.get(), 0600);  // before bind: the file gets this mode at once
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(listener.get(), 1) != 0) {
    return fail_errno(errno, "listening on " + path);
  }
  auto backend = std::make_unique<SocketBackend>(loop, std::move(listener), path);
  BYGONE_CHECK(backend->start());
  return backend;
}

}  // namespace bygone::chipset
