// How people name a socket service: an AF_VSOCK port ("1234", "0x4d2") or a service GUID.
// Threading: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "support/guid.h"
#include "support/result.h"

namespace bygone::devices::sockets {

/// Errors: kInvalidArgument.
[[nodiscard]] Result<Guid> parse_service(std::string_view text);
/// A port in decimal, or the GUID; parse_service() reads it back.
[[nodiscard]] std::string service_text(const Guid& service);

}  // namespace bygone::devices::sockets
