// What the processors of a running machine have done, as a person reads it: `bygone inspect NAME cpu`.
// Threading: pure function.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace bygone::programs {

/// From the tree of `bygone inspect`, its part "cpu". What an engine does not count is left out.
[[nodiscard]] std::string cpu_view(const nlohmann::json& cpu);

}  // namespace bygone::programs
