#include "cpu/translator/decode_cache.h"

#include <gtest/gtest.h>

#include "cpu/translator/state.h"

namespace bygone::cpu::translator {
namespace {

Decoded of_length(std::uint8_t length) {
  Decoded decoded;
  decoded.length = length;
  return decoded;
}

TEST(DecodeCacheTest, instruction_is_found_where_and_how_it_was_read) {
  DecodeCache cache;
  const std::uint64_t key = DecodeCache::key(7, 0x123, kModeCode64);
  EXPECT_EQ(cache.find(key, 3), nullptr);
  cache.add(key, 3, of_length(5));
  ASSERT_NE(cache.find(key, 3), nullptr);
  EXPECT_EQ(cache.find(key, 3)->length, 5);
  EXPECT_EQ(cache.find(DecodeCache::key(7, 0x123, kModeCode32), 3), nullptr);
  EXPECT_EQ(cache.find(DecodeCache::key(7, 0x124, kModeCode64), 3), nullptr);
  EXPECT_EQ(cache.find(DecodeCache::key(8, 0x123, kModeCode64), 3), nullptr);
}

TEST(DecodeCacheTest, first_byte_of_ram_in_16_bit_code_is_a_key) {
  DecodeCache cache;
  const std::uint64_t key = DecodeCache::key(0, 0, kModeCode16);
  EXPECT_EQ(cache.find(key, 0), nullptr) << "what was never decoded";
  cache.add(key, 0, of_length(1));
  EXPECT_NE(cache.find(key, 0), nullptr);
}

TEST(DecodeCacheTest, instruction_of_an_overwritten_page_is_not_found) {
  DecodeCache cache;
  const std::uint64_t key = DecodeCache::key(7, 0x123, kModeCode64);
  cache.add(key, 3, of_length(5));
  EXPECT_EQ(cache.find(key, 4), nullptr);
  cache.add(key, 4, of_length(2));
  EXPECT_EQ(cache.find(key, 3), nullptr);
  EXPECT_EQ(cache.find(key, 4)->length, 2);
}

TEST(DecodeCacheTest, more_instructions_than_places_leave_only_true_ones) {
  DecodeCache cache;
  constexpr std::uint32_t kMany = 4U << DecodeCache::kPlaceBits;
  const auto key = [](std::uint32_t i) { return DecodeCache::key(i / 1024, i % 1024 * 4, kModeCode64); };
  for (std::uint32_t i = 0; i < kMany; ++i) cache.add(key(i), 1, of_length(static_cast<std::uint8_t>(i % 15)));
  std::uint32_t found = 0;
  for (std::uint32_t i = 0; i < kMany; ++i) {
    const Decoded* decoded = cache.find(key(i), 1);
    if (decoded == nullptr) continue;
    ++found;
    ASSERT_EQ(decoded->length, i % 15);
  }
  EXPECT_LE(found, 1U << DecodeCache::kPlaceBits);
  EXPECT_GT(found, 1U << (DecodeCache::kPlaceBits - 1)) << "the places are used";
}

TEST(DecodeCacheTest, nothing_is_found_after_clear) {
  DecodeCache cache;
  const std::uint64_t key = DecodeCache::key(7, 0x123, kModeCode64);
  cache.add(key, 3, of_length(5));
  cache.clear();
  EXPECT_EQ(cache.find(key, 3), nullptr);
}

}  // namespace
}  // namespace bygone::cpu::translator
