// CBOR (RFC 8949) as our own files use it: definite lengths, whole numbers, bounded depth, so that a hostile file costs no more than its size.
// Threading: pure functions.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "support/result.h"

namespace bygone {

[[nodiscard]] std::vector<std::byte> to_cbor(const nlohmann::json& value);
/// One value that fills `bytes`. Errors: kCorrupt.
[[nodiscard]] Result<nlohmann::json> from_cbor(std::span<const std::byte> bytes);

}  // namespace bygone
