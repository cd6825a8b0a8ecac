// Little- and big-endian values at any alignment. The host is x86-64 (little-endian); the types keep wire order explicit.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace bygone {

static_assert(std::endian::native == std::endian::little, "Bygone runs on x86-64");

/// Reverses the bytes of an integer.
template <std::unsigned_integral T>
[[nodiscard]] constexpr T swap_bytes(T value) {
  T result = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    result = static_cast<T>((sizeof(T) > 1 ? static_cast<T>(result << 8) : T{0}) | static_cast<T>(value & 0xFF));
    if constexpr (sizeof(T) > 1) value = static_cast<T>(value >> 8);
  }
  return result;
}

/// A little-endian integer of alignment 1, for wire structs.
template <std::unsigned_integral T>
class Little {
 public:
  constexpr Little() = default;
  constexpr Little(T value) { *this = value; }  // NOLINT(google-explicit-constructor): reads as the integer it is
  constexpr Little& operator=(T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      bytes_[i] = static_cast<std::uint8_t>(value);
      if constexpr (sizeof(T) > 1) value = static_cast<T>(value >> 8);
    }
    return *this;
  }
  [[nodiscard]] constexpr T value() const {
    T result = 0;
    for (std::size_t i = sizeof(T); i-- > 0;) {
      if constexpr (sizeof(T) > 1) result = static_cast<T>(result << 8);
      result = static_cast<T>(result | bytes_[i]);
    }
    return result;
  }
  constexpr operator T() const { return value(); }  // NOLINT(google-explicit-constructor)

 private:
  std::uint8_t bytes_[sizeof(T)] = {};
};

/// A big-endian integer of alignment 1, for wire structs (VHD, SCSI, network headers).
template <std::unsigned_integral T>
class Big {
 public:
  constexpr Big() = default;
  constexpr Big(T value) : stored_(swap_bytes(value)) {}  // NOLINT(google-explicit-constructor)
  [[nodiscard]] constexpr T value() const { return swap_bytes(stored_.value()); }
  constexpr operator T() const { return value(); }  // NOLINT(google-explicit-constructor)

 private:
  Little<T> stored_;
};

using le16 = Little<std::uint16_t>;
using le32 = Little<std::uint32_t>;
using le64 = Little<std::uint64_t>;
using be16 = Big<std::uint16_t>;
using be32 = Big<std::uint32_t>;
using be64 = Big<std::uint64_t>;
static_assert(sizeof(le64) == 8 && alignof(le64) == 1 && sizeof(be32) == 4 && alignof(be32) == 1);

/// The bytes of a trivially copyable object.
template <typename T>
  requires std::is_trivially_copyable_v<T>
[[nodiscard]] std::span<const std::byte> bytes_of(const T& object) {
  return std::as_bytes(std::span<const T, 1>(&object, 1));
}
template <typename T>
  requires std::is_trivially_copyable_v<T>
[[nodiscard]] std::span<std::byte> writable_bytes_of(T& object) {
  return std::as_writable_bytes(std::span<T, 1>(&object, 1));
}

}  // namespace bygone
