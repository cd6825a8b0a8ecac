#include "support/unix_address.h"

#include <sys/socket.h>

namespace bygone {

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return std::unexpected(Error{ErrorCode::kInvalidArgument,
                                 fmt::format("the socket's path \"{}\" has {} bytes, which is not 1 to {}", path, path.size(), sizeof address.sun_path - 1),
                                 "Choose a shorter directory, or set XDG_RUNTIME_DIR to one"});
  }
  path.copy(address.sun_path, path.size());
  return address;
}

}  // namespace bygone
