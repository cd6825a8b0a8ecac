// Sizes as people write them: "512M", "40G", "1.5T", "4096". Binary units. Threading: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "support/result.h"

namespace bygone {

/// Units K, M, G, T, P with an optional "iB" or "B", any case; none: bytes. Errors: kInvalidArgument with an example.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text);

/// "40 GiB", "1.5 MiB", "17 bytes".
[[nodiscard]] std::string size_text(std::uint64_t bytes);

}  // namespace bygone
