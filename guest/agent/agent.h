// The agent's server: connections, requests, events. See docs/agent-protocol.md.
// Threading: everything on the event loop's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "session_user.h"
#include "spec/agent/message.h"
#include "support/event_loop.h"
#include "support/result.h"
#include "support/unique_fd.h"
#include "windows.h"

namespace bygone::agent {

struct AgentOptions {
  SessionUser user;
  std::string display;  ///< such as ":0"
  std::string locale;
  std::string system_name;
  /// Shell commands. An empty log_off ends the session user's processes.
  std::string log_off;
  std::string power_off = "/sbin/poweroff";
  std::string restart = "/sbin/reboot";
  /// A file or terminal that gets a line for every window that opens or closes; for guests whose console is all that can be
  /// seen of them. Empty: none.
  std::string report;
};

class Agent {
 public:
  /// Takes SIGCHLD for itself: it must be blocked in every thread.
  [[nodiscard]] static Result<std::unique_ptr<Agent>> create(EventLoop& loop, AgentOptions options);
  ~Agent();

  /// Serves connections from a listening socket, from now on.
  [[nodiscard]] Result<void> listen_on(UniqueFd listener);

 private:
  struct Connection {
    UniqueFd socket;
    spec::agent::FrameReader reader;
    std::vector<std::byte> outgoing;
    bool watches = false;
    bool is_writing = false;
    std::set<pid_t> programs;
  };
  /// Answers one kind of request each.
  struct Handler;

  Agent(EventLoop& loop, AgentOptions options);
  void accept_from(int listener);
  void on_ready(int socket, std::uint32_t events);
  [[nodiscard]] bool read_from(Connection& connection);
  [[nodiscard]] bool answer(Connection& connection, const std::vector<std::byte>& payload);
  [[nodiscard]] bool queue(Connection& connection, const Result<std::vector<std::byte>>& frame);
  [[nodiscard]] bool flush(Connection& connection);
  void close_connection(int socket);
  void tell_watchers(const spec::agent::Event& event);
  void report(const spec::agent::Event& event) const;

  [[nodiscard]] Result<WindowList*> window_list();
  void forget_display();
  void look_for_display();
  void windows_may_have_changed();
  void compare_windows();
  void collect_children();
  void run_shell(const std::string& command);

  EventLoop& loop_;
  AgentOptions options_;
  std::vector<UniqueFd> listeners_;
  std::map<int, std::unique_ptr<Connection>> connections_;
  UniqueFd children_;
  UniqueFd report_;
  std::unique_ptr<WindowList> windows_;
  std::map<std::uint32_t, spec::agent::Window> known_windows_;
  std::optional<EventLoop::TimerId> comparison_;
  std::optional<EventLoop::TimerId> display_search_;
};

}  // namespace bygone::agent
