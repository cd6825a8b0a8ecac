// Carries GDB's remote protocol: one debugger at a time, on a TCP port of the loopback or a unix socket, on a thread of its own.
//
//   accept → Stub::connected → … bytes … → Stub::disconnected
//   a processor's thread: report_stop() → this thread: Target::stop(), Stub::stopped()
//
// Threading: create, address and destruction by the owner; report_stop() from any thread.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "machine/gdb/stub.h"
#include "support/log.h"
#include "support/unique_fd.h"

namespace bygone::machine::gdb {

class Server {
 public:
  /// `where` is "PORT" (of the loopback), "ADDRESS:PORT" or a path. Port 0: one that is free. `target` outlives the server.
  /// Errors: kInvalidArgument, the host's.
  [[nodiscard]] static Result<std::unique_ptr<Server>> create(const std::string& where, Target& target, Log log);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// What a debugger connects to: "127.0.0.1:1234" or the path.
  [[nodiscard]] const std::string& address() const { return address_; }
  /// `vp` met a breakpoint or ended its step, and runs no more. Returns at once.
  void report_stop(cpu::VpIndex vp);

 private:
  Server(Target& target, UniqueFd listener, UniqueFd wake, std::string address, std::string path, Log log);
  void serve();
  void accept_debugger();
  void read_debugger();
  void take_stop();
  void send(const std::string& bytes);
  void drop();

  Target& target_;
  Stub stub_;
  UniqueFd listener_, wake_, connection_;
  const std::string address_, path_;
  Log log_;
  std::mutex mutex_;
  bool is_stopping_ = false;               // guarded by mutex_
  std::optional<cpu::VpIndex> stopped_at_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace bygone::machine::gdb
