#include "devices/video/edid.h"

#include <algorithm>
#include <span>
#include <string_view>

namespace bygone::devices::video {
namespace {

constexpr std::uint16_t kLargestSide = 4095;       // twelve bits
constexpr std::uint32_t kHorizontalBlanking = 160;  // VESA CVT 1.1, reduced blanking
constexpr std::uint32_t kVerticalBlanking = 40;
constexpr std::string_view kName = "Bygone";

constexpr std::uint8_t low(std::uint32_t value) { return static_cast<std::uint8_t>(value); }
constexpr std::uint8_t upper(std::uint32_t value) { return static_cast<std::uint8_t>(value >> 8 & 0x0F); }

/// Section 3.10.2: a detailed timing, which as the first is the preferred one.
void put_timing(std::span<std::uint8_t> into, std::uint32_t width, std::uint32_t height) {
  const std::uint32_t dots = (width + kHorizontalBlanking) * (height + kVerticalBlanking);
  const std::uint32_t clock = std::min<std::uint32_t>(dots / 1000 * 6, 0xFFFF);  // 60 Hz, in units of 10 kHz
  into[0] = low(clock);
  into[1] = low(clock >> 8);
  into[2] = low(width);
  into[3] = low(kHorizontalBlanking);
  into[4] = static_cast<std::uint8_t>(upper(width) << 4);
  into[5] = low(height);
  into[6] = low(kVerticalBlanking);
  into[7] = static_cast<std::uint8_t>(upper(height) << 4);
  into[8] = 48;    // front porch and
  into[9] = 32;    // sync of a line,
  into[10] = 0x36;  // and of a picture: 3 and 6 lines
  into[17] = 0x1A;  // separate syncs, the horizontal one positive
}

}  // namespace

std::array<std::uint8_t, 128> make_edid(std::uint16_t width, std::uint16_t height) {
  if (width == 0 || height == 0 || width > kLargestSide || height > kLargestSide) width = 1024, height = 768;
  std::array<std::uint8_t, 128> edid = {0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x00,
                                        0x36, 0x68, 0x2E, 0x06};  // maker and product of Hyper-V's monitor: guests know it
  edid[17] = 25;                                                  // made in 2015
  edid[18] = 1, edid[19] = 4;
  edid[20] = 0x80;  // digital
  edid[23] = 0x78;  // gamma 2.2
  edid[24] = 0x06;  // sRGB; the first timing is the native one
  constexpr std::array<std::uint8_t, 10> kSrgb = {0xEE, 0x91, 0xA3, 0x54, 0x4C, 0x99, 0x26, 0x0F, 0x50, 0x54};
  std::ranges::copy(kSrgb, edid.begin() + 25);
  edid[35] = 0x21, edid[36] = 0x08;  // 640x480, 800x600, 1024x768 at 60 Hz
  std::fill(edid.begin() + 38, edid.begin() + 54, std::uint8_t{0x01});  // no standard timings
  put_timing(std::span(edid).subspan(54, 18), width, height);
  edid[75] = 0xFC;  // the monitor's name, ended by a line feed and filled with spaces
  std::fill(edid.begin() + 77, edid.begin() + 90, std::uint8_t{' '});
  std::ranges::copy(kName, edid.begin() + 77);
  edid[77 + kName.size()] = '\n';
  edid[93] = edid[111] = 0x10;  // nothing more
  std::uint8_t sum = 0;
  for (const std::uint8_t byte : edid) sum = static_cast<std::uint8_t>(sum + byte);
  edid[127] = static_cast<std::uint8_t>(-sum);
  return edid;
}

}  // namespace bygone::devices::video
