// A string instruction as the run time gets it: packed into a word of its site.
#pragma once

#include <cstdint>

namespace bygone::cpu::translator::jit {

struct StringOperation {
  bool is_move = false;  ///< MOVS; otherwise STOS
  bool repeat = false;
  bool is_32 = false;    ///< 32-bit addresses and count
  std::uint8_t shift = 0;  ///< log2 of the element's bytes

  [[nodiscard]] constexpr std::uint32_t pack() const {
    return (is_move ? 1U : 0U) | (repeat ? 2U : 0U) | (is_32 ? 4U : 0U) | static_cast<std::uint32_t>(shift) << 3;
  }
  [[nodiscard]] static constexpr StringOperation unpack(std::uint32_t word) {
    return {(word & 1) != 0, (word & 2) != 0, (word & 4) != 0, static_cast<std::uint8_t>(word >> 3 & 3)};
  }
};

}  // namespace bygone::cpu::translator::jit
