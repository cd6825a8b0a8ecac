/** @file
  The bus driver's parts.

    HyperV.c   hypercall page, message and event pages, the interrupt
    Bus.c      negotiation, offers, waiting for answers, unload
    Channel.c  the channel protocol on one offer
    Ring.c     the ring pair's layout and indexes

  One processor. Messages are read only by HyperVWaitMessage, at any level up to TPL_NOTIFY; the interrupt handler touches nothing but
  the event flags.

  SPDX-License-Identifier: Apache-2.0
**/
#ifndef BYGONE_VMBUS_H_
#define BYGONE_VMBUS_H_

#include <PiDxe.h>
#include <BygoneHyperV.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/DebugLib.h>
#include <Library/MemoryAllocationLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Protocol/DevicePath.h>
#include <Protocol/VmbusChannel.h>
#include "Messages.h"

#define EVENT_FLAG_COUNT  2048

#pragma pack(1)

typedef struct {
  ACPI_EXTENDED_HID_DEVICE_PATH    Acpi;
  CHAR8                            Hid[6];
  CHAR8                            Uid[1];
  CHAR8                            Cid[1];
  VENDOR_DEVICE_PATH               Channel;
  EFI_GUID                         InterfaceType;
  EFI_GUID                         InterfaceInstance;
  EFI_DEVICE_PATH_PROTOCOL         End;
} VMBUS_CHANNEL_DEVICE_PATH;

#pragma pack()

/// One direction's ring: the control page and the data behind it.
typedef struct {
  volatile VMBUS_RING_CONTROL    *Control;
  UINT8                          *Data;
  UINT32                         Bytes;
} VMBUS_RING;

typedef struct {
  UINTN                            Signature;
  BYGONE_VMBUS_CHANNEL_PROTOCOL    Protocol;
  VMBUS_CHANNEL_DEVICE_PATH        DevicePath;
  EFI_HANDLE                       Handle;
  UINT32                           RelId;
  UINT32                           ConnectionId;
  BOOLEAN                          Opened;
  EFI_EVENT                        Event;
  VOID                             *Pages;
  UINTN                            PageCount;
  UINT32                           Gpadl;
  VMBUS_RING                       Send;
  VMBUS_RING                       Receive;
} VMBUS_CHANNEL;

#define VMBUS_CHANNEL_SIGNATURE  SIGNATURE_64 ('b', 'y', 'v', 'm', 'c', 'h', 'a', 'n')
#define CHANNEL_FROM_PROTOCOL(Protocol_)  \
  (CR (Protocol_, VMBUS_CHANNEL, Protocol, VMBUS_CHANNEL_SIGNATURE))

/// Orders a store before a later load, which the processor may otherwise swap: EDK II's MemoryFence stops only the compiler.
#define FULL_FENCE()  __asm__ __volatile__ ("lock; orl $0, (%%rsp)" ::: "memory", "cc")

// HyperV.c

EFI_STATUS
HyperVStart (
  VOID
  );

/// Everything off, in the order that leaves no page registered that the operating system may reuse.
VOID
HyperVStop (
  VOID
  );

EFI_STATUS
HyperVPostMessage (
  IN UINT32      ConnectionId,
  IN CONST VOID  *Message,
  IN UINTN       Bytes
  );

VOID
HyperVSignalEvent (
  IN UINT32  ConnectionId
  );

/// Takes the message in the slot, if there is one.
BOOLEAN
HyperVTakeMessage (
  OUT UINT8  Payload[HV_MESSAGE_PAYLOAD]
  );

/// Sleeps until the next interrupt unless Ready says that there is something to do.
VOID
HyperVIdle (
  IN BOOLEAN  (*Ready)(
    VOID  *Context
    ),
  IN VOID     *Context
  );

/// The event to signal when the host signals this channel.
VOID
HyperVSetEvent (
  IN UINT32     RelId,
  IN EFI_EVENT  Event OPTIONAL
  );

// Bus.c

EFI_STATUS
BusPost (
  IN CONST VOID  *Message,
  IN UINTN       Bytes
  );

/**
  Waits for a message of a type whose 32-bit field at Offset is Value. Other messages that arrive are dropped: the bus has one
  conversation at a time.
**/
EFI_STATUS
BusWait (
  IN  UINT32  Type,
  IN  UINTN   Offset,
  IN  UINT32  Value,
  OUT UINT8   Payload[HV_MESSAGE_PAYLOAD]
  );

UINT32
BusNewGpadl (
  VOID
  );

// Channel.c

EFI_STATUS
ChannelPublish (
  IN CONST VMBUS_OFFER  *Offer
  );

// Ring.c

VOID
RingFormat (
  OUT VMBUS_RING  *Ring,
  IN  VOID        *Pages,
  IN  UINTN       PageCount
  );

/**
  Appends one packet made of parts.

  @param Signal  TRUE if the host has to be told
  @retval EFI_NOT_READY  no room
**/
EFI_STATUS
RingSend (
  IN OUT VMBUS_RING          *Ring,
  IN     CONST VMBUS_PACKET  *Packet,
  IN     CONST VOID          *Parts[],
  IN     CONST UINTN         PartBytes[],
  IN     UINTN               PartCount,
  OUT    BOOLEAN             *Signal
  );

/**
  Takes one packet.

  @retval EFI_NOT_READY     the ring is empty
  @retval EFI_DEVICE_ERROR  indexes or lengths make no sense
**/
EFI_STATUS
RingReceive (
  IN OUT VMBUS_RING    *Ring,
  OUT    VMBUS_PACKET  *Packet,
  OUT    VOID          *Payload,
  IN OUT UINTN         *PayloadBytes,
  OUT    BOOLEAN       *Signal
  );

BOOLEAN
RingEmpty (
  IN CONST VMBUS_RING  *Ring
  );

#endif
