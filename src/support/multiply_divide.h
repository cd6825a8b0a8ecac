// a * b / c and a * b >> n without overflow in between, for rates and clocks.
#pragma once

#include <cstdint>

namespace bygone {

__extension__ using Uint128 = unsigned __int128;

/// a * b / c, rounded down, the low 64 bits. `c` is not 0.
[[nodiscard]] constexpr std::uint64_t multiply_divide(std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  return static_cast<std::uint64_t>(static_cast<Uint128>(a) * b / c);
}
/// The high 64 bits of a * b.
[[nodiscard]] constexpr std::uint64_t multiply_high(std::uint64_t a, std::uint64_t b) {
  return static_cast<std::uint64_t>(static_cast<Uint128>(a) * b >> 64);
}

}  // namespace bygone
