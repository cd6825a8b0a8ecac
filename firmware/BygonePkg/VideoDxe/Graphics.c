/** @file
  EFI_GRAPHICS_OUTPUT_PROTOCOL (UEFI 2.10, 12.9) on the framebuffer.

  SPDX-License-Identifier: Apache-2.0
**/
#include "Video.h"

typedef struct {
  UINT16    Width;
  UINT16    Height;
} RESOLUTION;

/// Mode 0 is the default. All fit into 8 MiB with 32 bits a pixel.
STATIC CONST RESOLUTION  mResolutions[] = {
  { 1024, 768  }, { 640,  480  }, { 800,  600  }, { 1152, 864 }, { 1280, 720 }, { 1280, 800  }, { 1280, 960 },
  { 1280, 1024 }, { 1440, 900  }, { 1600, 900  }, { 1600, 1200 }, { 1680, 1050 }, { 1920, 1080 }
};

STATIC VOID
Describe (
  IN  UINT32                                Mode,
  OUT EFI_GRAPHICS_OUTPUT_MODE_INFORMATION  *Information
  )
{
  ZeroMem (Information, sizeof (*Information));
  Information->HorizontalResolution = mResolutions[Mode].Width;
  Information->VerticalResolution   = mResolutions[Mode].Height;
  Information->PixelFormat          = PixelBlueGreenRedReserved8BitPerColor;
  Information->PixelsPerScanLine    = mResolutions[Mode].Width;
}

STATIC EFI_STATUS
EFIAPI
QueryMode (
  IN  EFI_GRAPHICS_OUTPUT_PROTOCOL          *This,
  IN  UINT32                                ModeNumber,
  OUT UINTN                                 *SizeOfInfo,
  OUT EFI_GRAPHICS_OUTPUT_MODE_INFORMATION  **Info
  )
{
  if ((SizeOfInfo == NULL) || (Info == NULL) || (ModeNumber >= ARRAY_SIZE (mResolutions))) {
    return EFI_INVALID_PARAMETER;
  }

  *Info = AllocatePool (sizeof (**Info));
  if (*Info == NULL) {
    return EFI_OUT_OF_RESOURCES;
  }

  Describe (ModeNumber, *Info);
  *SizeOfInfo = sizeof (**Info);
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
SetMode (
  IN EFI_GRAPHICS_OUTPUT_PROTOCOL  *This,
  IN UINT32                        ModeNumber
  )
{
  VIDEO          *Video;
  RETURN_STATUS  Status;

  if (ModeNumber >= ARRAY_SIZE (mResolutions)) {
    return EFI_UNSUPPORTED;
  }

  Video = VIDEO_FROM_GRAPHICS (This);
  Describe (ModeNumber, &Video->Information);
  Status = FrameBufferBltConfigure (
             (VOID *)(UINTN)Video->FrameBuffer,
             &Video->Information,
             Video->Configure,
             &Video->ConfigureBytes
             );
  if (Status == RETURN_BUFFER_TOO_SMALL) {
    if (Video->Configure != NULL) {
      FreePool (Video->Configure);
    }

    Video->Configure = AllocatePool (Video->ConfigureBytes);
    if (Video->Configure == NULL) {
      Video->ConfigureBytes = 0;
      return EFI_OUT_OF_RESOURCES;
    }

    Status = FrameBufferBltConfigure (
               (VOID *)(UINTN)Video->FrameBuffer,
               &Video->Information,
               Video->Configure,
               &Video->ConfigureBytes
               );
  }

  if (RETURN_ERROR (Status)) {
    return EFI_DEVICE_ERROR;
  }

  Video->Mode.Mode            = ModeNumber;
  Video->Mode.FrameBufferBase = Video->FrameBuffer;
  Video->Mode.FrameBufferSize = (UINTN)Video->Information.PixelsPerScanLine * Video->Information.VerticalResolution * 4;
  SetMem32 ((VOID *)(UINTN)Video->FrameBuffer, Video->Mode.FrameBufferSize, 0);
  VideoSendSituation (Video);
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
Blt (
  IN EFI_GRAPHICS_OUTPUT_PROTOCOL       *This,
  IN EFI_GRAPHICS_OUTPUT_BLT_PIXEL      *BltBuffer OPTIONAL,
  IN EFI_GRAPHICS_OUTPUT_BLT_OPERATION  BltOperation,
  IN UINTN                              SourceX,
  IN UINTN                              SourceY,
  IN UINTN                              DestinationX,
  IN UINTN                              DestinationY,
  IN UINTN                              Width,
  IN UINTN                              Height,
  IN UINTN                              Delta
  )
{
  RETURN_STATUS  Status;
  EFI_TPL        Tpl;

  // Drawing from a timer event must not interleave with drawing from below.
  Tpl    = gBS->RaiseTPL (TPL_NOTIFY);
  Status = FrameBufferBlt (
             VIDEO_FROM_GRAPHICS (This)->Configure,
             BltBuffer,
             BltOperation,
             SourceX,
             SourceY,
             DestinationX,
             DestinationY,
             Width,
             Height,
             Delta
             );
  gBS->RestoreTPL (Tpl);
  return RETURN_ERROR (Status) ? EFI_INVALID_PARAMETER : EFI_SUCCESS;
}

VOID
VideoInitializeGraphics (
  IN OUT VIDEO  *Video
  )
{
  Video->Graphics.QueryMode = QueryMode;
  Video->Graphics.SetMode   = SetMode;
  Video->Graphics.Blt       = Blt;
  Video->Graphics.Mode      = &Video->Mode;
  Video->Mode.MaxMode       = ARRAY_SIZE (mResolutions);
  Video->Mode.Info          = &Video->Information;
  Video->Mode.SizeOfInfo    = sizeof (Video->Information);
}
