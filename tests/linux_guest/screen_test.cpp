// What a Linux guest draws with hyperv_drm can be seen. (hyperv_fb draws in the demo guest.)
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "linux_guest.h"

namespace bygone::tests {
namespace {

using namespace std::chrono_literals;
using machine::gen2::HumanDevices;

/// The share of the screen that has this colour.
double share_of(LinuxGuest& guest, std::uint32_t colour) {
  const auto picture = guest.machine().picture();
  if (!picture || picture->pixels.empty()) return 0;
  const auto count = std::ranges::count_if(picture->pixels, [&](std::uint32_t pixel) { return (pixel & 0xFFFFFF) == colour; });
  return static_cast<double>(count) / static_cast<double>(picture->pixels.size());
}

/// Fills the guest's framebuffer with a byte and waits until the host's picture shows it.
void expect_drawing_is_seen(LinuxGuest& guest, const std::string& driver) {
  guest.run(std::string(kWaitFor) + "modprobe " + driver + "; wait_for '[ -e /dev/fb0 ]'; echo 0 > /sys/class/graphics/fbcon/cursor_blink;"
            "tr '\\0' '\\125' < /dev/zero | dd of=/dev/fb0 bs=64k 2> /dev/null; true");
  double share = 0;
  for (int i = 0; i < 300 && share < 0.95; ++i) {
    share = share_of(guest, 0x555555);
    std::this_thread::sleep_for(100ms);
  }
  EXPECT_GE(share, 0.95) << driver << ": the colour covers the screen";
}

TEST(ScreenOnLinux, hyperv_drm_draws_on_our_screen_in_the_preferred_resolution) {
  LinuxGuest guest({.flavour = "full", .memory_megabytes = 384});
  ASSERT_TRUE(guest.is_up());
  guest.machine().with_human_devices([](HumanDevices devices) { EXPECT_TRUE(devices.video.prefer({1280, 720})); });
  expect_drawing_is_seen(guest, "hyperv_drm");
  const auto picture = guest.machine().picture();
  ASSERT_TRUE(picture);
  EXPECT_EQ(picture->width, 1280U);
  EXPECT_EQ(picture->height, 720U);
}

}  // namespace
}  // namespace bygone::tests
