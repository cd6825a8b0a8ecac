#include "agent.h"

#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <utility>

#include "screen_size.h"
#include "version.h"

namespace bygone::agent {
namespace {

using spec::agent::ErrorReply;
using spec::agent::ReplyBody;
using spec::agent::ReplyError;
using spec::agent::Window;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaximumConnections = 8;
constexpr std::size_t kMaximumOutgoing = 4 << 20;
/// Changes of windows come in bursts: one comparison answers all that arrive within this time.
constexpr milliseconds kComparisonDelay{20};
constexpr milliseconds kDisplaySearchInterval{500};

[[nodiscard]] ErrorReply failed(const Error& error) { return {ReplyError::kFailed, error.text().substr(0, spec::agent::kMaximumTextSize)}; }

}  // namespace

struct Agent::Handler {
  Agent& agent;
  Connection& connection;

  ReplyBody operator()(const spec::agent::HelloRequest& request) {
    if (request.version != spec::agent::kProtocolVersion) {
      return ErrorReply{ReplyError::kUnsupportedVersion, fmt::format("this agent speaks version {}", spec::agent::kProtocolVersion)};
    }
    spec::agent::HelloReply reply;
    reply.agent = kVersion;
    reply.system = agent.options_.system_name;
    reply.has_display = agent.window_list().has_value();
    return reply;
  }

  ReplyBody operator()(const spec::agent::ListProgramsRequest&) {
    spec::agent::ProgramsReply reply;
    for (const DesktopEntry& entry : entries()) {
      reply.programs.push_back({entry.id, entry.name, entry.comment, is_windows_program(entry)});
    }
    return reply;
  }

  ReplyBody operator()(const spec::agent::ProgramIconRequest& request) {
    const auto entry = find_entry(request.program);
    if (!entry) return no_such_program(request.program);
    const auto path = find_icon(agent.options_.user.data_directories(), entry->icon, request.size);
    if (!path) return ErrorReply{ReplyError::kNotFound, fmt::format("\"{}\" has no icon", entry->name)};
    std::ifstream file(*path, std::ios::binary);
    const std::string data(std::istreambuf_iterator<char>(file), {});
    if (!file || data.size() > spec::agent::kMaximumIconSize) {
      return ErrorReply{ReplyError::kFailed, fmt::format("the icon {} cannot be read or is too large", path->string())};
    }
    const auto raw = std::as_bytes(std::span(data));
    return spec::agent::IconReply{media_type_of(*path), {raw.begin(), raw.end()}};
  }

  ReplyBody operator()(const spec::agent::StartProgramRequest& request) {
    std::vector<std::string> command = request.arguments;
    std::string folder;
    if (!request.program.empty()) {
      const auto entry = find_entry(request.program);
      if (!entry) return no_such_program(request.program);
      command = expand_exec(*entry, request.arguments);
      folder = entry->path;
    }
    const auto process = start_as(agent.options_.user, agent.options_.display, folder, command);
    if (!process) return failed(process.error());
    connection.programs.insert(*process);
    return spec::agent::StartedReply{static_cast<std::uint32_t>(*process)};
  }

  ReplyBody operator()(const spec::agent::ListWindowsRequest&) {
    const auto list = agent.window_list();
    if (!list) return ErrorReply{ReplyError::kNoDisplay, list.error().text()};
    auto windows = (*list)->list();
    if (!windows) {
      agent.forget_display();
      return ErrorReply{ReplyError::kNoDisplay, windows.error().text()};
    }
    return spec::agent::WindowsReply{std::move(*windows)};
  }

  ReplyBody operator()(const spec::agent::WatchRequest&) {
    connection.watches = true;
    agent.compare_windows();  // the others learn of what is new, this connection of everything, below
    for (const auto& [id, window] : agent.known_windows_) {
      if (!agent.queue(connection, spec::agent::encode(spec::agent::Event(spec::agent::WindowOpenedEvent{window})))) break;
    }
    return spec::agent::DoneReply{};
  }

