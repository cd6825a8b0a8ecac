/** @file
  One VMBus channel as a device driver sees it: open, packets out, packets in, wait.

  The driver opens the channel when it starts and closes it when it stops. Packets are copied; data buffers of SendData are
  given to the host in place until the completion for their transaction has been received.

  TPL: all functions at or below TPL_NOTIFY. The event given to Open is signalled from an interrupt.

  SPDX-License-Identifier: Apache-2.0
**/
#ifndef BYGONE_VMBUS_CHANNEL_H_
#define BYGONE_VMBUS_CHANNEL_H_

typedef struct _BYGONE_VMBUS_CHANNEL_PROTOCOL BYGONE_VMBUS_CHANNEL_PROTOCOL;

#define VMBUS_PACKET_IN_BAND     6
#define VMBUS_PACKET_GPA_DIRECT  9
#define VMBUS_PACKET_COMPLETION  11

/**
  @param RingPages  size of each of the two rings in pages, control page included
  @param Event      signalled when the host signals the channel; NULL for a driver that only waits
**/
typedef
EFI_STATUS
(EFIAPI *BYGONE_VMBUS_OPEN)(
  IN BYGONE_VMBUS_CHANNEL_PROTOCOL  *This,
  IN UINTN                          RingPages,
  IN EFI_EVENT                      Event OPTIONAL
  );

typedef
VOID
(EFIAPI *BYGONE_VMBUS_CLOSE)(
  IN BYGONE_VMBUS_CHANNEL_PROTOCOL  *This
  );

/**
  @param Data       memory that the host may read and write until completion, or NULL
  @param Completes  TRUE if the host shall answer with a completion packet
  @retval EFI_NOT_READY  the ring is full
**/
typedef
EFI_STATUS
(EFIAPI *BYGONE_VMBUS_SEND)(
  IN BYGONE_VMBUS_CHANNEL_PROTOCOL  *This,
  IN CONST VOID                     *Packet,
  IN UINTN                          PacketBytes,
  IN VOID                           *Data OPTIONAL,
  IN UINTN                          DataBytes,
  IN UINT64                         Transaction,
  IN BOOLEAN                        Completes
  );

/**
  @param Packet       buffer for the packet's payload; a longer payload is cut
  @param PacketBytes  in: its capacity; out: bytes written
  @retval EFI_NOT_READY     there is none
  @retval EFI_DEVICE_ERROR  the ring is damaged; close the channel
**/
typedef
EFI_STATUS
(EFIAPI *BYGONE_VMBUS_RECEIVE)(
  IN     BYGONE_VMBUS_CHANNEL_PROTOCOL  *This,
  OUT    VOID                           *Packet,
  IN OUT UINTN                          *PacketBytes,
  OUT    UINT16                         *Type OPTIONAL,
  OUT    UINT64                         *Transaction OPTIONAL
  );

/** Returns when a packet may have come: at once if one is there, else after the next interrupt. **/
typedef
VOID
(EFIAPI *BYGONE_VMBUS_WAIT)(
  IN BYGONE_VMBUS_CHANNEL_PROTOCOL  *This
  );

struct _BYGONE_VMBUS_CHANNEL_PROTOCOL {
  EFI_GUID                InterfaceType;
  EFI_GUID                InterfaceInstance;
  BYGONE_VMBUS_OPEN       Open;
  BYGONE_VMBUS_CLOSE      Close;
  BYGONE_VMBUS_SEND       Send;
  BYGONE_VMBUS_RECEIVE    Receive;
  BYGONE_VMBUS_WAIT       Wait;
};

extern EFI_GUID  gBygoneVmbusChannelProtocolGuid;

#endif
