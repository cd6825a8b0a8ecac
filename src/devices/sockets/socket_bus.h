// What the machine's sockets ask of the bus: so little that tests play it.
#pragma once

#include <functional>

#include "support/event_loop.h"
#include "vmbus/device.h"

namespace bygone::vmbus {
class Server;
}

namespace bygone::devices::sockets {

struct SocketBus {
  /// The guest has a bus connection by which it could open a socket's channel.
  std::function<bool()> is_ready;
  std::function<Result<void>(vmbus::Device&)> add;
  /// `removed` is called on any thread.
  std::function<void(vmbus::Device&, std::move_only_function<void()> removed)> remove;
  std::function<void(const Guid& endpoint, const Guid& service)> refuse;

  /// The real one. `server` and `loop`, on which the connections live, outlive the result's use.
  [[nodiscard]] static SocketBus of(vmbus::Server& server, EventLoop& loop);
};

}  // namespace bygone::devices::sockets
