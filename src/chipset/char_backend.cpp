#include "chipset/char_backend.h"

#include <fcntl.h>
#include <pty.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <string>

#include "support/unix_address.h"

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

/// Output that its descriptor does not take at once: kept, within bounds, and sent when it does.
/// Threading: write() from any thread, the rest on the loop's thread. A task that is still posted keeps it alive.
class Outbox : public std::enable_shared_from_this<Outbox> {
 public:
  enum class Kind { kTerminal, kSocket };
  Outbox(EventLoop& loop, Kind kind) : loop_(loop), kind_(kind) {}

  /// -1: nobody is there; what waits is dropped.
  void set_descriptor(int fd) {
    const std::lock_guard lock(mutex_);
    fd_ = fd;
    waiting_.clear();
    is_watched_ = false;
  }
  void write(std::span<const std::byte> data) {
    const std::lock_guard lock(mutex_);
    if (fd_ < 0) return;
    if (waiting_.empty()) data = data.subspan(send(data));
    const std::size_t kept = std::min(data.size(), kLimit - std::min(kLimit, waiting_.size()));
    waiting_.append(reinterpret_cast<const char*>(data.data()), kept);
    if (waiting_.empty() || is_watched_) return;
    is_watched_ = true;
    loop_.post([self = shared_from_this()] { self->watch(); });
  }
  void on_writable() {
    const std::lock_guard lock(mutex_);
    if (fd_ < 0) return;
    waiting_.erase(0, send(std::as_bytes(std::span(waiting_))));
    if (!waiting_.empty()) return;
    is_watched_ = false;
    (void)loop_.change_events(fd_, EPOLLIN);
  }

 private:
  static constexpr std::size_t kLimit = 256 * 1024;

  void watch() {
    const std::lock_guard lock(mutex_);
    if (fd_ >= 0 && is_watched_) (void)loop_.change_events(fd_, EPOLLIN | EPOLLOUT);
  }
  [[nodiscard]] std::size_t send(std::span<const std::byte> data) const {
    std::size_t done = 0;
    while (done < data.size()) {
      const std::span<const std::byte> rest = data.subspan(done);
      const ssize_t sent = kind_ == Kind::kSocket ? ::send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT)
                                                  : ::write(fd_, rest.data(), rest.size());
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) break;
      done += static_cast<std::size_t>(sent);
    }
    return done;
  }

  EventLoop& loop_;
  const Kind kind_;
  std::mutex mutex_;
  int fd_ = -1;
  std::string waiting_;
  bool is_watched_ = false;
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
      : loop_(loop), primary_(std::move(primary)), secondary_(std::move(secondary)),
        outbox_(std::make_shared<Outbox>(loop, Outbox::Kind::kTerminal)) {}
  ~PtyBackend() override {
    outbox_->set_descriptor(-1);
    loop_.unwatch(primary_.get());
  }

  Result<void> start() {
    outbox_->set_descriptor(primary_.get());
    return loop_.watch(primary_.get(), EPOLLIN, [this](std::uint32_t events) {
      if ((events & EPOLLOUT) != 0) outbox_->on_writable();
      if ((events & EPOLLIN) == 0) return;
      std::array<std::byte, 256> buffer;
      const ssize_t count = ::read(primary_.get(), buffer.data(), buffer.size());
      if (count > 0) input_.deliver(std::span(buffer).first(static_cast<std::size_t>(count)));
    });
  }
  void write(std::span<const std::byte> data) override { outbox_->write(data); }
  void set_input_handler(InputHandler handler) override { input_.set(std::move(handler)); }

 private:
  EventLoop& loop_;
  UniqueFd primary_;
  UniqueFd secondary_;
  std::shared_ptr<Outbox> outbox_;
  Input input_;
};

class SocketBackend final : public CharBackend {
 public:
  SocketBackend(EventLoop& loop, UniqueFd listener, std::string path)
      : loop_(loop), listener_(std::move(listener)), path_(std::move(path)),
        outbox_(std::make_shared<Outbox>(loop, Outbox::Kind::kSocket)) {}
  ~SocketBackend() override {
    loop_.unwatch(listener_.get());
    drop_client();
    ::unlink(path_.c_str());
  }

  Result<void> start() {
    return loop_.watch(listener_.get(), EPOLLIN, [this](std::uint32_t) { on_connection(); });
  }
  void write(std::span<const std::byte> data) override { outbox_->write(data); }
  void set_input_handler(InputHandler handler) override { input_.set(std::move(handler)); }

 private:
  void on_connection() {
    UniqueFd accepted(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!accepted || client_) return;  // a second client is turned away
    if (!loop_.watch(accepted.get(), EPOLLIN, [this](std::uint32_t events) { on_client(events); })) return;
    client_ = std::move(accepted);
    outbox_->set_descriptor(client_.get());
  }
  void on_client(std::uint32_t events) {
    if ((events & EPOLLOUT) != 0) outbox_->on_writable();
    if ((events & ~static_cast<std::uint32_t>(EPOLLOUT)) == 0) return;
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
    outbox_->set_descriptor(-1);
    loop_.unwatch(client_.get());
    client_.reset();
  }

  EventLoop& loop_;
  UniqueFd listener_;
  std::string path_;
  UniqueFd client_;
  std::shared_ptr<Outbox> outbox_;
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
  BYGONE_ASSIGN(const sockaddr_un address, unix_address(path));
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
