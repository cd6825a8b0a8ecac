/** @file
  One direction of a channel. Both indexes are bytes into the data area; the ring is never completely full. Each packet is
  followed by 8 bytes that hold where it began.

  SPDX-License-Identifier: Apache-2.0
**/
#include "Vmbus.h"

#define TRAILER_BYTES  8

VOID
RingFormat (
  OUT VMBUS_RING  *Ring,
  IN  VOID        *Pages,
  IN  UINTN       PageCount
  )
{
  Ring->Control = Pages;
  Ring->Data    = (UINT8 *)Pages + EFI_PAGE_SIZE;
  Ring->Bytes   = (UINT32)EFI_PAGES_TO_SIZE (PageCount - 1);
  // We signal the host when we have made the room that it waits for.
  Ring->Control->FeatureBits = BIT0;
}

STATIC UINT32
CopyIn (
  IN OUT VMBUS_RING  *Ring,
  IN     UINT32      Index,
  IN     CONST VOID  *From,
  IN     UINTN       Bytes
  )
{
  UINTN  First;

  First = MIN (Bytes, Ring->Bytes - Index);
  CopyMem (Ring->Data + Index, From, First);
  CopyMem (Ring->Data, (CONST UINT8 *)From + First, Bytes - First);
  Index += (UINT32)Bytes;
  return (Index >= Ring->Bytes) ? Index - Ring->Bytes : Index;
}

STATIC VOID
CopyOut (
  IN  VMBUS_RING  *Ring,
  IN  UINT32      Index,
  OUT VOID        *To,
  IN  UINTN       Bytes
  )
{
  UINTN  First;

  if (Index >= Ring->Bytes) {
    Index -= Ring->Bytes;
  }

  First = MIN (Bytes, Ring->Bytes - Index);
  CopyMem (To, Ring->Data + Index, First);
  CopyMem ((UINT8 *)To + First, Ring->Data, Bytes - First);
}

EFI_STATUS
RingSend (
  IN OUT VMBUS_RING          *Ring,
  IN     CONST VMBUS_PACKET  *Packet,
  IN     CONST VOID          *Parts[],
  IN     CONST UINTN         PartBytes[],
  IN     UINTN               PartCount,
  OUT    BOOLEAN             *Signal
  )
{
  UINT32  Read;
  UINT32  Start;
  UINT32  Write;
  UINT32  Room;
  UINT32  Bytes;
  UINT64  Zero;
  UINT64  Trailer;
  UINTN   Index;

  *Signal = FALSE;
  Read    = Ring->Control->ReadIndex;
  Start   = Ring->Control->WriteIndex;
  if (Read >= Ring->Bytes) {
    return EFI_DEVICE_ERROR;
  }

  Room  = (Start >= Read) ? Ring->Bytes - (Start - Read) : Read - Start;
  Bytes = (UINT32)Packet->Length8 * 8;
  if (Bytes + TRAILER_BYTES >= Room) {
    return EFI_NOT_READY;
  }

  Zero  = 0;
  Write = CopyIn (Ring, Start, Packet, sizeof (*Packet));
  Bytes -= sizeof (*Packet);
  for (Index = 0; Index < PartCount; ++Index) {
    Write  = CopyIn (Ring, Write, Parts[Index], PartBytes[Index]);
    Bytes -= (UINT32)PartBytes[Index];
  }

  ASSERT (Bytes < 8);
  Write   = CopyIn (Ring, Write, &Zero, Bytes);
  Trailer = LShiftU64 (Start, 32);
  Write   = CopyIn (Ring, Write, &Trailer, sizeof (Trailer));

  MemoryFence ();
  Ring->Control->WriteIndex = Write;
  FULL_FENCE ();
  // The host drains until it sees the ring empty: only a ring that was empty needs a signal.
  *Signal = (BOOLEAN)((Ring->Control->InterruptMask == 0) && (Ring->Control->ReadIndex == Start));
  return EFI_SUCCESS;
}

EFI_STATUS
RingReceive (
  IN OUT VMBUS_RING    *Ring,
  OUT    VMBUS_PACKET  *Packet,
  OUT    VOID          *Payload,
  IN OUT UINTN         *PayloadBytes,
  OUT    BOOLEAN       *Signal
  )
{
  UINT32  Read;
  UINT32  Write;
  UINT32  Used;
  UINT32  Bytes;
  UINT32  Offset;
  UINT32  RoomBefore;
  UINT32  Pending;

  *Signal = FALSE;
  Read    = Ring->Control->ReadIndex;
  Write   = Ring->Control->WriteIndex;
  if (Read == Write) {
    return EFI_NOT_READY;
  }

  if ((Read >= Ring->Bytes) || (Write >= Ring->Bytes)) {
    return EFI_DEVICE_ERROR;
  }

  MemoryFence ();
  Used = (Write >= Read) ? Write - Read : Ring->Bytes - (Read - Write);
  if (Used < sizeof (*Packet) + TRAILER_BYTES) {
    return EFI_DEVICE_ERROR;
  }

  CopyOut (Ring, Read, Packet, sizeof (*Packet));
  Bytes  = (UINT32)Packet->Length8 * 8;
  Offset = (UINT32)Packet->DataOffset8 * 8;
  if ((Offset < sizeof (*Packet)) || (Bytes < Offset) || (Bytes + TRAILER_BYTES > Used)) {
    return EFI_DEVICE_ERROR;
  }

  *PayloadBytes = MIN (*PayloadBytes, Bytes - Offset);
  CopyOut (Ring, Read + Offset, Payload, *PayloadBytes);

  RoomBefore = Ring->Bytes - Used;
  Bytes     += TRAILER_BYTES;
  Read      += Bytes;
  MemoryFence ();
  Ring->Control->ReadIndex = (Read >= Ring->Bytes) ? Read - Ring->Bytes : Read;
  // The host signals a ring that it finds empty after writing; we look again after reading.
  FULL_FENCE ();
  Pending = Ring->Control->PendingSendSize;
  *Signal = (BOOLEAN)((Pending != 0) && (RoomBefore <= Pending) && (RoomBefore + Bytes > Pending));
  return EFI_SUCCESS;
}

BOOLEAN
RingEmpty (
  IN CONST VMBUS_RING  *Ring
  )
{
  return (BOOLEAN)(Ring->Control->ReadIndex == Ring->Control->WriteIndex);
}
