// The address of a socket in the file system (unix(7)).
// Threading: pure functions.
#pragma once

#include <sys/un.h>

#include <string>

#include "support/result.h"

namespace bygone {

/// Of a path of 1 to 107 bytes, which is all that the kernel takes. Errors: kInvalidArgument.
[[nodiscard]] Result<sockaddr_un> unix_address(const std::string& path);

}  // namespace bygone
