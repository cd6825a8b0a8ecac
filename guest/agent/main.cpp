// bygone-agent: the integration agent of a Linux guest. One static program; see docs/agent-protocol.md.
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent.h"
#include "support/unix_address.h"
#include "version.h"

namespace bygone::agent {
namespace {

constexpr std::string_view kUsage =
    R"(usage: bygone-agent [--user NAME] [--display :N] [--socket PATH]
                    [--log-off COMMAND] [--power-off COMMAND] [--restart COMMAND] [--report FILE]

Answers the host of this virtual machine over AF_VSOCK (port 0x4247): lists and starts programs, tells of windows,
ends the session, shuts down.

  --user NAME          whose session it is (default: the user that runs the agent)
  --display :N         its X display (default: $DISPLAY, else :0)
  --socket PATH        listen on a Unix socket instead of AF_VSOCK
  --log-off COMMAND    what ends the session (default: the session user's processes are asked to end)
  --power-off COMMAND  (default: /sbin/poweroff)
  --restart COMMAND    (default: /sbin/reboot)
  --report FILE        write a line to FILE, such as /dev/ttyS0, for every window that opens or closes
)";

struct Arguments {
  std::string user, display, socket, log_off;
  std::string power_off = "/sbin/poweroff";
  std::string restart = "/sbin/reboot";
  std::string report;
};

[[nodiscard]] Result<Arguments> parse(std::span<char*> words) {
  Arguments arguments;
  const std::pair<std::string_view, std::string*> options[] = {
      {"--user", &arguments.user},       {"--display", &arguments.display},     {"--socket", &arguments.socket},
      {"--log-off", &arguments.log_off}, {"--power-off", &arguments.power_off}, {"--restart", &arguments.restart},
      {"--report", &arguments.report}};
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::string_view word = words[i];
    std::string* value = nullptr;
    for (const auto& [name, target] : options) {
      if (name == word) value = target;
    }
    if (value == nullptr) return fail(ErrorCode::kInvalidArgument, "unknown option {}", word);
    if (++i == words.size()) return fail(ErrorCode::kInvalidArgument, "{} needs a value", word);
    *value = words[i];
  }
  return arguments;
}

[[nodiscard]] std::string read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// PRETTY_NAME of os-release(5).
[[nodiscard]] std::string system_name() {
  const std::string text = read_file("/etc/os-release");
  constexpr std::string_view kKey = "PRETTY_NAME=\"";
  const auto start = text.find(kKey);
  if (start == std::string::npos) return "Linux";
  const auto value = start + kKey.size();
  return text.substr(value, std::min<std::size_t>(text.find('"', value) - value, 256));
}

[[nodiscard]] Result<UniqueFd> listen_on_path(const std::string& path) {
  BYGONE_ASSIGN(const sockaddr_un address, unix_address(path));
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  unlink(path.c_str());
  const mode_t before = umask(0077);
  const bool bound = bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  umask(before);
  if (!bound || listen(listener.get(), 8) != 0) return fail_errno(errno, "listening on " + path);
  return listener;
}

[[nodiscard]] Result<UniqueFd> listen_on_vsock() {
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_port = spec::agent::kVsockPort;
  address.svm_cid = VMADDR_CID_ANY;
  UniqueFd listener(socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener || bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(listener.get(), 8) != 0) {
    return fail_errno(errno, "listening on AF_VSOCK");
  }
  return listener;
}

/// The driver of the machine's sockets may be loaded after the agent has started: tries until it is there.
void listen_when_possible(EventLoop& loop, Agent& agent) {
  if (auto listener = listen_on_vsock()) {
    if (agent.listen_on(std::move(*listener))) return;
  }
  constexpr std::chrono::milliseconds kInterval{500};
  loop.add_timer(std::chrono::steady_clock::now() + kInterval, [&loop, &agent] { listen_when_possible(loop, agent); });
}

[[nodiscard]] Result<void> run(const Arguments& arguments) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  sigprocmask(SIG_BLOCK, &signals, nullptr);

  AgentOptions options;
  const std::string passwd = read_file("/etc/passwd");
  options.user = user_of(passwd, getuid());
  if (!arguments.user.empty()) {
    BYGONE_ASSIGN(options.user, find_user(passwd, arguments.user));
  }
  const char* display = std::getenv("DISPLAY");
  options.display = !arguments.display.empty() ? arguments.display : display != nullptr ? display : ":0";
  const char* language = std::getenv("LANG");
  options.locale = language == nullptr ? "" : std::string(language).substr(0, std::string_view(language).find('.'));
  options.system_name = system_name();
  options.log_off = arguments.log_off;
  options.power_off = arguments.power_off;
  options.restart = arguments.restart;
  options.report = arguments.report;

  BYGONE_ASSIGN(const auto loop, EventLoop::create());
  BYGONE_ASSIGN(const auto agent, Agent::create(*loop, std::move(options)));
  if (arguments.socket.empty()) {
    listen_when_possible(*loop, *agent);
  } else {
    BYGONE_ASSIGN(UniqueFd listener, listen_on_path(arguments.socket));
    BYGONE_CHECK(agent->listen_on(std::move(listener)));
  }
  loop->run();
  return {};
}

}  // namespace
}  // namespace bygone::agent

int main(int count, char** words) {
  const std::span<char*> all(words, static_cast<std::size_t>(count));
  if (count == 2 && (std::string_view(words[1]) == "--help" || std::string_view(words[1]) == "-h")) {
    fmt::print("{}", bygone::agent::kUsage);
    return 0;
  }
  if (count == 2 && std::string_view(words[1]) == "--version") {
    fmt::print("bygone-agent {}, protocol {}\n", bygone::agent::kVersion, bygone::spec::agent::kProtocolVersion);
    return 0;
  }
  const auto arguments = bygone::agent::parse(all);
  if (!arguments) {
    fmt::print(stderr, "bygone-agent: {}\n{}", arguments.error().text(), bygone::agent::kUsage);
    return 2;
  }
  if (const auto result = bygone::agent::run(*arguments); !result) {
    fmt::print(stderr, "bygone-agent: {}\n", result.error().text());
    return 1;
  }
  return 0;
}
