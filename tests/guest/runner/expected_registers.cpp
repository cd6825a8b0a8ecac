#include "guest/runner/expected_registers.h"

#include <charconv>
#include <optional>
#include <sstream>

namespace bygone::guest_tests {
namespace {

std::optional<std::uint64_t> parse_number(std::string_view text) {
  const bool is_hexadecimal = text.starts_with("0x");
  if (is_hexadecimal) text.remove_prefix(2);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, is_hexadecimal ? 16 : 10);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

Result<Registers> parse_expected_registers(std::string_view source) {
  constexpr std::string_view kMark = "// expects:";
  Registers expected;
  std::istringstream lines{std::string(source)};
  for (std::string line; std::getline(lines, line) && line.starts_with("//");) {
    if (!line.starts_with(kMark)) continue;
    std::istringstream words(line.substr(kMark.size()));
    for (std::string word; words >> word;) {
      const std::size_t sign = word.find('=');
      const auto number = sign == std::string::npos ? std::nullopt : parse_number(std::string_view(word).substr(sign + 1));
      if (!number) return fail(ErrorCode::kCorrupt, "\"{}\" does not say a register's value", word);
      if (!expected.emplace(word.substr(0, sign), *number).second) return fail(ErrorCode::kCorrupt, "\"{}\" names its register again", word);
    }
  }
  if (expected.empty()) return fail(ErrorCode::kCorrupt, "the source's head has no line \"{}\"", kMark);
  return expected;
}

std::string compare_registers(const Registers& expected, const Registers& found) {
  std::string differences;
  for (const auto& [name, value] : expected) {
    const auto place = found.find(name);
    if (place == found.end()) {
      differences += fmt::format("; there is no register {}", name);
    } else if (place->second != value) {
      differences += fmt::format("; {} is {:#x}, expected {:#x}", name, place->second, value);
    }
  }
  return differences.empty() ? differences : differences.substr(2);
}

}  // namespace bygone::guest_tests
