/** @file
  The synthetic video's packets (Linux drivers/gpu/drm/hyperv describes the same wire format) and the driver's state.

  SPDX-License-Identifier: Apache-2.0
**/
#ifndef BYGONE_VIDEO_H_
#define BYGONE_VIDEO_H_

#include <Uefi.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/DebugLib.h>
#include <Library/FrameBufferBltLib.h>
#include <Library/MemoryAllocationLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Library/UefiLib.h>
#include <Protocol/GraphicsOutput.h>
#include <Protocol/VmbusChannel.h>

enum {
  VideoVersionRequest   = 1,
  VideoVersionResponse  = 2,
  VideoVramLocation     = 3,
  VideoVramLocationAck  = 4,
  VideoSituationUpdate  = 5,
  VideoSituationAck     = 6,
  VideoPointerPosition  = 7,
  VideoPointerShape     = 8,
  VideoFeatureChange    = 9,
  VideoDirt             = 10
};

#define VIDEO_PIPE_DATA  1

#pragma pack(1)

typedef struct {
  UINT32    PipeType;
  UINT32    PipeBytes;     ///< of what follows
  UINT32    Type;
  UINT32    Bytes;         ///< header included, pipe header not
  union {
    UINT32    Version;
    struct {
      UINT32    Version;
      UINT8     Accepted;
      UINT8     MaximumOutputs;
    } VersionResponse;
    struct {
      UINT64    Context;
      UINT8     Specified;
      UINT64    Address;
    } VramLocation;
    struct {
      UINT64    Context;
      UINT8     OutputCount;
      UINT8     Active;
      UINT32    VramOffset;
      UINT8     Depth;
      UINT32    Width;
      UINT32    Height;
      UINT32    Pitch;
    } Situation;
    struct {
      UINT8    DirtNeeded;
      UINT8    PointerPositionNeeded;
      UINT8    PointerShapeNeeded;
      UINT8    SituationNeeded;
      UINT8    EdidUpdated;
    } Feature;
    struct {
      UINT8    Output;
      UINT8    Count;
      INT32    Left;
      INT32    Top;
      INT32    Right;
      INT32    Bottom;
    } Dirt;
    struct {
      UINT8     Visible;
      UINT8     Output;
      INT32     X;
      INT32     Y;
    } PointerPosition;
  } u;
} VIDEO_PACKET;

#pragma pack()

#define VIDEO_HEADER_BYTES  OFFSET_OF (VIDEO_PACKET, u)

#define VIDEO_SIGNATURE  SIGNATURE_32 ('b', 'y', 'v', 'i')

typedef struct {
  UINT32                               Signature;
  EFI_HANDLE                           Handle;
  BYGONE_VMBUS_CHANNEL_PROTOCOL        *Channel;
  UINT32                               Awaited;          ///< the type of message that start-up waits for
  EFI_EVENT                            ChannelEvent;
  EFI_EVENT                            Tick;
  BOOLEAN                              DirtNeeded;
  EFI_PHYSICAL_ADDRESS                 FrameBuffer;
  EFI_GRAPHICS_OUTPUT_PROTOCOL         Graphics;
  EFI_GRAPHICS_OUTPUT_PROTOCOL_MODE    Mode;
  EFI_GRAPHICS_OUTPUT_MODE_INFORMATION Information;
  FRAME_BUFFER_CONFIGURE               *Configure;
  UINTN                                ConfigureBytes;
} VIDEO;

#define VIDEO_FROM_GRAPHICS(Graphics_)  (CR (Graphics_, VIDEO, Graphics, VIDEO_SIGNATURE))

/// The memory behind the framebuffer.
#define VIDEO_MEMORY_BYTES  SIZE_8MB

/// Fills in the protocol, no mode set yet.
VOID
VideoInitializeGraphics (
  IN OUT VIDEO  *Video
  );

/// Tells the host the current mode.
EFI_STATUS
VideoSendSituation (
  IN VIDEO  *Video
  );

#endif
