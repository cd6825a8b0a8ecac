#include "programs/bygone/terminal_console.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <string>

namespace bygone::programs {

namespace {
constexpr char kEscape = 1;  // Ctrl-A
}

Result<std::unique_ptr<TerminalConsole>> TerminalConsole::create(std::function<void()> on_quit) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno(errno, "creating the console's pipe");
  UniqueFd read_end(ends[0]), write_end(ends[1]), stop(::eventfd(0, EFD_CLOEXEC));
  if (!stop) return fail_errno(errno, "creating the console");
  return std::unique_ptr<TerminalConsole>(
      new TerminalConsole(std::move(read_end), std::move(write_end), std::move(stop), std::move(on_quit)));
}

TerminalConsole::TerminalConsole(UniqueFd read_end, UniqueFd write_end, UniqueFd stop, std::function<void()> on_quit)
    : read_end_(std::move(read_end)), write_end_(std::move(write_end)), stop_(std::move(stop)), on_quit_(std::move(on_quit)) {
  termios raw = {};
  if (::tcgetattr(STDIN_FILENO, &raw) == 0) {
    saved_ = raw;
    ::cfmakeraw(&raw);
    raw.c_oflag |= OPOST;
    ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  }
  thread_ = std::thread([this] { serve(); });
}

TerminalConsole::~TerminalConsole() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(stop_.get(), &one, sizeof one);
  thread_.join();
  if (saved_) ::tcsetattr(STDIN_FILENO, TCSANOW, &*saved_);
}

void TerminalConsole::serve() {
  for (;;) {
    pollfd watched[2] = {{STDIN_FILENO, POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    if (::poll(watched, 2, -1) < 0 && errno != EINTR) return;
    if (watched[1].revents != 0) return;
    if (watched[0].revents == 0) continue;
    char bytes[256];
    const ssize_t got = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (got <= 0 || !forward(bytes, static_cast<std::size_t>(got))) return;
  }
}

bool TerminalConsole::forward(const char* bytes, std::size_t count) {
  const bool is_terminal = saved_.has_value();  // otherwise every byte is the guest's
  std::string out;
  for (std::size_t i = 0; i < count; ++i) {
    const char c = bytes[i];
    if (is_terminal && std::exchange(after_escape_, false)) {
      if (c == 'x' || c == 'X') {
        on_quit_();
        return false;
      }
      if (c == kEscape) out += c;
    } else if (is_terminal && c == kEscape) {
      after_escape_ = true;
    } else {
      out += c;
    }
  }
  [[maybe_unused]] const ssize_t ignored = ::write(write_end_.get(), out.data(), out.size());
  return true;
}

}  // namespace bygone::programs
