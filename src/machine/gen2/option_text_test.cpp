#include "machine/gen2/option_text.h"

#include <gtest/gtest.h>

namespace bygone::machine::gen2 {
namespace {

using Places = std::vector<std::uint8_t>;

TEST(BootOrderText, drives_become_places_disks_before_dvds) {
  EXPECT_EQ(parse_boot_order("", 1, 1).value(), Places{});
  EXPECT_EQ(parse_boot_order("disk", 1, 0).value(), Places{0});
  EXPECT_EQ(parse_boot_order("dvd2,disk,dvd,disk3", 3, 2).value(), (Places{4, 0, 3, 2}));
}

TEST(BootOrderText, what_is_no_drive_or_not_there_is_refused) {
  for (const char* text : {"floppy", "disk0", "disk-1", "diskette", "disk1x", "dvd,,disk", "disk99999999999999999999", " disk", "dis"}) {
    EXPECT_EQ(parse_boot_order(text, 9, 9).error().code, ErrorCode::kInvalidArgument) << text;
  }
  EXPECT_EQ(parse_boot_order("disk2", 1, 1).error().message, "the boot order names disk2, and there are 1 of its kind");
  EXPECT_FALSE(parse_boot_order("dvd", 1, 0));
}

}  // namespace
}  // namespace bygone::machine::gen2
