// Writes every frame of an adapter into a file that Wireshark and tcpdump read, on its way to and from another back end.
// Format: pcapng (draft-ietf-opsawg-pcapng), sections 4.1 to 4.3, nanosecond time stamps, with each frame's direction.
//
// Threading: as Backend.
#pragma once

#include <filesystem>
#include <memory>

#include "network/backend.h"
#include "support/log.h"

namespace bygone::network {

/// Begins a new file. A file that cannot be written later ends the capture with a warning; the network goes on.
/// Errors: the file's.
[[nodiscard]] Result<std::unique_ptr<Backend>> capture(std::unique_ptr<Backend> inner, const std::filesystem::path& file, Log log);

}  // namespace bygone::network
