#include "support/cbor.h"

#include <limits>

namespace bygone {
namespace {

constexpr std::size_t kMaximumDepth = 24;

/// Whether the bytes are one well-formed value of bounded depth. The library's own reader recurses as deep as it is told to.
bool is_bounded(std::span<const std::byte> bytes) {
  std::vector<std::uint64_t> open = {1};  // items still due, by level
  std::size_t at = 0;
  while (!open.empty()) {
    if (open.back() == 0) {
      open.pop_back();
      continue;
    }
    --open.back();
    if (at >= bytes.size()) return false;
    const auto first = std::to_integer<std::uint8_t>(bytes[at++]);
    const std::uint8_t kind = first >> 5, detail = first & 0x1F;
    std::uint64_t argument = detail;
    if (detail >= 24) {
      if (detail > 27) return false;  // reserved, or of indefinite length
      const std::size_t width = std::size_t{1} << (detail - 24);
      if (bytes.size() - at < width) return false;
      argument = 0;
      for (std::size_t i = 0; i < width; ++i) argument = argument << 8 | std::to_integer<std::uint64_t>(bytes[at++]);
    }
    const std::uint64_t left = bytes.size() - at;
    switch (kind) {
      case 2:
      case 3:  // bytes, text
        if (argument > left) return false;
        at += static_cast<std::size_t>(argument);
        break;
      case 4:
      case 5:  // list, map: an item takes a byte at least
        if (argument > left || open.size() >= kMaximumDepth) return false;
        open.push_back(kind == 5 ? argument * 2 : argument);
        break;
      case 6: return false;  // tags
      case 7:                // true, false, null; no floating point, which no field is
        if (detail < 20 || detail > 22) return false;
        break;
      default: break;  // whole numbers
    }
  }
  return at == bytes.size();
}

}  // namespace

std::vector<std::byte> to_cbor(const nlohmann::json& value) {
  const std::vector<std::uint8_t> bytes = nlohmann::json::to_cbor(value);
  const auto* first = reinterpret_cast<const std::byte*>(bytes.data());
  return {first, first + bytes.size()};
}

Result<nlohmann::json> from_cbor(std::span<const std::byte> bytes) {
  if (!is_bounded(bytes)) return fail(ErrorCode::kCorrupt, "it is not well-formed");
  const auto* first = reinterpret_cast<const std::uint8_t*>(bytes.data());
  nlohmann::json value = nlohmann::json::from_cbor(first, first + bytes.size(), true, false);
  if (value.is_discarded()) return fail(ErrorCode::kCorrupt, "it is not well-formed");
  return value;
}

}  // namespace bygone
