#include "support/size_text.h"

#include <gtest/gtest.h>

namespace bygone {
namespace {

TEST(SizeText, sizes_are_read_in_binary_units) {
  EXPECT_EQ(parse_size("4096").value(), 4096U);
  EXPECT_EQ(parse_size("512M").value(), 512ULL << 20);
  EXPECT_EQ(parse_size("40g").value(), 40ULL << 30);
  EXPECT_EQ(parse_size("1.5T").value(), 3ULL << 39);
  EXPECT_EQ(parse_size("2GiB").value(), 2ULL << 30);
}

TEST(SizeText, nonsense_is_refused) {
  for (const char* text : {"", "G", "-1", "1X", "1.G", "1.5", "99999999999999999999", "99999999P", "12 G"}) EXPECT_FALSE(parse_size(text)) << text;
}

TEST(SizeText, sizes_are_written_shortly) {
  EXPECT_EQ(size_text(1), "1 byte");
  EXPECT_EQ(size_text(40ULL << 30), "40 GiB");
  EXPECT_EQ(size_text(3ULL << 19), "1.5 MiB");
}

}  // namespace
}  // namespace bygone
