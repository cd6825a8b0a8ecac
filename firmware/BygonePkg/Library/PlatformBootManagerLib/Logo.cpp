// The boot logo, drawn rather than stored: a desktop window of long ago with a sunset in it.
// SPDX-License-Identifier: Apache-2.0
#include "PlatformBootManager.h"

extern "C" {
#include <Protocol/PlatformLogo.h>
}

namespace bygone::boot {
namespace {

using Pixel = EFI_GRAPHICS_OUTPUT_BLT_PIXEL;

constexpr INTN kWidth = 192;
constexpr INTN kHeight = 160;
constexpr INTN kBorder = 4;
constexpr INTN kTitle = 20;
constexpr INTN kHorizon = 112;
constexpr INTN kSunX = 96;
constexpr INTN kSunY = 104;
constexpr INTN kSunRadius = 40;

constexpr Pixel color(INTN red, INTN green, INTN blue) {
  return {static_cast<UINT8>(blue), static_cast<UINT8>(green), static_cast<UINT8>(red), 0};
}

/// Light from the top left.
constexpr Pixel border(INTN x, INTN y) { return x < kBorder || y < kBorder ? color(0xE8, 0xE8, 0xE8) : color(0x80, 0x80, 0x80); }

/// With three buttons at its right.
constexpr Pixel title(INTN x, INTN y) {
  const bool is_button_row = y >= kBorder + 5 && y < kBorder + kTitle - 5;
  const bool is_button_column = x >= kWidth - 56 && (kWidth - kBorder - x) % 16 >= 5;
  return is_button_row && is_button_column ? color(0xC8, 0xC8, 0xC8) : color(x / 4, 0x30 + x / 4, 0x70 + x / 2);
}

constexpr Pixel sky(INTN x, INTN y) {
  const INTN sun_x = x - kSunX;
  const INTN sun_y = y - kSunY;
  const bool is_sun = sun_x * sun_x + sun_y * sun_y < kSunRadius * kSunRadius;
  return is_sun ? color(0xFF, 0xE0 - y, 0x50) : color(0x30 + y, 0x30 + y / 2, 0x88 - y / 4);
}

/// With the sun's path on it, broken by waves.
constexpr Pixel water(INTN x, INTN y) {
  const INTN sun_x = x - kSunX;
  const bool is_path = sun_x * sun_x < (kHeight - y) * 18 && y % 6 < 3;
  return is_path ? color(0xF0, 0x90, 0x50) : color(0x20, 0x60 - (y - kHorizon), 0x78);
}

constexpr Pixel pixel(INTN x, INTN y) {
  if (x < kBorder || x >= kWidth - kBorder || y < kBorder || y >= kHeight - kBorder) return border(x, y);
  if (y < kBorder + kTitle) return title(x, y);
  return y < kHorizon ? sky(x, y) : water(x, y);
}

EFI_STATUS EFIAPI get_image(EDKII_PLATFORM_LOGO_PROTOCOL*, UINT32* instance, EFI_IMAGE_INPUT* image,
                            EDKII_PLATFORM_LOGO_DISPLAY_ATTRIBUTE* attribute, INTN* offset_x, INTN* offset_y) {
  if (*instance != 0) return EFI_NOT_FOUND;
  ++*instance;
  *image = {0, kWidth, kHeight, Pool<Pixel>::create_array(kWidth * kHeight).release()};
  if (image->Bitmap == nullptr) return EFI_OUT_OF_RESOURCES;
  Pixel* next = image->Bitmap;
  for (INTN y = 0; y < kHeight; ++y) {
    for (INTN x = 0; x < kWidth; ++x) *next++ = pixel(x, y);
  }
  *attribute = EdkiiPlatformLogoDisplayAttributeCenter;
  *offset_x = 0;
  *offset_y = 0;
  return EFI_SUCCESS;
}

EDKII_PLATFORM_LOGO_PROTOCOL protocol = {get_image};

}  // namespace

void publish_logo() {
  EFI_HANDLE handle = nullptr;
  gBS->InstallMultipleProtocolInterfaces(&handle, &gEdkiiPlatformLogoProtocolGuid, &protocol, nullptr);
}

}  // namespace bygone::boot
