/** @file
  Driver binding and the video channel:

    VERSION_REQUEST -> VERSION_RESPONSE -> VRAM_LOCATION -> ACK -> SITUATION_UPDATE (each mode) ...

  The framebuffer is memory that the host shows whether or not it is told of changes; a host that wants to be told says so
  (FEATURE_CHANGE), and then hears ten times a second that the whole picture may have changed: boot loaders draw without us.

  SPDX-License-Identifier: Apache-2.0
**/
#include "Video.h"
#include <Library/BlobLib.h>
#include <Library/VmbusDriverLib.h>

STATIC CONST EFI_GUID  mVideoInterface = {
  0xda0a7802, 0xe377, 0x4aac, { 0x8e, 0x77, 0x05, 0x58, 0xeb, 0x10, 0x73, 0xf8 }
};

#define RING_PAGES        4
#define START_TIMEOUT_NS  5000000000ULL
#define DIRT_PERIOD       1000000             ///< 100 ms in 100 ns units

/// Major version in the low half.
STATIC CONST UINT32  mVersions[] = { 0x00050003, 0x00020003, 0x00000003 };

STATIC EFI_STATUS
Send (
  IN VIDEO             *Video,
  IN OUT VIDEO_PACKET  *Packet,
  IN UINT32            Type,
  IN UINTN             PayloadBytes
  )
{
  Packet->PipeType  = VIDEO_PIPE_DATA;
  Packet->PipeBytes = (UINT32)(VIDEO_HEADER_BYTES - 8 + PayloadBytes);
  Packet->Type      = Type;
  Packet->Bytes     = Packet->PipeBytes;
  return Video->Channel->Send (Video->Channel, Packet, VIDEO_HEADER_BYTES + PayloadBytes, NULL, 0, 0, FALSE);
}

STATIC VOID
SendDirt (
  IN VIDEO  *Video
  )
{
  VIDEO_PACKET  Packet;

  ZeroMem (&Packet, sizeof (Packet));
  Packet.u.Dirt.Count  = 1;
  Packet.u.Dirt.Right  = (INT32)Video->Information.HorizontalResolution;
  Packet.u.Dirt.Bottom = (INT32)Video->Information.VerticalResolution;
  Send (Video, &Packet, VideoDirt, sizeof (Packet.u.Dirt));
}

STATIC VOID
HandleFeatureChange (
  IN OUT VIDEO               *Video,
  IN     CONST VIDEO_PACKET  *Feature
  )
{
  VIDEO_PACKET  Packet;

  if (((Feature->u.Feature.DirtNeeded != 0) != Video->DirtNeeded) && (Video->Tick != NULL)) {
    Video->DirtNeeded = (BOOLEAN)(Feature->u.Feature.DirtNeeded != 0);
    gBS->SetTimer (Video->Tick, Video->DirtNeeded ? TimerPeriodic : TimerCancel, DIRT_PERIOD);
  }

  if (Feature->u.Feature.SituationNeeded != 0) {
    VideoSendSituation (Video);
  }

  if (Feature->u.Feature.PointerPositionNeeded != 0) {
    ZeroMem (&Packet, sizeof (Packet));
    Send (Video, &Packet, VideoPointerPosition, sizeof (Packet.u.PointerPosition));
  }
}

STATIC VOID
EFIAPI
OnChannel (
  IN EFI_EVENT  Event,
  IN VOID       *Context
  )
{
  VIDEO         *Video;
  VIDEO_PACKET  Packet;

  Video = Context;
  while (!EFI_ERROR (VmbusDriverReceive (Video->Channel, &Packet, sizeof (Packet), NULL, NULL))) {
    if (Packet.Type == VideoFeatureChange) {
      HandleFeatureChange (Video, &Packet);
    }
  }
}

STATIC VOID
EFIAPI
OnTick (
  IN EFI_EVENT  Event,
  IN VOID       *Context
  )
{
  SendDirt (Context);
}

