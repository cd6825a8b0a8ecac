// Where in a JSON text a value stands, so that an error can point at its line.
// Threading: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bygone::library {

/// The line (from 1) on which byte `offset` stands.
[[nodiscard]] std::size_t line_at(std::string_view text, std::size_t offset);

/// The line on which the value at `path` (keys, and indexes as decimal text) begins. `text` is valid JSON; of equal keys the last
/// counts. What is not there has the line of the last part that is.
[[nodiscard]] std::size_t line_of(std::string_view text, const std::vector<std::string>& path);

}  // namespace bygone::library
