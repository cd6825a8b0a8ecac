// The network that needs no rights: libslirp as a router in this process, with DHCP, DNS, IPv6 and port forwards. The guest's
// connections become the host user's own sockets.
//
//   guest 10.0.2.15 (by DHCP), router and host 10.0.2.2, name server 10.0.2.3; fec0::/64 with fec0::2 and fec0::3
//
// Threading: as Backend: all of it on the adapter's loop; libslirp is not called from anywhere else.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "network/backend.h"
#include "support/event_loop.h"
#include "support/log.h"

namespace bygone::network {

struct PortForward {
  bool is_udp = false;
  std::string host_address = "127.0.0.1";  ///< IPv4; where the host listens
  std::uint16_t host_port = 0;
  std::uint16_t guest_port = 0;
};

struct NatOptions {
  std::vector<PortForward> forwards;
  std::string guest_name;  ///< sent with DHCP; empty: none
};

/// `loop` outlives the back end and has stopped when it is destroyed. Errors: kInvalidArgument (an address), kBusy and
/// kPermissionDenied (a forward's port).
[[nodiscard]] Result<std::unique_ptr<Backend>> create_nat(EventLoop& loop, NatOptions options, Log log);

}  // namespace bygone::network
