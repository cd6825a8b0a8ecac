// The person's terminal as a machine's serial console: raw while the machine runs, restored whatever happens.
// Ctrl-A x leaves, Ctrl-A Ctrl-A sends one Ctrl-A. Threading: construct and destroy on one thread.
#pragma once

#include <termios.h>

#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "support/result.h"
#include "support/unique_fd.h"

namespace bygone::programs {

class TerminalConsole {
 public:
  /// Reads standard input (when it is a terminal: in raw mode) until the end or destruction; `on_quit` is called on the reading
  /// thread when the person asks to leave.
  [[nodiscard]] static Result<std::unique_ptr<TerminalConsole>> create(std::function<void()> on_quit);
  ~TerminalConsole();

  /// What the machine reads.
  [[nodiscard]] int input() const { return read_end_.get(); }

 private:
  TerminalConsole(UniqueFd read_end, UniqueFd write_end, UniqueFd stop, std::function<void()> on_quit);
  void serve();
  [[nodiscard]] bool forward(const char* bytes, std::size_t count);

  UniqueFd read_end_, write_end_, stop_;
  std::function<void()> on_quit_;
  std::optional<termios> saved_;
  bool after_escape_ = false;
  std::thread thread_;
};

}  // namespace bygone::programs
