// COM1 for whoever wants it: what the guest writes goes to every attached stream, and the last of it to those that attach later; what
// they write goes to the guest.
//
//   serial port ⇄ socket pair ⇄ hub ⇄ socket pairs ⇄ bygone console, …
// Threading: everything on the event loop's thread.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>

#include "support/event_loop.h"
#include "support/result.h"
#include "support/unique_fd.h"

namespace bygone::programs::vm {

class ConsoleHub {
 public:
  static constexpr std::size_t kKeptBytes = 65536;
  static constexpr std::size_t kMaximumStreams = 16;

  [[nodiscard]] static Result<std::unique_ptr<ConsoleHub>> create(EventLoop& loop);
  ~ConsoleHub();

  /// The descriptor that the serial port reads and writes; does not block.
  [[nodiscard]] int port() const { return port_.get(); }
  /// A new stream, which first brings what is kept. Errors: kExhausted.
  [[nodiscard]] Result<UniqueFd> attach();

 private:
  struct Stream {
    UniqueFd socket;
    std::string waiting;
  };
  ConsoleHub(EventLoop& loop, UniqueFd port, UniqueFd own) : loop_(loop), port_(std::move(port)), own_(std::move(own)) {}
  void on_output();
  void on_stream(int key, std::uint32_t events);
  void send(int key);
  void drop(int key);

  EventLoop& loop_;
  UniqueFd port_, own_;
  std::string kept_;
  std::map<int, Stream> streams_;
};

}  // namespace bygone::programs::vm
