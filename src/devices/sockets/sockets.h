// The machine's sockets: programs on the host and programs in the guest connect to each other, through Unix sockets in one directory
// and AF_VSOCK (or Hyper-V socket services) in the guest. docs/sockets.md tells people how to use it.
//
//   DIR/guest-PORT   connect: a stream to what listens on PORT in the guest
//   DIR/connect      connect, write "CONNECT PORT\n", read "OK PORT\n" or "ERROR why\n": the same for any port or service GUID
//   DIR/host-PORT    listen there: guests that connect to the host's PORT (or DIR/host-GUID: to that service) come here
//
// Bounded: kMaximumConnections at a time, in both directions together.
// Threading: connect_from_guest() from any thread; create() and the destructor while `loop` does not run; everything else is on
// the loop; save(), restore() and inspect() wait for the loop, which another thread runs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "devices/sockets/connection.h"
#include "devices/sockets/greeting.h"
#include "devices/sockets/socket_bus.h"
#include "support/event_loop.h"
#include "support/log.h"
#include "support/result.h"
#include "support/unique_fd.h"

namespace bygone::devices::sockets {

inline constexpr std::size_t kMaximumConnections = 128;

struct SocketsOptions {
  std::filesystem::path directory;   ///< made when it is not there; for this user alone
  std::vector<std::uint32_t> ports;  ///< of the guest's, that get a socket of their own
  std::chrono::milliseconds open_limit = std::chrono::seconds(5);
};

class Sockets {
 public:
  /// Errors: kAlreadyExists (another machine uses the directory), kInvalidArgument (its path is too long), kPermissionDenied, kIo.
  [[nodiscard]] static Result<std::unique_ptr<Sockets>> create(SocketsOptions options, EventLoop& loop, SocketBus bus, Log log);
  ~Sockets();
  Sockets(const Sockets&) = delete;
  Sockets& operator=(const Sockets&) = delete;

  /// A guest program connects: the bus's socket connector.
  void connect_from_guest(const Guid& endpoint, const Guid& service);

  /// Which connections there are. Their host programs cannot be saved: a restored guest is told that they are gone.
  [[nodiscard]] nlohmann::json save();
  /// Before the bus is restored. Errors: kCorrupt.
  [[nodiscard]] Result<void> restore(const nlohmann::json& state);
  [[nodiscard]] nlohmann::json inspect();

 private:
  struct Listener {
    UniqueFd socket;
    std::filesystem::path path;
    std::optional<Guid> service;  ///< nothing: the one that the program names
  };
  struct Live {
    std::unique_ptr<Connection> connection;
    std::string greet_as;  ///< how the program at DIR/connect named the service; empty: it is not waiting for an answer
  };
  struct Statistics {
    std::uint64_t to_guest = 0, to_host = 0, refused = 0, not_taken = 0;
  };
  Sockets(SocketsOptions options, EventLoop& loop, SocketBus bus, Log log);

  [[nodiscard]] Result<void> listen(const std::string& name, std::optional<Guid> service);
  void accept_from(Listener& listener);
  [[nodiscard]] bool has_room() const { return live_.size() + greetings_.size() < kMaximumConnections; }
  void greet(UniqueFd socket);
  void greeted(std::uint64_t number, Result<Greeting::Wish> wish);
  void start_to_guest(UniqueFd socket, const Guid& service, std::string greet_as);
  void start_to_host(const Guid& endpoint, const Guid& service);
  [[nodiscard]] Result<void> start(ConnectionOptions options, std::string greet_as);
  void on_opened(std::uint64_t number);
  void on_leave(std::uint64_t number);

  SocketsOptions options_;
  EventLoop& loop_;
  SocketBus bus_;
  Log log_;
  RateLimit complaints_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::map<std::uint64_t, std::unique_ptr<Greeting>> greetings_;
  std::map<std::uint64_t, Live> live_;
  std::uint64_t next_number_ = 1;
  Statistics statistics_;
};

}  // namespace bygone::devices::sockets
