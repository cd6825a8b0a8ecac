#include "devices/integration/wide_text.h"

#include <algorithm>

namespace bygone::devices::integration {

namespace {

constexpr char32_t kReplacement = 0xFFFD;

/// Takes one character off the front of UTF-8 text.
char32_t take_character(std::string_view& text) {
  const auto first = static_cast<unsigned char>(text.front());
  text.remove_prefix(1);
  if (first < 0x80) return first;
  const int more = first >= 0xF0 && first < 0xF5 ? 3 : first >= 0xE0 && first < 0xF0 ? 2 : first >= 0xC2 && first < 0xE0 ? 1 : 0;
  if (more == 0) return kReplacement;
  char32_t value = first & (0x3FU >> more);
  for (int i = 0; i < more; ++i) {
    if (text.empty() || (static_cast<unsigned char>(text.front()) & 0xC0) != 0x80) return kReplacement;
    value = value << 6 | (static_cast<unsigned char>(text.front()) & 0x3F);
    text.remove_prefix(1);
  }
  const bool overlong = (more == 2 && value < 0x800) || (more == 3 && value < 0x10000);
  return overlong || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000) ? kReplacement : value;
}

void put_utf8(std::string& text, char32_t value) {
  const auto add = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (value < 0x80) return add(value);
  if (value < 0x800) {
    add(0xC0 | value >> 6);
  } else if (value < 0x10000) {
    add(0xE0 | value >> 12);
    add(0x80 | (value >> 6 & 0x3F));
  } else {
    add(0xF0 | value >> 18);
    add(0x80 | (value >> 12 & 0x3F));
    add(0x80 | (value >> 6 & 0x3F));
  }
  add(0x80 | (value & 0x3F));
}

}  // namespace

std::size_t put_wide(std::string_view text, std::span<std::uint8_t> field) {
  std::size_t at = 0;
  const auto put = [&](char32_t unit) {
    field[at++] = static_cast<std::uint8_t>(unit);
    field[at++] = static_cast<std::uint8_t>(unit >> 8);
  };
  while (!text.empty()) {
    const char32_t value = take_character(text);
    const std::size_t needed = value >= 0x10000 ? 4 : 2;
    if (at + needed + 2 > field.size()) break;
    if (value >= 0x10000) {
      put(0xD800 + ((value - 0x10000) >> 10));
      put(0xDC00 + ((value - 0x10000) & 0x3FF));
    } else {
      put(value);
    }
  }
  put(0);
  return at;
}

std::string get_wide(std::span<const std::uint8_t> field, std::size_t bytes) {
  std::string text;
  const std::size_t end = std::min(bytes, field.size()) / 2 * 2;
  const auto unit_at = [&](std::size_t at) { return static_cast<char32_t>(field[at] | field[at + 1] << 8); };
  for (std::size_t at = 0; at < end; at += 2) {
    char32_t value = unit_at(at);
    if (value == 0) break;
    if (value >= 0xD800 && value < 0xE000) {
      const char32_t low = value < 0xDC00 && at + 2 < end ? unit_at(at + 2) : 0;
      if (low >= 0xDC00 && low < 0xE000) {
        value = 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
        at += 2;
      } else {
        value = kReplacement;
      }
    }
    put_utf8(text, value);
  }
  return text;
}

}  // namespace bygone::devices::integration
