#include "support/guid.h"

#include <gtest/gtest.h>

namespace bygone {
namespace {

constexpr const char* kText = "99221fa0-24ad-11e2-be98-001aa01bbf6e";

TEST(Guid, parse_and_text_agree) {
  EXPECT_EQ(Guid::parse(kText).value().text(), kText);
  EXPECT_EQ(Guid::parse(std::string("{") + kText + "}").value().text(), kText);
}

TEST(Guid, wire_order_is_mixed_endian) {
  const Guid guid = Guid::parse(kText).value();
  EXPECT_EQ(guid.bytes[0], 0xa0);
  EXPECT_EQ(guid.bytes[8], 0xbe);
  EXPECT_EQ(guid, make_guid(0x99221fa0, 0x24ad, 0x11e2, {0xbe, 0x98, 0x00, 0x1a, 0xa0, 0x1b, 0xbf, 0x6e}));
}

TEST(Guid, parse_refuses_nonsense) {
  for (const char* text : {"", "99221fa0", "99221fa0-24ad-11e2-be98-001aa01bbf6", "99221fa0+24ad-11e2-be98-001aa01bbf6e",
                           "g9221fa0-24ad-11e2-be98-001aa01bbf6e"}) {
    EXPECT_FALSE(Guid::parse(text)) << text;
  }
}

TEST(Guid, random_ones_differ_and_are_version_4) {
  const Guid guid = Guid::random();
  EXPECT_NE(guid, Guid::random());
  EXPECT_EQ(guid.bytes[7] >> 4, 4);
}

}  // namespace
}  // namespace bygone
