#include "service/control/key_codes.h"

#include <algorithm>
#include <array>

namespace bygone::service::control {
namespace {

constexpr Key kLeftShift{.code = 0x2A};

/// A row of keys: the code of the first, and what the keys in a row write without and with Shift.
struct Row {
  std::uint8_t first;
  std::string_view plain, shifted;
};
constexpr std::array<Row, 8> kRows = {{
    {0x02, "1234567890-=\b\t", "!@#$%^&*()_+\b\t"},
    {0x10, "qwertyuiop[]\n", "QWERTYUIOP{}\n"},
    {0x1E, "asdfghjkl;'`", "ASDFGHJKL:\"~"},
    {0x2B, "\\zxcvbnm,./", "|ZXCVBNM<>?"},
    {0x39, " ", " "},
    {0x01, "\x1B", "\x1B"},
    {0x0E, "\x7F", "\x7F"},
    {0x1C, "\r", "\r"},
}};

struct NamedKey {
  std::string_view name;
  std::uint8_t code;
  bool is_e0 = false;
};
constexpr std::array kNamedKeys = std::to_array<NamedKey>({
    {"esc", 0x01}, {"backspace", 0x0E}, {"tab", 0x0F}, {"enter", 0x1C}, {"ctrl", 0x1D}, {"shift", 0x2A}, {"alt", 0x38}, {"space", 0x39},
    {"capslock", 0x3A}, {"f1", 0x3B}, {"f2", 0x3C}, {"f3", 0x3D}, {"f4", 0x3E}, {"f5", 0x3F}, {"f6", 0x40}, {"f7", 0x41}, {"f8", 0x42},
    {"f9", 0x43}, {"f10", 0x44}, {"numlock", 0x45}, {"scrolllock", 0x46}, {"f11", 0x57}, {"f12", 0x58}, {"altgr", 0x38, true},
    {"rightctrl", 0x1D, true}, {"home", 0x47, true}, {"up", 0x48, true}, {"pageup", 0x49, true}, {"left", 0x4B, true},
    {"right", 0x4D, true}, {"end", 0x4F, true}, {"down", 0x50, true}, {"pagedown", 0x51, true}, {"insert", 0x52, true},
    {"del", 0x53, true}, {"super", 0x5B, true}, {"menu", 0x5D, true}, {"print", 0x37, true},
});

struct Press {
  Key key;
  bool with_shift = false;
};

bool find_press(char character, Press& press) {
  for (const Row& row : kRows) {
    std::size_t at = row.plain.find(character);
    press.with_shift = at == std::string_view::npos;
    if (press.with_shift) at = row.shifted.find(character);
    if (at == std::string_view::npos) continue;
    press.key.code = static_cast<std::uint8_t>(row.first + at);
    return true;
  }
  return false;
}

Key released(Key key) {
  key.is_release = true;
  return key;
}

}  // namespace

Result<std::vector<Key>> keys_for_text(std::string_view text) {
  std::vector<Key> keys;
  for (std::size_t i = 0; i < text.size(); ++i) {
    Press press;
    if (!find_press(text[i], press)) {
      return std::unexpected(Error{ErrorCode::kUnsupported, fmt::format("byte {} of the text, {:#04x}, is on no key of a US keyboard", i + 1, static_cast<unsigned char>(text[i])),
                                   "Use ASCII text, or \"bygone type --keys\" for keys by name"});
    }
    if (press.with_shift) keys.push_back(kLeftShift);
    keys.push_back(press.key);
    keys.push_back(released(press.key));
    if (press.with_shift) keys.push_back(released(kLeftShift));
  }
  return keys;
}

Result<std::vector<Key>> keys_for_combination(std::string_view names) {
  std::vector<Key> keys;
  std::size_t start = 0;
  while (start <= names.size()) {
    // A hyphen of its own is the key.
    const std::size_t end = std::min(names.find('-', start + 1), names.size());
    const std::string_view name = names.substr(start, end - start);
    const auto* const known = std::ranges::find(kNamedKeys, name, &NamedKey::name);
    Press press;
    if (known != kNamedKeys.end()) {
      keys.push_back({.code = known->code, .is_e0 = known->is_e0});
    } else if (name.size() == 1 && find_press(name[0], press) && !press.with_shift) {
      keys.push_back(press.key);
    } else {
      std::string all;
      for (const NamedKey& key : kNamedKeys) all += fmt::format("{}{}", all.empty() ? "" : ", ", key.name);
      return std::unexpected(Error{ErrorCode::kInvalidArgument, fmt::format("there is no key \"{}\"", name), "Keys: a letter, digit or sign, " + all});
    }
    start = end + 1;
  }
  for (std::size_t i = keys.size(); i > 0; --i) keys.push_back(released(keys[i - 1]));
  return keys;
}

}  // namespace bygone::service::control