EFI_STATUS
VideoSendSituation (
  IN VIDEO  *Video
  )
{
  VIDEO_PACKET  Packet;

  if (Video->Information.HorizontalResolution == 0) {
    return EFI_NOT_READY;
  }

  ZeroMem (&Packet, sizeof (Packet));
  Packet.u.Situation.OutputCount = 1;
  Packet.u.Situation.Active      = 1;
  Packet.u.Situation.Depth       = 32;
  Packet.u.Situation.Width       = Video->Information.HorizontalResolution;
  Packet.u.Situation.Height      = Video->Information.VerticalResolution;
  Packet.u.Situation.Pitch       = Video->Information.PixelsPerScanLine * 4;
  return Send (Video, &Packet, VideoSituationUpdate, sizeof (Packet.u.Situation));
}

STATIC BOOLEAN
IsAwaited (
  IN OUT VOID        *Driver,
  IN     CONST VOID  *Packet,
  IN     UINT16      Type,
  IN     UINT64      Transaction
  )
{
  CONST VIDEO_PACKET  *Message;
  VIDEO               *Video;

  Video   = Driver;
  Message = Packet;
  if (Message->Type == VideoFeatureChange) {
    HandleFeatureChange (Video, Message);
  }

  return (BOOLEAN)(Message->Type == Video->Awaited);
}

/// Waits for a message of a type; a feature change in between is obeyed.
STATIC EFI_STATUS
WaitFor (
  IN OUT VIDEO         *Video,
  IN     UINT32        Type,
  OUT    VIDEO_PACKET  *Packet
  )
{
  Video->Awaited = Type;
  return VmbusDriverWaitFor (Video->Channel, Packet, sizeof (*Packet), START_TIMEOUT_NS, IsAwaited, Video);
}

STATIC EFI_STATUS
Negotiate (
  IN OUT VOID  *Driver
  )
{
  VIDEO         *Video;
  VIDEO_PACKET  Packet;
  EFI_STATUS    Status;
  UINTN         Index;

  Video  = Driver;
  Status = EFI_INCOMPATIBLE_VERSION;
  for (Index = 0; (Status == EFI_INCOMPATIBLE_VERSION) && (Index < ARRAY_SIZE (mVersions)); ++Index) {
    ZeroMem (&Packet, sizeof (Packet));
    Packet.u.Version = mVersions[Index];
    Status           = Send (Video, &Packet, VideoVersionRequest, sizeof (Packet.u.Version));
    if (!EFI_ERROR (Status)) {
      Status = WaitFor (Video, VideoVersionResponse, &Packet);
    }

    if (!EFI_ERROR (Status) && (Packet.u.VersionResponse.Accepted == 0)) {
      Status = EFI_INCOMPATIBLE_VERSION;
    }
  }

  if (EFI_ERROR (Status)) {
    return Status;
  }

  ZeroMem (&Packet, sizeof (Packet));
  Packet.u.VramLocation.Context   = Video->FrameBuffer;
  Packet.u.VramLocation.Specified = 1;
  Packet.u.VramLocation.Address   = Video->FrameBuffer;
  Status                          = Send (Video, &Packet, VideoVramLocation, sizeof (Packet.u.VramLocation));
  if (EFI_ERROR (Status)) {
    return Status;
  }

  return WaitFor (Video, VideoVramLocationAck, &Packet);
}

STATIC EFI_STATUS
EFIAPI
VideoSupported (
  IN EFI_DRIVER_BINDING_PROTOCOL  *This,
  IN EFI_HANDLE                   Controller,
  IN EFI_DEVICE_PATH_PROTOCOL     *Remaining OPTIONAL
  )
{
  return VmbusDriverSupports (This, Controller, &mVideoInterface);
}

STATIC VOID
Free (
  IN VIDEO  *Video
  )
{
  gBS->CloseEvent (Video->Tick);
  gBS->CloseEvent (Video->ChannelEvent);
  if (Video->Configure != NULL) {
    FreePool (Video->Configure);
  }

  FreePool (Video);
}

