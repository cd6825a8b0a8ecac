#include "support/guid.h"

#include <sys/random.h>

#include <cctype>

namespace bygone {
namespace {
// Where each textual byte goes on the wire.
constexpr std::array<unsigned, 16> kWirePosition = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const int lower = std::tolower(static_cast<unsigned char>(c));
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}
}  // namespace

Guid Guid::random() {
  Guid guid;
  std::size_t have = 0;
  while (have < guid.bytes.size()) {
    const ssize_t got = ::getrandom(guid.bytes.data() + have, guid.bytes.size() - have, 0);
    if (got > 0) have += static_cast<std::size_t>(got);
  }
  guid.bytes[7] = static_cast<std::uint8_t>((guid.bytes[7] & 0x0F) | 0x40);
  guid.bytes[8] = static_cast<std::uint8_t>((guid.bytes[8] & 0x3F) | 0x80);
  return guid;
}

Result<Guid> Guid::parse(std::string_view text) {
  const std::string_view whole = text;
  if (text.size() == 38 && text.front() == '{' && text.back() == '}') text = text.substr(1, 36);
  const auto refuse = [&] {
    return fail(ErrorCode::kInvalidArgument, "\"{}\" is not a GUID of the form 99221fa0-24ad-11e2-be98-001aa01bbf6e", whole);
  };
  if (text.size() != 36) return refuse();
  Guid guid;
  std::size_t byte = 0;
  for (std::size_t i = 0; i < text.size();) {
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (text[i++] != '-') return refuse();
      continue;
    }
    const int high = hex_digit(text[i]);
    const int low = hex_digit(text[i + 1]);
    if (high < 0 || low < 0) return refuse();
    guid.bytes[kWirePosition[byte++]] = static_cast<std::uint8_t>(high * 16 + low);
    i += 2;
  }
  return guid;
}

std::string Guid::text() const {
  std::string result;
  for (std::size_t i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) result += '-';
    result += fmt::format("{:02x}", bytes[kWirePosition[i]]);
  }
  return result;
}

}  // namespace bygone
