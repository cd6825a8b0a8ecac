#include "programs/bygone_vm/console_hub.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>

namespace bygone::programs::vm {
namespace {

Result<std::pair<UniqueFd, UniqueFd>> make_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) return fail_errno(errno, "creating a console's stream");
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

}  // namespace

Result<std::unique_ptr<ConsoleHub>> ConsoleHub::create(EventLoop& loop) {
  BYGONE_ASSIGN(auto ends, make_pair());
  std::unique_ptr<ConsoleHub> hub(new ConsoleHub(loop, std::move(ends.first), std::move(ends.second)));
  // The guest's processor never waits for us; a generous buffer keeps what it writes in one go.
  const int buffer = 1 << 20;
  ::setsockopt(hub->port_.get(), SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
  BYGONE_CHECK(loop.watch(hub->own_.get(), EPOLLIN, [self = hub.get()](std::uint32_t) { self->on_output(); }));
  return hub;
}

ConsoleHub::~ConsoleHub() {
  loop_.unwatch(own_.get());
  for (const auto& [key, stream] : streams_) loop_.unwatch(key);
}

Result<UniqueFd> ConsoleHub::attach() {
  if (streams_.size() >= kMaximumStreams) return fail(ErrorCode::kExhausted, "{} consoles are attached already", streams_.size());
  BYGONE_ASSIGN(auto ends, make_pair());
  const int key = ends.first.get();
  BYGONE_CHECK(loop_.watch(key, EPOLLIN, [this, key](std::uint32_t events) { on_stream(key, events); }));
  streams_[key] = {std::move(ends.first), kept_};
  send(key);
  return std::move(ends.second);
}

void ConsoleHub::on_output() {
  std::array<char, 16384> buffer;
  const ssize_t got = ::recv(own_.get(), buffer.data(), buffer.size(), 0);
  if (got <= 0) return;
  const std::string_view text(buffer.data(), static_cast<std::size_t>(got));
  kept_ += text;
  if (kept_.size() > 2 * kKeptBytes) kept_.erase(0, kept_.size() - kKeptBytes);
  for (auto& [key, stream] : streams_) {
    if (stream.waiting.size() + text.size() <= 4 * kKeptBytes) stream.waiting += text;  // a reader that sleeps loses what comes
    loop_.post([this, key] { send(key); });
  }
}

void ConsoleHub::send(int key) {
  const auto stream = streams_.find(key);
  if (stream == streams_.end()) return;
  std::string& waiting = stream->second.waiting;
  while (!waiting.empty()) {
    const ssize_t sent = ::send(key, waiting.data(), waiting.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return drop(key);
    if (sent < 0) break;
    waiting.erase(0, static_cast<std::size_t>(sent));
  }
  (void)loop_.change_events(key, waiting.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

void ConsoleHub::on_stream(int key, std::uint32_t events) {
  if ((events & EPOLLOUT) != 0) send(key);
  if ((events & ~static_cast<std::uint32_t>(EPOLLOUT)) == 0) return;
  std::array<char, 4096> buffer;
  const ssize_t got = ::recv(key, buffer.data(), buffer.size(), 0);
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return drop(key);
  // A guest that does not read its serial port loses what is typed.
  if (got > 0) [[maybe_unused]] const ssize_t ignored = ::send(own_.get(), buffer.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL);
}

void ConsoleHub::drop(int key) {
  loop_.unwatch(key);
  streams_.erase(key);
}

}  // namespace bygone::programs::vm
