// The control socket of a running machine: takes clients of the same user, gives their requests to a handler, and tells events.
// Specification: docs/control-protocol.md.
//
//   accept → greeting → packet → parse_request → Handler::handle → Reply → packet
// A client that does not read loses log lines, gets screen damage in fewer and larger areas, and is dropped when replies pile up: nothing
// here waits for a client.
// Threading: everything on the event loop's thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "service/control/event.h"
#include "service/control/packet.h"
#include "service/control/request.h"
#include "support/event_loop.h"
#include "support/log.h"

namespace bygone::service::control {

class Connection;

/// The answer to one request, to be given once, now or later. One that is never given answers with an error.
class Reply {
 public:
  Reply(std::weak_ptr<Connection> connection, std::uint64_t id) : connection_(std::move(connection)), id_(id) {}
  Reply(Reply&& other) noexcept : connection_(std::exchange(other.connection_, {})), id_(other.id_) {}
  Reply& operator=(Reply&&) = delete;
  ~Reply();
  void done(nlohmann::json fields = nlohmann::json::object(), UniqueFd file = {});
  void refuse(const Error& error);
  /// done() or refuse().
  void finish(const Result<void>& outcome);

 private:
  std::weak_ptr<Connection> connection_;
  std::uint64_t id_;
};

/// What a client that begins to watch the screen is told first. Without a file there is no picture, or no pointer.
struct ScreenNow {
  ScreenMode mode;
  UniqueFd mode_file;
  PointerShape pointer;
  UniqueFd pointer_file;
  PointerMoved place;
};

class Handler {
 public:
  virtual ~Handler() = default;
  virtual void handle(RequestBody request, std::vector<UniqueFd> files, Reply reply) = 0;
  virtual ScreenNow screen() = 0;
};

class Server {
 public:
  static constexpr std::size_t kMaximumClients = 32;

  /// Listens at `path`, mode 0600; a socket that nobody listens at is replaced. `handler` outlives the server.
  [[nodiscard]] static Result<std::unique_ptr<Server>> create(EventLoop& loop, std::string machine, const std::string& path, Handler& handler, Log log);
  ~Server();

  /// To those that watch the screen (ScreenMode, PointerShape, PointerMoved), the log (LogLine), or to all (the others).
  void tell(const Event& event, int file = -1);
  /// To those that watch the screen; gathered until each can take it.
  void damage(Area area);
  /// From now on nobody new: the socket's name is free for another process.
  void stop_listening();
  /// Sends what waits, as far as clients take it, and closes.
  void close();

 private:
  friend class Connection;
  Server(EventLoop& loop, std::string machine, std::string path, Handler& handler, Log log);
  void on_connection();
  void drop(int socket);

  EventLoop& loop_;
  const std::string machine_, path_;
  Handler& handler_;
  Log log_;
  UniqueFd listener_;
  std::map<int, std::shared_ptr<Connection>> clients_;
};

}  // namespace bygone::service::control
