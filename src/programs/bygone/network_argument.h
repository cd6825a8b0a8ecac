// What --network says: nat, tap:NAME, fd:NUMBER, unplugged or none, then settings.
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

namespace bygone::programs {

/// Adapters in order; a machine for which nothing is said has one behind NAT. Errors: kInvalidArgument.
[[nodiscard]] Result<std::vector<machine::gen2::NetworkOptions>> parse_networks(const std::vector<std::string>& arguments);

}  // namespace bygone::programs
