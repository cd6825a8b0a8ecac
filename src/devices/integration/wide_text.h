// UTF-16 in fixed fields, as integration messages carry text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace bygone::devices::integration {

/// Writes UTF-8 `text` as UTF-16 with a terminating zero and returns the bytes used, zero included; cut to fit, never inside a
/// character. Broken UTF-8 becomes U+FFFD.
std::size_t put_wide(std::string_view text, std::span<std::uint8_t> field);
/// UTF-8 of the first `bytes` bytes of a field, up to a zero. Lone surrogates become U+FFFD.
[[nodiscard]] std::string get_wide(std::span<const std::uint8_t> field, std::size_t bytes);

}  // namespace bygone::devices::integration
