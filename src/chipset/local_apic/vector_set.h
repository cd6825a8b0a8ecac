// 256 bits in the local APIC's register layout: eight 32-bit words.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <optional>

namespace bygone::chipset {

class VectorSet {
 public:
  [[nodiscard]] bool test(std::uint8_t vector) const { return (words_[vector / 32U] >> (vector % 32U) & 1U) != 0; }
  void set(std::uint8_t vector) { words_[vector / 32U] |= 1U << (vector % 32U); }
  void clear(std::uint8_t vector) { words_[vector / 32U] &= ~(1U << (vector % 32U)); }
  void assign(std::uint8_t vector, bool value) { value ? set(vector) : clear(vector); }
  void clear_all() { words_ = {}; }
  [[nodiscard]] std::optional<std::uint8_t> highest() const {
    for (std::uint32_t i = 8; i-- > 0;) {
      if (words_[i] != 0) return static_cast<std::uint8_t>(i * 32U + 31U - static_cast<std::uint32_t>(std::countl_zero(words_[i])));
    }
    return std::nullopt;
  }
  [[nodiscard]] std::uint32_t word(std::size_t index) const { return words_[index]; }
  void set_word(std::size_t index, std::uint32_t value) { words_[index] = value; }

 private:
  std::array<std::uint32_t, 8> words_ = {};
};

}  // namespace bygone::chipset
