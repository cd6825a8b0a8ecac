// A TAP interface of the host's kernel: the guest is on the host's network, or on the bridge that the interface belongs to.
//
// The interface is made beforehand, for the user who runs the machine (docs/networks.md), or handed in as a descriptor.
// Threading: as Backend.
#pragma once

#include <memory>
#include <string>

#include "network/backend.h"
#include "support/event_loop.h"
#include "support/log.h"
#include "support/unique_fd.h"

namespace bygone::network {

struct TapOptions {
  std::string interface_name;  ///< empty: the descriptor's
  int descriptor = -1;         ///< an open TAP without packet information or offloads; taken over when not -1
};

/// Errors: kNotFound (no such interface, no /dev/net/tun), kPermissionDenied, kBusy, kInvalidArgument.
[[nodiscard]] Result<std::unique_ptr<Backend>> create_tap(EventLoop& loop, TapOptions options, Log log);

/// The same on any descriptor that reads and writes one frame at a time, such as a packet socket; for tests.
[[nodiscard]] std::unique_ptr<Backend> create_frame_descriptor(EventLoop& loop, UniqueFd descriptor, std::string name, Log log);

}  // namespace bygone::network
