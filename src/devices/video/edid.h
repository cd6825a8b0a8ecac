// What the synthetic monitor tells of itself: VESA Enhanced EDID 1.4, one block.
// Threading: a pure function.
#pragma once

#include <array>
#include <cstdint>

namespace bygone::devices::video {

/// `width` and `height`: the preferred size, told as far as a block can tell it (up to 4095 a side), else 1024x768.
[[nodiscard]] std::array<std::uint8_t, 128> make_edid(std::uint16_t width, std::uint16_t height);

}  // namespace bygone::devices::video
