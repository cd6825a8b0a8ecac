#include "service/launch.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>

#include "support/unique_fd.h"

namespace bygone::service {
namespace {

constexpr std::size_t kMaximumReport = 65536;
constexpr std::uintmax_t kMaximumLogBytes = 1 << 20;  // of earlier runs; then the log begins anew, and the old one is kept once

ErrorCode code_of(const nlohmann::json& report) {
  const int code = report.value("code", static_cast<int>(ErrorCode::kInternal));
  const bool is_known = code >= 0 && code <= static_cast<int>(ErrorCode::kInternal);
  return is_known ? static_cast<ErrorCode>(code) : ErrorCode::kInternal;
}

std::string read_all(int fd) {
  std::string text;
  std::array<char, 4096> part;
  while (text.size() < kMaximumReport) {
    const ssize_t got = ::read(fd, part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(part.data(), static_cast<std::size_t>(got));
  }
  return text;
}

/// In the child: only calls that are safe after fork().
[[noreturn]] void become_machine(char* const* arguments, int ready, int log) {
  constexpr int kReadyNumber = 3;
  ::setsid();
  if (const pid_t child = ::fork(); child != 0) ::_exit(child < 0 ? 1 : 0);
  const int nothing = ::open("/dev/null", O_RDWR);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(log >= 0 ? log : nothing, STDOUT_FILENO);
  ::dup2(log >= 0 ? log : nothing, STDERR_FILENO);
  ::dup2(ready, kReadyNumber);
  ::close_range(kReadyNumber + 1, ~0U, 0);
  ::execv(arguments[0], arguments);
  ::_exit(127);
}

}  // namespace

Result<std::filesystem::path> find_machine_program() {
  std::error_code error;
  const auto folder = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  const std::array candidates = {folder / "bygone-vm", folder.parent_path() / "libexec/bygone/bygone-vm"};
  for (const auto& candidate : candidates) {
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return std::unexpected(Error{ErrorCode::kNotFound, fmt::format("there is no bygone-vm at {} or {}", candidates[0].string(), candidates[1].string()),
                               "Install Bygone whole; bygone-vm belongs beside bygone"});
}

Result<void> launch(const library::MachineFolder& machine) {
  BYGONE_ASSIGN(const std::filesystem::path program, find_machine_program());
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "creating a pipe");
  // Above the number that the child gives it, so that the copy loses its close-on-exec mark.
  UniqueFd reader(ends[0]), low_writer(ends[1]), writer(::fcntl(low_writer.get(), F_DUPFD_CLOEXEC, 10));
  low_writer.reset();
  std::error_code ignored;
  if (std::filesystem::file_size(machine.log(), ignored) > kMaximumLogBytes && !ignored) {
    std::filesystem::rename(machine.log(), machine.file(".log.old"), ignored);
  }
  const UniqueFd log(::open(machine.log().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  std::string name = program.string(), folder = machine.folder.string(), flag = "--ready-fd", number = "3";
  const std::array<char*, 5> arguments = {name.data(), flag.data(), number.data(), folder.data(), nullptr};
  const pid_t child = ::fork();
  if (child < 0) return fail_errno(errno, "starting a process");
  if (child == 0) become_machine(arguments.data(), writer.get(), log.get());
  writer.reset();
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  const auto report = nlohmann::json::parse(read_all(reader.get()), nullptr, false);
  if (!report.is_object()) {
    return std::unexpected(Error{ErrorCode::kInternal, fmt::format("the machine's process ended before \"{}\" ran", machine.name),
                                 "Its last words are in " + machine.log().string()});
  }
  if (report.value("ready", false)) return {};
  return std::unexpected(Error{code_of(report), report.value("message", "it did not say why"), report.value("hint", "")});
}

void report_readiness(int fd, const Result<void>& outcome) {
  if (fd < 0) return;
  const UniqueFd owned(fd);
  const nlohmann::json report = outcome ? nlohmann::json{{"ready", true}}
                                        : nlohmann::json{{"ready", false},
                                                         {"code", static_cast<int>(outcome.error().code)},
                                                         {"message", outcome.error().message},
                                                         {"hint", outcome.error().hint}};
  const std::string line = report.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  [[maybe_unused]] const ssize_t ignored = ::write(fd, line.data(), line.size());
}

}  // namespace bygone::service
