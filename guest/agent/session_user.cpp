#include "session_user.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <grp.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>

#include "support/unique_fd.h"

namespace bygone::agent {
namespace {

[[nodiscard]] std::optional<unsigned> number(std::string_view text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

/// name:password:uid:gid:comment:home:shell
[[nodiscard]] std::optional<SessionUser> parse_line(std::string_view line) {
  std::array<std::string_view, 7> fields{};
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const auto end = line.find(':');
    if ((end == std::string_view::npos) != (i + 1 == fields.size())) return std::nullopt;
    fields[i] = line.substr(0, end);
    if (end != std::string_view::npos) line.remove_prefix(end + 1);
  }
  const auto uid = number(fields[2]), gid = number(fields[3]);
  if (!uid || !gid) return std::nullopt;
  return SessionUser{.name = std::string(fields[0]), .uid = *uid, .gid = *gid, .home = std::string(fields[5]),
                     .shell = std::string(fields[6])};
}

template <typename Condition>
[[nodiscard]] std::optional<SessionUser> find_line(std::string_view passwd, Condition condition) {
  while (!passwd.empty()) {
    const auto end = passwd.find('\n');
    if (auto user = parse_line(passwd.substr(0, end)); user && condition(*user)) return user;
    if (end == std::string_view::npos) break;
    passwd.remove_prefix(end + 1);
  }
  return std::nullopt;
}

[[nodiscard]] std::vector<std::string> environment_for(const SessionUser& user, const std::string& display) {
  std::map<std::string, std::string> variables;
  for (char** each = environ; *each != nullptr; ++each) {
    const std::string_view variable = *each;
    const auto equals = variable.find('=');
    if (equals != std::string_view::npos) variables[std::string(variable.substr(0, equals))] = variable.substr(equals + 1);
  }
  variables["HOME"] = user.home;
  variables["USER"] = variables["LOGNAME"] = user.name;
  variables["SHELL"] = user.shell;
  variables.try_emplace("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/games");
  if (!display.empty()) variables["DISPLAY"] = display;
  const std::string runtime = "/run/user/" + std::to_string(user.uid);
  if (std::filesystem::is_directory(runtime)) variables["XDG_RUNTIME_DIR"] = runtime;
  std::vector<std::string> result;
  result.reserve(variables.size());
  for (const auto& [name, value] : variables) result.push_back(fmt::format("{}={}", name, value));
  return result;
}

[[nodiscard]] std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

/// In the child: becomes the user and executes; returns errno when that fails.
[[nodiscard]] int become_and_execute(const SessionUser& user, const std::string& folder, char* const* arguments, char* const* variables) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  setsid();
  if (const int null = open("/dev/null", O_RDWR); null >= 0) {
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    if (null > STDERR_FILENO) close(null);
  }
  if (geteuid() == 0 && user.uid != 0) {
    if (setgroups(1, &user.gid) != 0 || setgid(user.gid) != 0 || setuid(user.uid) != 0) return errno;
  }
  if (chdir(folder.c_str()) != 0 && chdir("/") != 0) return errno;
  execvpe(arguments[0], arguments, variables);
  return errno;
}

}  // namespace

DataDirectories SessionUser::data_directories() const {
  return {{std::filesystem::path(home) / ".local/share", "/usr/local/share", "/usr/share"}};
}

Result<SessionUser> find_user(std::string_view passwd, std::string_view name) {
  auto user = find_line(passwd, [name](const SessionUser& each) { return each.name == name; });
  if (!user) return fail(ErrorCode::kNotFound, "there is no user \"{}\" in /etc/passwd", name);
  return std::move(*user);
}

SessionUser user_of(std::string_view passwd, uid_t uid) {
  auto user = find_line(passwd, [uid](const SessionUser& each) { return each.uid == uid; });
  if (!user) return {.name = std::to_string(uid), .uid = uid, .gid = getgid(), .home = "/", .shell = "/bin/sh"};
  return std::move(*user);
}

Result<pid_t> start_as(const SessionUser& user, const std::string& display, const std::string& folder,
                       const std::vector<std::string>& command) {
  if (command.empty() || command.front().empty()) return fail(ErrorCode::kInvalidArgument, "the command line is empty");
  std::vector<std::string> words = command;
  std::vector<std::string> variables = environment_for(user, display);
  const std::vector<char*> word_pointers = pointers_to(words);
  const std::vector<char*> variable_pointers = pointers_to(variables);
  const std::string& start_folder = folder.empty() ? user.home : folder;

  // The pipe closes by itself when the child executes; before that, it brings the reason why it could not.
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe");
  UniqueFd read_end(ends[0]), write_end(ends[1]);
  const pid_t child = fork();
  if (child < 0) return fail_errno(errno, "starting a process");
  if (child == 0) {
    const int reason = become_and_execute(user, start_folder, word_pointers.data(), variable_pointers.data());
    if (write(write_end.get(), &reason, sizeof(reason)) < 0) _exit(126);
    _exit(127);
  }
  write_end.reset();
  int reason = 0;
  ssize_t got = 0;
  do {
    got = read(read_end.get(), &reason, sizeof(reason));
  } while (got < 0 && errno == EINTR);
  if (got == sizeof(reason)) return fail_errno(reason, "executing " + command.front());
  return child;
}

void end_processes_of(const SessionUser& user) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const auto process = number(entry.path().filename().string());
    struct stat status {};
    if (!process || stat(entry.path().c_str(), &status) != 0 || status.st_uid != user.uid) continue;
    if (static_cast<pid_t>(*process) != getpid()) kill(static_cast<pid_t>(*process), SIGTERM);
  }
}

}  // namespace bygone::agent
