#include "devices/sockets/greeting.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "devices/sockets/address.h"

namespace bygone::devices::sockets {
namespace {

constexpr std::size_t kMaximumLine = 64;
constexpr auto kPatience = std::chrono::seconds(10);
constexpr std::string_view kCommand = "CONNECT ";

}  // namespace

Result<Wish> parse_wish(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (!line.starts_with(kCommand)) return fail(ErrorCode::kInvalidArgument, "the first line is to be CONNECT and a port or service GUID");
  const std::string_view name = line.substr(kCommand.size());
  BYGONE_ASSIGN(const Guid service, parse_service(name));
  return Wish{service, std::string(name)};
}

Greeting::Greeting(UniqueFd socket, EventLoop& loop, std::function<void(Result<Wish>)> done)
    : socket_(std::move(socket)), loop_(loop), done_(std::move(done)) {
  is_watching_ = loop_.watch(socket_.get(), EPOLLIN, [this](std::uint32_t) { on_socket(); }).has_value();
  timer_ = loop_.add_timer(std::chrono::steady_clock::now() + kPatience, [this] {
    timer_.reset();
    finish(fail(ErrorCode::kCancelled, "no line came in {} seconds", kPatience.count()));
  });
}

Greeting::~Greeting() {
  if (timer_) loop_.cancel_timer(*timer_);
  if (is_watching_) loop_.unwatch(socket_.get());
}

void Greeting::on_socket() {
  for (;;) {
    // Looked at first and taken then: nothing beyond the line may go.
    std::array<char, kMaximumLine> buffer;
    ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_PEEK | MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return finish(fail(ErrorCode::kCancelled, "the program went away"));
    const auto* end = std::find(buffer.begin(), buffer.begin() + got, '\n');
    const bool is_whole = end != buffer.begin() + got;
    const auto length = static_cast<std::size_t>(end - buffer.begin()) + (is_whole ? 1 : 0);
    got = ::recv(socket_.get(), buffer.data(), length, MSG_DONTWAIT);
    if (got != static_cast<ssize_t>(length)) return finish(fail(ErrorCode::kIo, "the line cannot be read"));
    line_.append(buffer.data(), length);
    if (line_.size() > kMaximumLine) return finish(fail(ErrorCode::kInvalidArgument, "the first line is longer than {} bytes", kMaximumLine));
    if (!is_whole) continue;
    line_.pop_back();
    return finish(parse_wish(line_));
  }
}

void Greeting::finish(Result<Wish> wish) {
  if (timer_) loop_.cancel_timer(*std::exchange(timer_, std::nullopt));
  if (std::exchange(is_watching_, false)) loop_.unwatch(socket_.get());
  done_(std::move(wish));
}

}  // namespace bygone::devices::sockets
