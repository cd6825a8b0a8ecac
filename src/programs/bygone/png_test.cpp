#include "programs/bygone/png.h"

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <array>
#include <fstream>
#include <iterator>
#include <string>

namespace bygone::programs {
namespace {

TEST(write_png, file_has_the_pixels_in_red_green_blue) {
  const auto path = std::filesystem::temp_directory_path() / ("bygone-png-" + std::to_string(getpid()));
  const std::array<std::uint32_t, 2> pixels{0xFF112233, 0x00445566};
  const auto written = write_png(path, 2, 1, pixels);
  ASSERT_TRUE(written) << written.error().text();
  std::ifstream in(path, std::ios::binary);
  const std::string file(std::istreambuf_iterator<char>(in), {});
  std::filesystem::remove(path);

  ASSERT_EQ(file.substr(0, 8), "\x89PNG\r\n\x1a\n");
  EXPECT_EQ(file.substr(12, 4), "IHDR");
  const std::size_t data = file.find("IDAT");
  ASSERT_NE(data, std::string::npos);
  std::array<unsigned char, 16> line{};
  uLongf size = line.size();
  ASSERT_EQ(uncompress(line.data(), &size, reinterpret_cast<const Bytef*>(file.data()) + data + 4, static_cast<uLong>(file.size() - data - 4)), Z_OK);
  const std::array<unsigned char, 7> expected{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66};
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), line.begin()));
  EXPECT_EQ(size, expected.size());
}

TEST(write_png, refuses_what_is_no_picture) {
  const std::array<std::uint32_t, 2> pixels{};
  EXPECT_FALSE(write_png("/tmp/never", 2, 2, pixels));
  EXPECT_FALSE(write_png("/tmp/never", 0, 0, {}));
  EXPECT_FALSE(write_png("/no/such/folder/x.png", 2, 1, pixels));
}

}  // namespace
}  // namespace bygone::programs
