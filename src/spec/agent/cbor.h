// The part of CBOR that the agent protocol uses: definite lengths, text keys, no tags, no floating point, bounded depth and
// number of items. Specification: RFC 8949; docs/agent-protocol.md says which part.
// Threading: values and pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "support/result.h"

namespace bygone::spec::agent {

/// Nesting of arrays and maps that is read; deeper input is refused, so that no input can use up the stack.
inline constexpr int kMaximumCborDepth = 8;
/// Items of all kinds in one message; bounds the memory that a message can make its reader take.
inline constexpr std::size_t kMaximumCborItems = 65536;

class CborValue;
using CborBytes = std::vector<std::byte>;
using CborArray = std::vector<CborValue>;
using CborEntry = std::pair<std::string, CborValue>;
/// In the order of the message; keys are unique.
using CborMap = std::vector<CborEntry>;

/// One value. Negative integers below -2^63 and unsigned ones are told apart by their alternative.
class CborValue {
 public:
  using Variant = std::variant<std::monostate, bool, std::uint64_t, std::int64_t, std::string, CborBytes, CborArray, CborMap>;

  CborValue() = default;
  template <typename T>
    requires std::is_constructible_v<Variant, T>
  explicit CborValue(T value) : value_(std::move(value)) {}

  template <typename T>
  [[nodiscard]] const T* as() const {
    return std::get_if<T>(&value_);
  }
  [[nodiscard]] const Variant& variant() const { return value_; }

 private:
  Variant value_;
};

/// The value under a key, or nullptr.
[[nodiscard]] const CborValue* find(const CborMap& map, std::string_view key);

/// The shortest encoding of a value.
[[nodiscard]] std::vector<std::byte> encode_cbor(const CborValue& value);

/// Exactly one value that fills `bytes`. Errors: kCorrupt (not CBOR, truncated, trailing bytes, a key twice or not text),
/// kUnsupported (tags, floating point, indefinite lengths), kExhausted (depth or number of items).
[[nodiscard]] Result<CborValue> decode_cbor(std::span<const std::byte> bytes);

}  // namespace bygone::spec::agent
