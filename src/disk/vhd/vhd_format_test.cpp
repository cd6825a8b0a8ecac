// The geometry that a VHD file states, against values worked out by hand from the specification's appendix "CHS calculation".
#include "disk/vhd/vhd_format.h"

#include <gtest/gtest.h>

namespace bygone::disk {
namespace {

struct Case {
  const char* what;
  std::uint64_t sectors;
  std::uint16_t cylinders;
  std::uint8_t heads;
  std::uint8_t sectors_per_track;
};

TEST(VhdGeometry, is_what_the_specification_computes) {
  constexpr std::uint64_t kMebibyte = 2048;
  for (const Case& disk : {Case{"at least 4 heads", 10 * kMebibyte, 301, 4, 17}, Case{"17 sectors a track", 100 * kMebibyte, 1003, 12, 17},
                           Case{"31 sectors a track", 200 * kMebibyte, 825, 16, 31}, Case{"63 sectors a track", 256 * kMebibyte, 520, 16, 63},
                           Case{"63 sectors a track", 1024 * kMebibyte, 2080, 16, 63},
                           Case{"the last one with 63", 65535ULL * 16 * 63 - 1, 65534, 16, 63},
                           Case{"255 sectors a track", 65535ULL * 16 * 63, 16191, 16, 255},
                           Case{"255 sectors a track", 40 * 1024 * kMebibyte, 20560, 16, 255},
                           Case{"as much as it can say", 65535ULL * 16 * 255, 65535, 16, 255},
                           Case{"more than it can say", 2040 * 1024 * kMebibyte, 65535, 16, 255}}) {
    const spec::vhd::Geometry geometry = vhd_geometry(disk.sectors);
    EXPECT_EQ(geometry.cylinders.value(), disk.cylinders) << disk.what << ", " << disk.sectors;
    EXPECT_EQ(geometry.heads, disk.heads) << disk.what << ", " << disk.sectors;
    EXPECT_EQ(geometry.sectors_per_track, disk.sectors_per_track) << disk.what << ", " << disk.sectors;
  }
}

}  // namespace
}  // namespace bygone::disk
