// Unix stream sockets by path, non-blocking.
// Threading: pure functions.
#pragma once

#include <filesystem>

#include "support/result.h"
#include "support/unique_fd.h"

namespace bygone::devices::sockets {

/// Takes the place of a socket that nobody listens on any more; only this user may connect.
/// Errors: kInvalidArgument (path too long), kAlreadyExists (somebody listens there), kIo.
[[nodiscard]] Result<UniqueFd> listen_at(const std::filesystem::path& path);
/// Never waits. Errors: kNotFound (nobody listens there), kBusy (its queue is full), kInvalidArgument, kIo.
[[nodiscard]] Result<UniqueFd> connect_to(const std::filesystem::path& path);

}  // namespace bygone::devices::sockets
