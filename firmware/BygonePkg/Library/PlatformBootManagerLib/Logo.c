/** @file
  The boot logo, drawn rather than stored: a desktop window of long ago with a sunset in it.

  SPDX-License-Identifier: Apache-2.0
**/
#include "PlatformBootManager.h"
#include <Protocol/PlatformLogo.h>

#define WIDTH      192
#define HEIGHT     160
#define BORDER     4
#define TITLE      20
#define HORIZON    112
#define SUN_X      96
#define SUN_Y      104
#define SUN_RADIUS 40

STATIC EFI_GRAPHICS_OUTPUT_BLT_PIXEL
Color (
  IN UINT8  Red,
  IN UINT8  Green,
  IN UINT8  Blue
  )
{
  EFI_GRAPHICS_OUTPUT_BLT_PIXEL  Pixel;

  Pixel.Red      = Red;
  Pixel.Green    = Green;
  Pixel.Blue     = Blue;
  Pixel.Reserved = 0;
  return Pixel;
}

STATIC EFI_GRAPHICS_OUTPUT_BLT_PIXEL
PixelAt (
  IN INTN  X,
  IN INTN  Y
  )
{
  INTN  SunX;
  INTN  SunY;

  if ((X < BORDER) || (X >= WIDTH - BORDER) || (Y < BORDER) || (Y >= HEIGHT - BORDER)) {
    // Light from the top left.
    return ((X < BORDER) || (Y < BORDER)) ? Color (0xE8, 0xE8, 0xE8) : Color (0x80, 0x80, 0x80);
  }

  if (Y < BORDER + TITLE) {
    // The three buttons at the right of the title bar.
    if ((Y >= BORDER + 5) && (Y < BORDER + TITLE - 5) && (X >= WIDTH - 56) && (((WIDTH - BORDER - X) % 16) >= 5)) {
      return Color (0xC8, 0xC8, 0xC8);
    }

    return Color ((UINT8)(X / 4), (UINT8)(0x30 + X / 4), (UINT8)(0x70 + X / 2));
  }

  SunX = X - SUN_X;
  SunY = Y - SUN_Y;
  if (Y < HORIZON) {
    if (SunX * SunX + SunY * SunY < SUN_RADIUS * SUN_RADIUS) {
      return Color (0xFF, (UINT8)(0xE0 - Y), 0x50);
    }

    return Color ((UINT8)(0x30 + Y), (UINT8)(0x30 + Y / 2), (UINT8)(0x88 - Y / 4));
  }

  // The sun's path on the water, broken by waves.
  if ((SunX * SunX < (HEIGHT - Y) * 18) && ((Y % 6) < 3)) {
    return Color (0xF0, 0x90, 0x50);
  }

  return Color (0x20, (UINT8)(0x60 - (Y - HORIZON)), 0x78);
}

STATIC EFI_STATUS
EFIAPI
GetImage (
  IN     EDKII_PLATFORM_LOGO_PROTOCOL           *This,
  IN OUT UINT32                                 *Instance,
  OUT    EFI_IMAGE_INPUT                        *Image,
  OUT    EDKII_PLATFORM_LOGO_DISPLAY_ATTRIBUTE  *Attribute,
  OUT    INTN                                   *OffsetX,
  OUT    INTN                                   *OffsetY
  )
{
  INTN  X;
  INTN  Y;

  if (*Instance != 0) {
    return EFI_NOT_FOUND;
  }

  ++*Instance;
  Image->Flags  = 0;
  Image->Width  = WIDTH;
  Image->Height = HEIGHT;
  Image->Bitmap = AllocatePool (WIDTH * HEIGHT * sizeof (*Image->Bitmap));
  if (Image->Bitmap == NULL) {
    return EFI_OUT_OF_RESOURCES;
  }

  for (Y = 0; Y < HEIGHT; ++Y) {
    for (X = 0; X < WIDTH; ++X) {
      Image->Bitmap[Y * WIDTH + X] = PixelAt (X, Y);
    }
  }

  *Attribute = EdkiiPlatformLogoDisplayAttributeCenter;
  *OffsetX   = 0;
  *OffsetY   = 0;
  return EFI_SUCCESS;
}

STATIC EDKII_PLATFORM_LOGO_PROTOCOL  mLogo = { GetImage };

VOID
LogoPublish (
  VOID
  )
{
  EFI_HANDLE  Handle;

  Handle = NULL;
  gBS->InstallMultipleProtocolInterfaces (&Handle, &gEdkiiPlatformLogoProtocolGuid, &mLogo, NULL);
}
