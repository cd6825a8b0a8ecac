// GUIDs in Microsoft's mixed-endian wire order (RFC 4122 fields, the first three little-endian).
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "support/result.h"

namespace bygone {

struct Guid {
  std::array<std::uint8_t, 16> bytes = {};  ///< wire order

  friend constexpr auto operator<=>(const Guid&, const Guid&) = default;
  [[nodiscard]] constexpr bool is_zero() const { return *this == Guid{}; }

  /// A random (version 4) GUID from the kernel's generator.
  [[nodiscard]] static Guid random();
  /// Parses "99221fa0-24ad-11e2-be98-001aa01bbf6e", with or without braces. Errors: kInvalidArgument.
  [[nodiscard]] static Result<Guid> parse(std::string_view text);
  /// Lower case, no braces.
  [[nodiscard]] std::string text() const;
};
static_assert(sizeof(Guid) == 16 && alignof(Guid) == 1);

/// A GUID literal: make_guid(0xcfa8b69e, 0x5b4a, 0x4cc0, {0xb9, 0x8b, …}).
[[nodiscard]] constexpr Guid make_guid(std::uint32_t a, std::uint16_t b, std::uint16_t c,
                                       const std::array<std::uint8_t, 8>& d) {
  Guid guid;
  for (unsigned i = 0; i < 4; ++i) guid.bytes[i] = static_cast<std::uint8_t>(a >> (8 * i));
  for (unsigned i = 0; i < 2; ++i) guid.bytes[4 + i] = static_cast<std::uint8_t>(b >> (8 * i));
  for (unsigned i = 0; i < 2; ++i) guid.bytes[6 + i] = static_cast<std::uint8_t>(c >> (8 * i));
  for (unsigned i = 0; i < 8; ++i) guid.bytes[8 + i] = d[i];
  return guid;
}

}  // namespace bygone
