// A client of one running machine: bygone's commands, the desktop window, tests. Specification: docs/control-protocol.md.
//
//   connect() → ask(…)… → the reply                            with an event loop: fd() readable → next_event(0) until nothing
// Events that come while a reply is awaited are kept for next_event().
// Threading: one thread; calls block until the reply is there or the time limit has passed.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "service/control/event.h"
#include "service/control/packet.h"
#include "service/control/request.h"

namespace bygone::service::control {

struct ClientEvent {
  Event event;
  std::vector<UniqueFd> fds;  ///< ScreenMode and PointerShape: one
};

class Client {
 public:
  /// To the machine of that name. Errors: kNotFound (it does not run), kPermissionDenied (another person's), kUnsupported (another
  /// version), kBusy (no answer within `limit`, which holds for later calls too).
  [[nodiscard]] static Result<std::unique_ptr<Client>> connect(const std::string& machine, std::chrono::milliseconds limit = std::chrono::seconds(10));

  /// The machine's name and process, as its greeting told.
  [[nodiscard]] const std::string& machine() const { return machine_; }
  [[nodiscard]] int process() const { return process_; }

  /// Sends a request and waits for its reply: the fields of an "ok". Errors: what the machine answered; kCancelled (it ended).
  [[nodiscard]] Result<Packet> ask(RequestBody body, std::span<const int> fds = {});
  /// Sends a request whose reply nobody waits for (keys, pointer): it is dropped when it comes. Errors: as sending has.
  [[nodiscard]] Result<void> tell(RequestBody body);

  /// The next event, or nothing when none has come within `limit`. Errors: kCancelled (the machine has ended).
  [[nodiscard]] Result<std::optional<ClientEvent>> next_event(std::chrono::milliseconds limit);
  void set_limit(std::chrono::milliseconds limit) { limit_ = limit; }

  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  using TimePoint = std::chrono::steady_clock::time_point;
  Client(UniqueFd socket, std::chrono::milliseconds limit) : socket_(std::move(socket)), limit_(limit) {}
  [[nodiscard]] Result<void> greet();
  /// The next packet, or nothing at the deadline.
  [[nodiscard]] Result<std::optional<Packet>> receive(TimePoint deadline);
  [[nodiscard]] Result<void> keep_event(Packet packet);

  UniqueFd socket_;
  std::chrono::milliseconds limit_;
  std::string machine_;
  int process_ = 0;
  std::uint64_t next_id_ = 1;
  std::deque<ClientEvent> events_;
};

}  // namespace bygone::service::control
