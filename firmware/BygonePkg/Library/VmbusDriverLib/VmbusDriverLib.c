/** @file
  See VmbusDriverLib.h.

  SPDX-License-Identifier: Apache-2.0
**/
#include <Uefi.h>
#include <Library/BaseMemoryLib.h>
#include <Library/TimerLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Library/VmbusDriverLib.h>

STATIC EFI_STATUS
Take (
  IN  EFI_DRIVER_BINDING_PROTOCOL    *Binding,
  IN  EFI_HANDLE                     Controller,
  OUT BYGONE_VMBUS_CHANNEL_PROTOCOL  **Channel
  )
{
  return gBS->OpenProtocol (
                Controller,
                &gBygoneVmbusChannelProtocolGuid,
                (VOID **)Channel,
                Binding->DriverBindingHandle,
                Controller,
                EFI_OPEN_PROTOCOL_BY_DRIVER
                );
}

STATIC VOID
GiveBack (
  IN EFI_DRIVER_BINDING_PROTOCOL  *Binding,
  IN EFI_HANDLE                   Controller
  )
{
  gBS->CloseProtocol (Controller, &gBygoneVmbusChannelProtocolGuid, Binding->DriverBindingHandle, Controller);
}

EFI_STATUS
VmbusDriverSupports (
  IN EFI_DRIVER_BINDING_PROTOCOL  *Binding,
  IN EFI_HANDLE                   Controller,
  IN CONST EFI_GUID               *Interface
  )
{
  BYGONE_VMBUS_CHANNEL_PROTOCOL  *Channel;
  EFI_STATUS                     Status;

  Status = Take (Binding, Controller, &Channel);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Status = CompareGuid (&Channel->InterfaceType, Interface) ? EFI_SUCCESS : EFI_UNSUPPORTED;
  GiveBack (Binding, Controller);
  return Status;
}

EFI_STATUS
VmbusDriverOpen (
  IN  EFI_DRIVER_BINDING_PROTOCOL    *Binding,
  IN  EFI_HANDLE                     Controller,
  OUT BYGONE_VMBUS_CHANNEL_PROTOCOL  **Channel,
  IN  UINTN                          RingPages,
  IN  EFI_EVENT                      Event OPTIONAL,
  IN  VMBUS_DRIVER_NEGOTIATE         Negotiate,
  IN  VOID                           *Driver
  )
{
  EFI_STATUS  Status;
  EFI_TPL     Tpl;

  Status = Take (Binding, Controller, Channel);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Status = (*Channel)->Open (*Channel, RingPages, Event);
  if (!EFI_ERROR (Status)) {
    Tpl    = gBS->RaiseTPL (TPL_NOTIFY);
    Status = Negotiate (Driver);
    gBS->RestoreTPL (Tpl);
    if (EFI_ERROR (Status)) {
      (*Channel)->Close (*Channel);
    }
  }

  if (EFI_ERROR (Status)) {
    GiveBack (Binding, Controller);
  }

  return Status;
}

VOID
VmbusDriverClose (
  IN EFI_DRIVER_BINDING_PROTOCOL    *Binding,
  IN EFI_HANDLE                     Controller,
  IN BYGONE_VMBUS_CHANNEL_PROTOCOL  *Channel
  )
{
  Channel->Close (Channel);
  GiveBack (Binding, Controller);
}

EFI_STATUS
VmbusDriverReceive (
  IN  BYGONE_VMBUS_CHANNEL_PROTOCOL  *Channel,
  OUT VOID                           *Packet,
  IN  UINTN                          PacketBytes,
  OUT UINT16                         *Type OPTIONAL,
  OUT UINT64                         *Transaction OPTIONAL
  )
{
  ZeroMem (Packet, PacketBytes);
  return Channel->Receive (Channel, Packet, &PacketBytes, Type, Transaction);
}

EFI_STATUS
VmbusDriverWaitFor (
  IN  BYGONE_VMBUS_CHANNEL_PROTOCOL  *Channel,
  OUT VOID                           *Packet,
  IN  UINTN                          PacketBytes,
  IN  UINT64                         TimeoutNs,
  IN  VMBUS_DRIVER_IS_ANSWER         IsAnswer,
  IN  VOID                           *Driver
  )
{
  EFI_STATUS  Status;
  UINT64      Start;
  UINT64      Transaction;
  UINT16      Type;

  Start = GetPerformanceCounter ();
  for ( ; ;) {
    Status = VmbusDriverReceive (Channel, Packet, PacketBytes, &Type, &Transaction);
    if (!EFI_ERROR (Status)) {
      if (IsAnswer (Driver, Packet, Type, Transaction)) {
        return EFI_SUCCESS;
      }
    } else if (Status != EFI_NOT_READY) {
      return Status;
    } else if ((TimeoutNs != 0) && (GetTimeInNanoSecond (GetPerformanceCounter () - Start) > TimeoutNs)) {
      return EFI_TIMEOUT;
    } else {
      Channel->Wait (Channel);
    }
  }
}
