#include "support/cbor.h"

#include <gtest/gtest.h>

namespace bygone {
namespace {

Result<nlohmann::json> decode(std::initializer_list<unsigned> values) {
  std::vector<std::byte> bytes;
  for (const unsigned value : values) bytes.push_back(std::byte{static_cast<std::uint8_t>(value)});
  return from_cbor(bytes);
}

TEST(Cbor, values_come_back) {
  const nlohmann::json value = {{"number", ~0ULL}, {"negative", -7}, {"yes", true}, {"nothing", nullptr}, {"text", "Bygone"},
                                {"list", {1, 2, {{"deep", false}}}}, {"bytes", nlohmann::json::binary({1, 2, 3})}};
  const auto decoded = from_cbor(to_cbor(value));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, value);
}

TEST(Cbor, deep_nesting_is_refused_without_recursion) {
  const std::vector<std::byte> lists(1 << 20, std::byte{0x81});
  EXPECT_FALSE(from_cbor(lists));
}

TEST(Cbor, malformed_is_refused) {
  EXPECT_FALSE(decode({}));
  EXPECT_FALSE(decode({0x82, 0x01}));              // a list that ends early
  EXPECT_FALSE(decode({0x01, 0x01}));              // more than one value
  EXPECT_FALSE(decode({0x9B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}));  // 2^64 - 1 items
  EXPECT_FALSE(decode({0xBB, 0x80, 0, 0, 0, 0, 0, 0, 0}));                       // a map whose items overflow
  EXPECT_FALSE(decode({0x5F, 0xFF}));              // indefinite length
  EXPECT_FALSE(decode({0xF9, 0x3C, 0x00}));        // floating point
  EXPECT_FALSE(decode({0xC0, 0x01}));              // a tag
  EXPECT_FALSE(decode({0xA1, 0x01, 0x01}));        // a key that is no text
  EXPECT_TRUE(decode({0x18, 0x2A}));
}

}  // namespace
}  // namespace bygone