STATIC EFI_STATUS
EFIAPI
VideoStart (
  IN EFI_DRIVER_BINDING_PROTOCOL  *This,
  IN EFI_HANDLE                   Controller,
  IN EFI_DEVICE_PATH_PROTOCOL     *Remaining OPTIONAL
  )
{
  CONST BLOB_MMIO_RANGE  *Gaps;
  VIDEO                  *Video;
  EFI_STATUS             Status;

  Gaps = BlobFind (BlobMmioRanges, NULL);
  if ((Gaps == NULL) || (Gaps->Pages < EFI_SIZE_TO_PAGES (VIDEO_MEMORY_BYTES))) {
    return EFI_OUT_OF_RESOURCES;
  }

  Video = AllocateZeroPool (sizeof (*Video));
  if (Video == NULL) {
    return EFI_OUT_OF_RESOURCES;
  }

  Video->Signature   = VIDEO_SIGNATURE;
  Video->Handle      = Controller;
  Video->FrameBuffer = LShiftU64 (Gaps->FirstPage, EFI_PAGE_SHIFT);
  VideoInitializeGraphics (Video);
  gBS->CreateEvent (EVT_NOTIFY_SIGNAL, TPL_NOTIFY, OnChannel, Video, &Video->ChannelEvent);
  gBS->CreateEvent (EVT_TIMER | EVT_NOTIFY_SIGNAL, TPL_CALLBACK, OnTick, Video, &Video->Tick);

  Status = VmbusDriverOpen (This, Controller, &Video->Channel, RING_PAGES, Video->ChannelEvent, Negotiate, Video);
  if (!EFI_ERROR (Status)) {
    Status = Video->Graphics.SetMode (&Video->Graphics, 0);
    if (!EFI_ERROR (Status)) {
      Status = gBS->InstallMultipleProtocolInterfaces (
                      &Controller,
                      &gEfiGraphicsOutputProtocolGuid,
                      &Video->Graphics,
                      NULL
                      );
    }

    if (EFI_ERROR (Status)) {
      VmbusDriverClose (This, Controller, Video->Channel);
    }
  }

  if (EFI_ERROR (Status)) {
    DEBUG ((DEBUG_ERROR, "video: %r\n", Status));
    Free (Video);
  }

  return Status;
}

STATIC EFI_STATUS
EFIAPI
VideoStop (
  IN EFI_DRIVER_BINDING_PROTOCOL  *This,
  IN EFI_HANDLE                   Controller,
  IN UINTN                        NumberOfChildren,
  IN EFI_HANDLE                   *Children OPTIONAL
  )
{
  EFI_GRAPHICS_OUTPUT_PROTOCOL  *Graphics;
  VIDEO                         *Video;
  EFI_STATUS                    Status;

  Status = gBS->HandleProtocol (Controller, &gEfiGraphicsOutputProtocolGuid, (VOID **)&Graphics);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Video  = VIDEO_FROM_GRAPHICS (Graphics);
  Status = gBS->UninstallMultipleProtocolInterfaces (
                  Controller,
                  &gEfiGraphicsOutputProtocolGuid,
                  &Video->Graphics,
                  NULL
                  );
  if (EFI_ERROR (Status)) {
    return Status;
  }

  VmbusDriverClose (This, Controller, Video->Channel);
  Free (Video);
  return EFI_SUCCESS;
}

STATIC EFI_DRIVER_BINDING_PROTOCOL  mBinding = { VideoSupported, VideoStart, VideoStop, 0x10, NULL, NULL };

EFI_STATUS
EFIAPI
VideoEntry (
  IN EFI_HANDLE        ImageHandle,
  IN EFI_SYSTEM_TABLE  *SystemTable
  )
{
  return EfiLibInstallDriverBinding (ImageHandle, SystemTable, &mBinding, ImageHandle);
}
