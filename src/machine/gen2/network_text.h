// A machine's network adapters as people write them, on command lines and in definitions: nat, tap:NAME, fd:NUMBER, unplugged or none, then settings.
//
//   nat[,forward=tcp|udp:[ADDRESS:]HOSTPORT:GUESTPORT]…[,mac=AA:BB:CC:DD:EE:FF][,capture=FILE]
//
// Threading: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "machine/gen2/network_part.h"
#include "support/result.h"

namespace bygone::machine::gen2 {

/// Adapters in order; a machine for which nothing is said has one behind NAT. Errors: kInvalidArgument.
[[nodiscard]] Result<std::vector<NetworkOptions>> parse_networks(const std::vector<std::string>& arguments);

}  // namespace bygone::machine::gen2
