// Where running machines are found: $XDG_RUNTIME_DIR/bygone/NAME/, mode 0700, the person's own.
//
//   control   the control socket         sockets/   the guest's sockets (hvsocket)
// Threading: plain functions.
#pragma once

#include <filesystem>
#include <string>

#include "support/result.h"

namespace bygone::service::control {

/// The folder of all machines; not made. XDG_RUNTIME_DIR, else /run/user/UID, else a folder of one's own in /tmp.
[[nodiscard]] std::filesystem::path runtime_root();
[[nodiscard]] std::filesystem::path runtime_directory(const std::string& machine);
[[nodiscard]] std::filesystem::path control_socket(const std::string& machine);
[[nodiscard]] std::filesystem::path guest_sockets(const std::string& machine);

/// Makes the machine's folder and those above it. Errors: kPermissionDenied when one is not the person's own and closed to others.
[[nodiscard]] Result<std::filesystem::path> make_runtime_directory(const std::string& machine);

}  // namespace bygone::service::control
