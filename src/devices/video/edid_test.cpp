#include "devices/video/edid.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>

namespace bygone::devices::video {
namespace {

struct Size {
  int width, height;
  friend bool operator==(Size, Size) = default;
};
Size preferred(const std::array<std::uint8_t, 128>& edid) {
  return {edid[56] | (edid[58] & 0xF0) << 4, edid[59] | (edid[61] & 0xF0) << 4};
}

TEST(EdidTest, block_is_whole_and_says_the_preferred_size) {
  for (const Size size : {Size{1024, 768}, {1, 1}, {1367, 769}, {3840, 2160}, {4095, 4095}}) {
    const auto edid = make_edid(static_cast<std::uint16_t>(size.width), static_cast<std::uint16_t>(size.height));
    EXPECT_EQ(std::accumulate(edid.begin(), edid.end(), 0) % 256, 0);
    EXPECT_EQ(edid[0], 0);
    EXPECT_TRUE(std::all_of(edid.begin() + 1, edid.begin() + 7, [](std::uint8_t byte) { return byte == 0xFF; }));
    EXPECT_EQ(preferred(edid), size);
    EXPECT_NE(edid[54] | edid[55] << 8, 0) << "a clock of zero would make it another kind of descriptor";
  }
  const auto edid = make_edid(1024, 768);
  EXPECT_EQ((edid[54] | edid[55] << 8) / 100, 57) << "MHz: 1184 x 808 at 60 Hz";
  EXPECT_EQ(std::string(edid.begin() + 77, edid.begin() + 84), "Bygone\n");
}

TEST(EdidTest, sizes_that_a_block_cannot_tell_are_replaced) {
  EXPECT_EQ(preferred(make_edid(7680, 4320)), (Size{1024, 768}));
  EXPECT_EQ(preferred(make_edid(0, 0)), (Size{1024, 768}));
}

}  // namespace
}  // namespace bygone::devices::video
