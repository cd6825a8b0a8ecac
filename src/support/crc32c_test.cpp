#include "support/crc32c.h"

#include <gtest/gtest.h>

#include <string_view>

namespace bygone {
namespace {

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

TEST(Crc32c, check_value_of_the_catalogue) { EXPECT_EQ(crc32c(bytes("123456789")), 0xE3069283U); }

TEST(Crc32c, continues_from_a_part) {
  EXPECT_EQ(crc32c(bytes("56789"), crc32c(bytes("1234"))), crc32c(bytes("123456789")));
}

}  // namespace
}  // namespace bygone
