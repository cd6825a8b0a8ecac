// Strikes keys at a pace that guests bear: Linux hands keys to programs through buffers of 64 events, two or three to a key, and drops what a
// busy program has not fetched. A line of text at once would not arrive.
// Threading: the control loop's thread; keys are struck on the devices' loop.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "machine/gen2/machine.h"
#include "service/control/request.h"
#include "service/control/server.h"
#include "support/event_loop.h"

namespace bygone::programs::vm {

class Typist : public std::enable_shared_from_this<Typist> {
 public:
  /// Both outlive the typist.
  Typist(EventLoop& loop, machine::gen2::Machine& machine) : loop_(loop), machine_(machine) {}
  ~Typist();

  /// After all that was asked for before. Answered when the last key has been struck, or the first was not taken.
  void type(std::vector<service::control::Key> keys, service::control::Reply reply);

 private:
  struct Job {
    std::vector<service::control::Key> keys;
    std::size_t next = 0;
    service::control::Reply reply;
  };
  void strike_some();
  void on_struck(std::size_t count, bool were_taken);

  EventLoop& loop_;
  machine::gen2::Machine& machine_;
  std::deque<Job> jobs_;
  bool is_busy_ = false;
  std::optional<EventLoop::TimerId> pause_;
};

}  // namespace bygone::programs::vm
