// UTF-16 as disk images keep names in, and UTF-8 as the host keeps them. Threading: pure functions.
#pragma once

#include <string>
#include <string_view>

namespace bygone::disk {

/// Unpaired surrogates become U+FFFD.
[[nodiscard]] std::string to_utf8(std::u16string_view text);
/// Bytes that are not UTF-8 become U+FFFD.
[[nodiscard]] std::u16string to_utf16(std::string_view text);

}  // namespace bygone::disk
