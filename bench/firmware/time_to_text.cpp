// Purpose: how long a command takes from its start until it has printed a text; then the command is killed.
// Usage: time_to_text TEXT SECONDS COMMAND…; prints milliseconds. Status 1: it ended, or the seconds passed, before the text came.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

using Clock = std::chrono::steady_clock;

std::chrono::milliseconds since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
}

bool wait_for(int output, const std::string& text, Clock::time_point start, std::chrono::seconds limit) {
  std::string seen;
  while (since(start) < limit) {
    pollfd ready{output, POLLIN, 0};
    if (::poll(&ready, 1, 1000) <= 0) continue;
    char buffer[4096];
    const ssize_t bytes = ::read(output, buffer, sizeof buffer);
    if (bytes <= 0) break;
    seen.append(buffer, static_cast<std::size_t>(bytes));
    if (seen.find(text) != std::string::npos) return true;
  }
  std::fprintf(stderr, "time_to_text: no \"%s\"; the output's end: %s\n", text.c_str(),
               seen.substr(seen.size() < 500 ? 0 : seen.size() - 500).c_str());
  return false;
}

}  // namespace

int main(int count, char** words) {
  if (count < 4) {
    std::fprintf(stderr, "usage: time_to_text TEXT SECONDS COMMAND...\n");
    return 2;
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return 2;
  const auto start = Clock::now();
  const pid_t process = ::fork();
  if (process < 0) return 2;
  if (process == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::dup2(ends[1], STDERR_FILENO);
    ::execvp(words[3], words + 3);
    ::_exit(127);
  }
  ::close(ends[1]);
  const bool found = wait_for(ends[0], words[1], start, std::chrono::seconds(std::atoi(words[2])));
  if (found) std::printf("%lld\n", static_cast<long long>(since(start).count()));
  ::kill(process, SIGKILL);
  ::waitpid(process, nullptr, 0);
  return found ? 0 : 1;
}
