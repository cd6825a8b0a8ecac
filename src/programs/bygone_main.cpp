// The program `bygone`: signals and streams around run_program().
#include <csignal>
#include <iostream>

#include "programs/bygone/commands.h"

namespace {
// A signal handler can reach nothing but a global.
std::atomic<bool> cancelled = false;
static_assert(std::atomic<bool>::is_always_lock_free);

void on_interrupt(int signal_number) {
  cancelled.store(true, std::memory_order_relaxed);
  std::signal(signal_number, SIG_DFL);  // the second Ctrl-C does not ask
}
}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is an error of the write, which cleans up after itself
  std::vector<std::string> arguments(argv + 1, argv + argc);
  return static_cast<int>(bygone::programs::run_program(std::move(arguments), std::cout, std::cerr, cancelled));
}
