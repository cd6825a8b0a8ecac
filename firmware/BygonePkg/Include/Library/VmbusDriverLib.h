/** @file
  What every driver of a VMBus channel does the same way: finding its channel, opening it with the conversation that starts the
  service, waiting for an answer, closing it.

  SPDX-License-Identifier: Apache-2.0
**/
#ifndef BYGONE_VMBUS_DRIVER_LIB_H_
#define BYGONE_VMBUS_DRIVER_LIB_H_

#include <Protocol/DriverBinding.h>
#include <Protocol/VmbusChannel.h>

/// A binding's Supported(): the controller is a free channel of that interface.
EFI_STATUS
VmbusDriverSupports (
  IN EFI_DRIVER_BINDING_PROTOCOL  *Binding,
  IN EFI_HANDLE                   Controller,
  IN CONST EFI_GUID               *Interface
  );

/// The conversation that starts a service. Runs at TPL_NOTIFY, so that the channel's event does not take the answers away.
typedef
EFI_STATUS
(*VMBUS_DRIVER_NEGOTIATE)(
  IN OUT VOID  *Driver
  );

/**
  Takes the controller's channel and opens it.

  @param Channel    set before Negotiate runs
  @param Event      signalled when the host signals the channel; NULL for a driver that only waits
  @param Negotiate  its failure closes the channel again
**/
EFI_STATUS
VmbusDriverOpen (
  IN  EFI_DRIVER_BINDING_PROTOCOL    *Binding,
  IN  EFI_HANDLE                     Controller,
  OUT BYGONE_VMBUS_CHANNEL_PROTOCOL  **Channel,
  IN  UINTN                          RingPages,
  IN  EFI_EVENT                      Event OPTIONAL,
  IN  VMBUS_DRIVER_NEGOTIATE         Negotiate,
  IN  VOID                           *Driver
  );

VOID
VmbusDriverClose (
  IN EFI_DRIVER_BINDING_PROTOCOL    *Binding,
  IN EFI_HANDLE                     Controller,
  IN BYGONE_VMBUS_CHANNEL_PROTOCOL  *Channel
  );

/// Takes the next packet, the rest of the buffer cleared. EFI_NOT_READY: there is none.
EFI_STATUS
VmbusDriverReceive (
  IN  BYGONE_VMBUS_CHANNEL_PROTOCOL  *Channel,
  OUT VOID                           *Packet,
  IN  UINTN                          PacketBytes,
  OUT UINT16                         *Type OPTIONAL,
  OUT UINT64                         *Transaction OPTIONAL
  );

/// TRUE: this packet is the answer. FALSE: it was something else, and has been dealt with.
typedef
BOOLEAN
(*VMBUS_DRIVER_IS_ANSWER)(
  IN OUT VOID        *Driver,
  IN     CONST VOID  *Packet,
  IN     UINT16      Type,
  IN     UINT64      Transaction
  );

/**
  Waits for a packet that IsAnswer accepts.

  @param TimeoutNs  0: wait for ever
**/
EFI_STATUS
VmbusDriverWaitFor (
  IN  BYGONE_VMBUS_CHANNEL_PROTOCOL  *Channel,
  OUT VOID                           *Packet,
  IN  UINTN                          PacketBytes,
  IN  UINT64                         TimeoutNs,
  IN  VMBUS_DRIVER_IS_ANSWER         IsAnswer,
  IN  VOID                           *Driver
  );

#endif