  ReplyBody operator()(const spec::agent::LogOffRequest&) {
    agent.loop_.post([&agent = agent] {
      if (agent.options_.log_off.empty()) {
        end_processes_of(agent.options_.user);
      } else {
        agent.run_shell(agent.options_.log_off);
      }
    });
    return spec::agent::DoneReply{};
  }

  ReplyBody operator()(const spec::agent::ShutdownRequest& request) {
    agent.loop_.post([&agent = agent, restart = request.restart] {
      agent.run_shell(restart ? agent.options_.restart : agent.options_.power_off);
    });
    return spec::agent::DoneReply{};
  }

  ReplyBody operator()(const spec::agent::SetScreenRequest& request) {
    const auto set = set_screen_size(agent.options_.display, request.width, request.height);
    if (set) return spec::agent::DoneReply{};
    if (set.error().code == ErrorCode::kNotFound) return ErrorReply{ReplyError::kNoDisplay, set.error().text()};
    return failed(set.error());
  }

 private:
  [[nodiscard]] std::vector<DesktopEntry> entries() const {
    return list_entries(agent.options_.user.data_directories(), agent.options_.locale);
  }
  [[nodiscard]] std::optional<DesktopEntry> find_entry(const std::string& id) const {
    for (DesktopEntry& entry : entries()) {
      if (entry.id == id) return std::move(entry);
    }
    return std::nullopt;
  }
  [[nodiscard]] static ErrorReply no_such_program(const std::string& id) {
    return {ReplyError::kNotFound, fmt::format("there is no program \"{}\" in the guest", id.substr(0, 256))};
  }
};

Agent::Agent(EventLoop& loop, AgentOptions options) : loop_(loop), options_(std::move(options)) {}

Agent::~Agent() {
  if (comparison_) loop_.cancel_timer(*comparison_);
  if (display_search_) loop_.cancel_timer(*display_search_);
  if (windows_) loop_.unwatch(windows_->fd());
  if (children_) loop_.unwatch(children_.get());
  for (const UniqueFd& listener : listeners_) loop_.unwatch(listener.get());
  for (const auto& [socket, connection] : connections_) loop_.unwatch(socket);
}

Result<std::unique_ptr<Agent>> Agent::create(EventLoop& loop, AgentOptions options) {
  std::unique_ptr<Agent> agent(new Agent(loop, std::move(options)));
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  agent->children_ = UniqueFd(signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!agent->children_) return fail_errno(errno, "waiting for child processes");
  BYGONE_CHECK(loop.watch(agent->children_.get(), EPOLLIN, [self = agent.get()](std::uint32_t) { self->collect_children(); }));
  if (const std::string& path = agent->options_.report; !path.empty()) {
    agent->report_ = UniqueFd(open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY | O_CLOEXEC | O_NONBLOCK, 0644));
    if (!agent->report_) return fail_errno(errno, "opening " + path);
    loop.post([self = agent.get()] { self->compare_windows(); });
  }
  return agent;
}

Result<void> Agent::listen_on(UniqueFd listener) {
  const int socket = listener.get();
  BYGONE_CHECK(loop_.watch(socket, EPOLLIN, [this, socket](std::uint32_t) { accept_from(socket); }));
  listeners_.push_back(std::move(listener));
  return {};
}

