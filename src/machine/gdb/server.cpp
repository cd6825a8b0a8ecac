#include "machine/gdb/server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <charconv>

#include "support/unix_address.h"

namespace bygone::machine::gdb {
namespace {

struct Listener {
  UniqueFd fd;
  std::string address;
  std::string path;  ///< of a unix socket, to be removed in the end
};

std::optional<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return port;
}

Result<Listener> listen_tcp(const std::string& host, std::uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) {
    return fail(ErrorCode::kInvalidArgument, "\"{}\" is not an IPv4 address to wait for a debugger at", host);
  }
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno(errno, "creating a socket for the debugger");
  const int yes = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  socklen_t size = sizeof address;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || ::listen(fd.get(), 1) != 0 ||
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return fail_errno(errno, fmt::format("waiting for a debugger at {}:{}", host, port));
  }
  return Listener{std::move(fd), fmt::format("{}:{}", host, ntohs(address.sin_port)), {}};
}

Result<Listener> listen_unix(const std::string& path) {
  BYGONE_ASSIGN(const sockaddr_un address, unix_address(path));
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno(errno, "creating a socket for the debugger");
  struct stat old = {};
  if (::lstat(path.c_str(), &old) == 0 && S_ISSOCK(old.st_mode)) ::unlink(path.c_str());
  const mode_t mask = ::umask(0077);
  const int bound = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::umask(mask);
  if (bound != 0 || ::listen(fd.get(), 1) != 0) return fail_errno(errno, "waiting for a debugger at " + path);
  return Listener{std::move(fd), path, path};
}

Result<Listener> listen(const std::string& where) {
  if (const auto port = parse_port(where)) return listen_tcp("127.0.0.1", *port);
  const std::size_t colon = where.rfind(':');
  if (colon != std::string::npos && where.find('/') == std::string::npos) {
    if (const auto port = parse_port(std::string_view(where).substr(colon + 1))) return listen_tcp(where.substr(0, colon), *port);
  }
  if (where.empty()) return fail(ErrorCode::kInvalidArgument, "there is no place to wait for a debugger at");
  return listen_unix(where);
}

}  // namespace

Result<std::unique_ptr<Server>> Server::create(const std::string& where, Target& target, Log log) {
  BYGONE_ASSIGN(Listener listener, listen(where));
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return fail_errno(errno, "creating the debugger's wake-up descriptor");
  return std::unique_ptr<Server>(new Server(target, std::move(listener.fd), std::move(wake), std::move(listener.address), std::move(listener.path), std::move(log)));
}

Server::Server(Target& target, UniqueFd listener, UniqueFd wake, std::string address, std::string path, Log log)
    : target_(target), stub_(target), listener_(std::move(listener)), wake_(std::move(wake)), address_(std::move(address)),
      path_(std::move(path)), log_(std::move(log)), thread_([this] { serve(); }) {}

Server::~Server() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(wake_.get(), &one, sizeof one);
  thread_.join();
  if (!path_.empty()) ::unlink(path_.c_str());
}

void Server::report_stop(cpu::VpIndex vp) {
  {
    const std::lock_guard lock(mutex_);
    if (!stopped_at_) stopped_at_ = vp;  // the first of several; the others meet theirs again
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(wake_.get(), &one, sizeof one);
}

void Server::serve() {
  for (;;) {
    std::array<pollfd, 2> watched = {pollfd{wake_.get(), POLLIN, 0}, pollfd{connection_ ? connection_.get() : listener_.get(), POLLIN, 0}};
    if (::poll(watched.data(), watched.size(), -1) < 0) continue;
    if (watched[0].revents != 0) {
      std::uint64_t ignored = 0;
      [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &ignored, sizeof ignored);
      {
        const std::lock_guard lock(mutex_);
        if (is_stopping_) return;
      }
      take_stop();
    }
    if (watched[1].revents == 0) continue;
    if (connection_) {
      read_debugger();
    } else {
      accept_debugger();
    }
  }
}

void Server::accept_debugger() {
  connection_ = UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!connection_) return;
  log_.info("a debugger has connected");
  stub_.connected();
  const std::lock_guard lock(mutex_);
  stopped_at_.reset();
}

void Server::read_debugger() {
  std::array<char, 4096> buffer;
  const ssize_t got = ::recv(connection_.get(), buffer.data(), buffer.size(), 0);
  if (got < 0 && errno == EINTR) return;
  if (got <= 0) return drop();
  std::string out;
  stub_.receive({buffer.data(), static_cast<std::size_t>(got)}, out);
  send(out);
  if (stub_.is_done() && connection_) drop();
}

void Server::take_stop() {
  std::optional<cpu::VpIndex> vp;
  {
    const std::lock_guard lock(mutex_);
    vp = std::exchange(stopped_at_, std::nullopt);
  }
  if (!vp) return;
  target_.stop();
  if (!connection_) return target_.go_on();  // a breakpoint of a debugger that has just gone
  std::string out;
  stub_.stopped(*vp, out);
  send(out);
}

void Server::send(const std::string& bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t sent = ::send(connection_.get(), bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return drop();
    done += static_cast<std::size_t>(sent);
  }
}

void Server::drop() {
  connection_.reset();
  stub_.disconnected();
  log_.info("the debugger has gone");
}

}  // namespace bygone::machine::gdb
