// The size of the session's screen, changed while it runs.
// Specification: X Resize and Rotate Extension 1.2.
// Threading: none; each call is a connection of its own.
#pragma once

#include <cstdint>
#include <string>

#include "support/result.h"

namespace bygone::agent {

/// Gives the first connected output of `display` a mode of this size, made for it when there is none, and the screen with it.
/// Errors: kNotFound (no X server), kUnsupported (it cannot change its size), kInvalidArgument (beyond its bounds), kIo (the driver
/// refused the mode).
[[nodiscard]] Result<void> set_screen_size(const std::string& display, std::uint32_t width, std::uint32_t height);

}  // namespace bygone::agent
