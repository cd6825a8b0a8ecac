// The first line that a program at DIR/connect sends: which of the guest's services it wants.
//
//   CONNECT 1234\n                                     AF_VSOCK port 1234, also as 0x4d2
//   CONNECT 00004247-facb-11e6-bd58-64006a7986d3\n     a service by its GUID
//
// Not a byte after the line is taken: those belong to the guest.
// Threading: one loop.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "support/event_loop.h"
#include "support/guid.h"
#include "support/result.h"
#include "support/unique_fd.h"

namespace bygone::devices::sockets {

/// Errors: kInvalidArgument. `line` is without its line feed.
struct Wish {
  Guid service;
  std::string name;  ///< as the program named it
};
[[nodiscard]] Result<Wish> parse_wish(std::string_view line);

class Greeting {
 public:
  using Wish = sockets::Wish;
  /// `done` is called once, from the loop; destroy the greeting, but not from within.
  Greeting(UniqueFd socket, EventLoop& loop, std::function<void(Result<Wish>)> done);
  ~Greeting();
  Greeting(const Greeting&) = delete;
  Greeting& operator=(const Greeting&) = delete;

  [[nodiscard]] UniqueFd take_socket() { return std::move(socket_); }

 private:
  void on_socket();
  void finish(Result<Wish> wish);

  UniqueFd socket_;
  EventLoop& loop_;
  std::function<void(Result<Wish>)> done_;
  std::optional<EventLoop::TimerId> timer_;
  std::string line_;
  bool is_watching_ = false;
};

}  // namespace bygone::devices::sockets
