#include "service/control/server.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <deque>

#include "support/unix_address.h"

namespace bygone::service::control {
namespace {

constexpr std::size_t kMaximumWaiting = 256;      // replies and events that a client has not taken
constexpr std::size_t kMaximumWaitingLines = 64;  // beyond that, log lines are dropped
constexpr std::size_t kMaximumAreas = 32;

Area bounds(const Area& a, const Area& b) {
  return {std::min(a.left, b.left), std::min(a.top, b.top), std::max(a.right, b.right), std::max(a.bottom, b.bottom)};
}
bool contains(const Area& outer, const Area& inner) { return bounds(outer, inner) == outer; }

}  // namespace

/// One client. Lives until its socket closes, or it is dropped.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Server& server, UniqueFd socket) : server_(server), socket_(std::move(socket)) {}

  [[nodiscard]] bool watches(const Event& event) const {
    if (std::holds_alternative<LogLine>(event)) return watch_.log && waiting_.size() < kMaximumWaitingLines;
    if (std::holds_alternative<StateChanged>(event) || std::holds_alternative<Ended>(event)) return true;
    return watch_.screen;
  }
  void send(nlohmann::json message, UniqueFd file) {
    if (is_broken_) return;
    if (waiting_.size() >= kMaximumWaiting) {
      server_.log_.warning("a client of the control socket does not read; it is dropped");
      return give_up();
    }
    waiting_.push_back({std::move(message), std::move(file)});
    flush();
  }
  void damage(const Area& area) {
    if (!watch_.screen || std::ranges::any_of(damage_, [&](const Area& there) { return contains(there, area); })) return;
    std::erase_if(damage_, [&](const Area& there) { return contains(area, there); });
    if (damage_.size() < kMaximumAreas) {
      damage_.push_back(area);
    } else {
      Area all = area;
      for (const Area& each : damage_) all = bounds(all, each);
      damage_.assign(1, all);
    }
    flush();
  }
  void on_events(std::uint32_t events) {
    if ((events & EPOLLOUT) != 0) flush();
    if (is_broken_ || (events & ~static_cast<std::uint32_t>(EPOLLOUT)) == 0) return;
    auto packet = receive_packet(socket_.get());
    if (packet) return receive(std::move(*packet));
    if (packet.error().code == ErrorCode::kBusy) return;
    if (packet.error().code != ErrorCode::kCancelled) server_.log_.warning("a client of the control socket: {}", packet.error().text());
    give_up();
  }
  void flush() {
    bool is_full = false;
    while (!is_broken_ && !is_full && (!waiting_.empty() || !damage_.empty())) {
      const bool is_damage = waiting_.empty();
      const int file = is_damage ? -1 : waiting_.front().file.get();
      const auto sent = is_damage ? send_packet(socket_.get(), to_json(Event(ScreenDamage{damage_})))
                                  : send_packet(socket_.get(), waiting_.front().message, std::span(&file, file >= 0 ? 1 : 0));
      if (sent && is_damage) damage_.clear();
      if (sent && !is_damage) waiting_.pop_front();
      is_full = !sent && sent.error().code == ErrorCode::kBusy;
      if (!sent && !is_full) return give_up();
    }
    if (is_full != is_watched_) {
      is_watched_ = is_full;
      (void)server_.loop_.change_events(socket_.get(), is_full ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
  }

 private:
  struct Message {
    nlohmann::json message;
    UniqueFd file;
  };

  void receive(Packet packet) {
    auto request = parse_request(packet.message);
    if (!request) {
      const auto id = packet.message.find("id");
      const bool has_id = id != packet.message.end() && id->is_number_unsigned();
      return Reply(weak_from_this(), has_id ? id->get<std::uint64_t>() : 0).refuse(request.error());
    }
    Reply reply(weak_from_this(), request->id);
    if (const auto* watch = std::get_if<request::Watch>(&request->body)) {
      const bool shows_screen = watch->screen && !watch_.screen;
      watch_ = *watch;
      reply.done();
      if (!shows_screen) return;
      return show(server_.handler_.screen());
    }
    server_.handler_.handle(std::move(request->body), std::move(packet.fds), std::move(reply));
  }
  void show(ScreenNow now) {
    send(to_json(Event(now.mode)), std::move(now.mode_file));
    if (now.mode.width != 0) damage({0, 0, static_cast<std::int32_t>(now.mode.width), static_cast<std::int32_t>(now.mode.height)});
    if (!now.pointer_file) return;
    send(to_json(Event(now.pointer)), std::move(now.pointer_file));
    send(to_json(Event(now.place)), {});
  }
  void give_up() {
    if (std::exchange(is_broken_, true)) return;
    // Not at once: whoever calls may be going over the clients.
    server_.loop_.post([self = weak_from_this()] {
      if (const auto connection = self.lock()) connection->server_.drop(connection->socket_.get());
    });
  }

  Server& server_;
  UniqueFd socket_;
  request::Watch watch_;
  std::deque<Message> waiting_;
  std::vector<Area> damage_;
  bool is_watched_ = false, is_broken_ = false;
};

Reply::~Reply() {
  if (!connection_.expired()) refuse({ErrorCode::kInternal, "the request was dropped", {}});
}

void Reply::done(nlohmann::json fields, UniqueFd file) {
  fields["id"] = id_;
  fields["reply"] = "ok";
  if (const auto connection = std::exchange(connection_, {}).lock()) connection->send(std::move(fields), std::move(file));
}

void Reply::refuse(const Error& error) {
  nlohmann::json message = {{"id", id_}, {"reply", "error"}, {"code", to_string(error.code)}, {"message", error.message}, {"hint", error.hint}};
  if (const auto connection = std::exchange(connection_, {}).lock()) connection->send(std::move(message), {});
}

void Reply::finish(const Result<void>& outcome) {
  if (outcome) {
    done();
  } else {
    refuse(outcome.error());
  }
}

Result<std::unique_ptr<Server>> Server::create(EventLoop& loop, std::string machine, const std::string& path, Handler& handler, Log log) {
  BYGONE_ASSIGN(const sockaddr_un address, unix_address(path));
  ::unlink(path.c_str());  // the caller holds the machine's lock: nobody listens there
  std::unique_ptr<Server> server(new Server(loop, std::move(machine), path, handler, std::move(log)));
  server->listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int listener = server->listener_.get();
  if (listener < 0) return fail_errno(errno, "creating the control socket");
  ::fchmod(listener, 0600);  // before bind: the file gets this mode at once
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || ::listen(listener, 16) != 0) {
    return fail_errno(errno, "listening at " + path);
  }
  BYGONE_CHECK(loop.watch(listener, EPOLLIN, [self = server.get()](std::uint32_t) { self->on_connection(); }));
  return server;
}

Server::Server(EventLoop& loop, std::string machine, std::string path, Handler& handler, Log log)
    : loop_(loop), machine_(std::move(machine)), path_(std::move(path)), handler_(handler), log_(std::move(log)) {}

Server::~Server() { close(); }

void Server::stop_listening() {
  if (!listener_) return;
  loop_.unwatch(listener_.get());
  listener_.reset();
  ::unlink(path_.c_str());
}

void Server::close() {
  stop_listening();
  for (const auto& [socket, client] : clients_) {
    client->flush();
    loop_.unwatch(socket);
  }
  clients_.clear();
}

void Server::on_connection() {
  UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket) return;
  ucred peer = {};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != ::geteuid()) {
    log_.warning("user {} was turned away from the control socket", peer.uid);
    return;
  }
  if (clients_.size() >= kMaximumClients) {
    log_.warning("more than {} clients; one was turned away", kMaximumClients);
    return;
  }
  const int key = socket.get();
  auto connection = std::make_shared<Connection>(*this, std::move(socket));
  if (!loop_.watch(key, EPOLLIN, [raw = connection.get()](std::uint32_t events) { raw->shared_from_this()->on_events(events); })) return;
  clients_[key] = connection;
  connection->send({{"hello", kProtocolVersion}, {"machine", machine_}, {"process", ::getpid()}}, {});
}

void Server::drop(int socket) {
  loop_.unwatch(socket);
  clients_.erase(socket);
}

void Server::tell(const Event& event, int file) {
  const nlohmann::json message = to_json(event);
  for (const auto& [socket, client] : clients_) {
    if (client->watches(event)) client->send(message, UniqueFd(file < 0 ? -1 : ::fcntl(file, F_DUPFD_CLOEXEC, 0)));
  }
}

void Server::damage(Area area) {
  for (const auto& [socket, client] : clients_) client->damage(area);
}

}  // namespace bygone::service::control
