#include "support/size_text.h"

#include <cctype>
#include <cmath>

namespace bygone {
namespace {
constexpr std::string_view kUnits = "KMGTP";
}

Result<std::uint64_t> parse_size(std::string_view text) {
  const auto refuse = [&] {
    return std::unexpected(Error{ErrorCode::kInvalidArgument, fmt::format("\"{}\" is not a size", text), "Write it as 512M, 40G or 1.5T"});
  };
  std::uint64_t whole = 0;
  std::size_t at = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    if (__builtin_mul_overflow(whole, std::uint64_t{10}, &whole) ||
        __builtin_add_overflow(whole, static_cast<std::uint64_t>(text[at] - '0'), &whole)) {
      return refuse();
    }
  }
  if (at == 0) return refuse();
  std::uint64_t tenths = 0, scale = 1;
  if (at < text.size() && text[at] == '.') {
    for (++at; at < text.size() && text[at] >= '0' && text[at] <= '9' && scale < 1000000; ++at) {
      tenths = tenths * 10 + static_cast<std::uint64_t>(text[at] - '0');
      scale *= 10;
    }
    if (scale == 1) return refuse();
  }
  unsigned shift = 0;
  if (at < text.size()) {
    const auto unit = kUnits.find(static_cast<char>(std::toupper(static_cast<unsigned char>(text[at]))));
    if (unit != std::string_view::npos) {
      shift = static_cast<unsigned>(10 * (unit + 1));
      ++at;
      if (at < text.size() && (text[at] == 'i' || text[at] == 'I')) ++at;
    }
    if (at < text.size() && (text[at] == 'B' || text[at] == 'b')) ++at;
  }
  if (at != text.size() || (shift == 0 && scale != 1)) return refuse();
  if (whole > (UINT64_MAX >> shift)) return refuse();
  return (whole << shift) + (tenths << shift) / scale;
}

std::string size_text(std::uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} byte{}", bytes, bytes == 1 ? "" : "s");
  std::size_t unit = 0;
  double value = static_cast<double>(bytes) / 1024;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  const bool is_whole = std::abs(value - std::round(value)) < 0.05;
  return is_whole ? fmt::format("{:.0f} {}iB", value, kUnits[unit]) : fmt::format("{:.1f} {}iB", value, kUnits[unit]);
}

}  // namespace bygone