void Agent::accept_from(int listener) {
  sockaddr_vm peer{};
  socklen_t size = sizeof(peer);
  UniqueFd socket(accept4(listener, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!socket || connections_.size() >= kMaximumConnections) return;
  // Only the host is obeyed: other programs of the guest can reach the port over the loopback.
  if (peer.svm_family == AF_VSOCK && peer.svm_cid != VMADDR_CID_HOST) return;
  const int number = socket.get();
  if (!loop_.watch(number, EPOLLIN, [this, number](std::uint32_t events) { on_ready(number, events); })) return;
  auto connection = std::make_unique<Connection>();
  connection->socket = std::move(socket);
  connections_.emplace(number, std::move(connection));
}

void Agent::on_ready(int socket, std::uint32_t events) {
  const auto found = connections_.find(socket);
  if (found == connections_.end()) return;
  Connection& connection = *found->second;
  bool keep = (events & EPOLLERR) == 0;
  if (keep && (events & EPOLLOUT) != 0) keep = flush(connection);
  if (keep && (events & (EPOLLIN | EPOLLHUP)) != 0) keep = read_from(connection);
  if (!keep) close_connection(socket);
}

bool Agent::read_from(Connection& connection) {
  std::array<std::byte, 16384> buffer;
  const ssize_t got = recv(connection.socket.get(), buffer.data(), buffer.size(), 0);
  if (got == 0) return false;
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  connection.reader.append(std::span(buffer).first(static_cast<std::size_t>(got)));
  while (true) {
    const auto payload = connection.reader.next();
    if (!payload) return false;
    if (!*payload) return true;
    if (!answer(connection, **payload)) return false;
  }
}

bool Agent::answer(Connection& connection, const std::vector<std::byte>& payload) {
  auto decoded = spec::agent::decode_request(payload);
  if (!decoded) return false;
  if (const auto* refused = std::get_if<spec::agent::RefusedRequest>(&*decoded)) {
    return queue(connection, spec::agent::encode(spec::agent::Reply{refused->id, refused->reply}));
  }
  const auto& request = std::get<spec::agent::Request>(*decoded);
  const ReplyBody body = std::visit(Handler{*this, connection}, request.body);
  auto frame = spec::agent::encode(spec::agent::Reply{request.id, body});
  if (!frame) frame = spec::agent::encode(spec::agent::Reply{request.id, failed(frame.error())});
  return queue(connection, frame);
}

bool Agent::queue(Connection& connection, const Result<std::vector<std::byte>>& frame) {
  if (!frame) return true;  // an event that cannot be told, such as one with an overlong title, is left out
  if (connection.outgoing.size() + frame->size() > kMaximumOutgoing) return false;
  connection.outgoing.insert(connection.outgoing.end(), frame->begin(), frame->end());
  return flush(connection);
}

bool Agent::flush(Connection& connection) {
  while (!connection.outgoing.empty()) {
    const ssize_t sent = send(connection.socket.get(), connection.outgoing.data(), connection.outgoing.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return false;
    if (sent < 0) break;
    connection.outgoing.erase(connection.outgoing.begin(), connection.outgoing.begin() + sent);
  }
  const bool must_write = !connection.outgoing.empty();
  if (must_write != connection.is_writing) {
    const std::uint32_t events = must_write ? EPOLLIN | EPOLLOUT : EPOLLIN;
    if (!loop_.change_events(connection.socket.get(), events)) return false;
    connection.is_writing = must_write;
  }
  return true;
}

void Agent::close_connection(int socket) {
  loop_.unwatch(socket);
  connections_.erase(socket);
}

void Agent::report(const spec::agent::Event& event) const {
  std::string line;
  if (const auto* opened = std::get_if<spec::agent::WindowOpenedEvent>(&event)) {
    line = fmt::format("bygone-agent: window opened {:#x} {} \"{}\"\r\n", opened->window.id, opened->window.class_name, opened->window.title);
  } else if (const auto* closed = std::get_if<spec::agent::WindowClosedEvent>(&event)) {
    line = fmt::format("bygone-agent: window closed {:#x}\r\n", closed->window);
  }
  // A console that does not take it loses the line: the agent must not wait for it.
  if (!line.empty() && write(report_.get(), line.data(), line.size()) < 0) return;
}

void Agent::tell_watchers(const spec::agent::Event& event) {
  if (report_) report(event);
  const auto frame = spec::agent::encode(event);
  std::vector<int> lost;
  for (const auto& [socket, connection] : connections_) {
    if (connection->watches && !queue(*connection, frame)) lost.push_back(socket);
  }
  // Later: the caller may be in the middle of a request of one of them.
  for (const int socket : lost) {
    connections_.at(socket)->watches = false;
    loop_.post([this, socket] { close_connection(socket); });
  }
}

Result<WindowList*> Agent::window_list() {
  if (windows_) return windows_.get();
  BYGONE_ASSIGN(windows_, WindowList::connect(options_.display));
  const auto watched = loop_.watch(windows_->fd(), EPOLLIN, [this](std::uint32_t) { windows_may_have_changed(); });
  if (!watched) {
    windows_.reset();
    return std::unexpected(watched.error());
  }
  return windows_.get();
}

void Agent::forget_display() {
  if (windows_) loop_.unwatch(windows_->fd());
  windows_.reset();
  for (const auto& [id, window] : std::exchange(known_windows_, {})) tell_watchers(spec::agent::WindowClosedEvent{id});
  look_for_display();
}

void Agent::look_for_display() {
  const bool is_wanted = report_ || std::ranges::any_of(connections_, [](const auto& each) { return each.second->watches; });
  if (!is_wanted || windows_ || display_search_) return;
  display_search_ = loop_.add_timer(steady_clock::now() + kDisplaySearchInterval, [this] {
    display_search_.reset();
    compare_windows();
  });
}

void Agent::windows_may_have_changed() {
  if (!windows_) return;
  const auto changed = windows_->drain();
  if (!changed) {
    forget_display();
    return;
  }
  if (!*changed || comparison_) return;
  comparison_ = loop_.add_timer(steady_clock::now() + kComparisonDelay, [this] {
    comparison_.reset();
    compare_windows();
  });
}

void Agent::compare_windows() {
  const auto list = window_list();
  auto now = list ? (*list)->list() : Result<std::vector<Window>>(std::unexpected(list.error()));
  if (!now) {
    forget_display();
    return;
  }
  std::map<std::uint32_t, Window> current;
  for (Window& window : *now) current.emplace(window.id, std::move(window));
  const auto before = std::exchange(known_windows_, current);
  for (const auto& [id, window] : before) {
    if (!current.contains(id)) tell_watchers(spec::agent::WindowClosedEvent{id});
  }
  for (const auto& [id, window] : current) {
    const auto old = before.find(id);
    if (old == before.end()) {
      tell_watchers(spec::agent::WindowOpenedEvent{window});
    } else if (old->second != window) {
      tell_watchers(spec::agent::WindowChangedEvent{window});
    }
  }
  // Replies and events were taken from the socket together: what came as an event meanwhile waits inside XCB, where
  // polling does not see it.
  windows_may_have_changed();
}

void Agent::collect_children() {
  signalfd_siginfo ignored{};
  while (read(children_.get(), &ignored, sizeof(ignored)) > 0) {
  }
  int status = 0;
  pid_t process = 0;
  while ((process = waitpid(-1, &status, WNOHANG)) > 0) {
    const std::int32_t result = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    std::vector<int> lost;
    for (const auto& [socket, connection] : connections_) {
      if (connection->programs.erase(process) == 0 || !connection->watches) continue;
      const spec::agent::Event event = spec::agent::ProgramEndedEvent{static_cast<std::uint32_t>(process), result};
      if (!queue(*connection, spec::agent::encode(event))) lost.push_back(socket);
    }
    for (const int socket : lost) close_connection(socket);
  }
}

void Agent::run_shell(const std::string& command) {
  const SessionUser self{.name = "root", .uid = geteuid(), .gid = getegid(), .home = "/", .shell = "/bin/sh"};
  if (const auto process = start_as(self, {}, "/", {"/bin/sh", "-c", command}); !process) {
    fmt::print(stderr, "bygone-agent: {}\n", process.error().text());
  }
}

}  // namespace bygone::agent
