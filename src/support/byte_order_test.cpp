#include "support/byte_order.h"

#include <gtest/gtest.h>

namespace bygone {
namespace {

TEST(ByteOrder, little_keeps_low_byte_first) {
  le32 value = 0x11223344U;
  EXPECT_EQ(std::to_integer<int>(bytes_of(value)[0]), 0x44);
  EXPECT_EQ(value.value(), 0x11223344U);
}

TEST(ByteOrder, big_keeps_high_byte_first) {
  be32 value = 0x11223344U;
  EXPECT_EQ(std::to_integer<int>(bytes_of(value)[0]), 0x11);
  EXPECT_EQ(value.value(), 0x11223344U);
}

TEST(ByteOrder, swap_reverses) { EXPECT_EQ(swap_bytes<std::uint64_t>(0x0102030405060708ULL), 0x0807060504030201ULL); }

}  // namespace
}  // namespace bygone
