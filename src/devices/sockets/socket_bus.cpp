#include "devices/sockets/socket_bus.h"

#include "vmbus/server.h"

namespace bygone::devices::sockets {

SocketBus SocketBus::of(vmbus::Server& server, EventLoop& loop) {
  return {.is_ready = [&server] { return server.takes_sockets(); },
          .add = [&server, &loop](vmbus::Device& device) { return server.add_device(device, loop); },
          .remove = [&server](vmbus::Device& device, std::move_only_function<void()> removed) {
            server.remove_device(device, std::move(removed));
          },
          .refuse = [&server](const Guid& endpoint, const Guid& service) { server.refuse_socket(endpoint, service); }};
}

}  // namespace bygone::devices::sockets
