// From text to keys: what a person would press on a US keyboard (scan code set 1), and names of keys. Threading: pure functions.
#pragma once

#include <string_view>
#include <vector>

#include "service/control/request.h"

namespace bygone::service::control {

/// Presses and releases that write `text`. Errors: kUnsupported when a character is on no key of a US keyboard.
[[nodiscard]] Result<std::vector<Key>> keys_for_text(std::string_view text);

/// A combination such as "ctrl-alt-del", "f5", "super-r": all pressed in order, released in reverse. Errors: kInvalidArgument.
[[nodiscard]] Result<std::vector<Key>> keys_for_combination(std::string_view names);

}  // namespace bygone::service::control
