/** @file
  The bus: agree on a version, take all offers, publish each as a handle; unload when the operating system takes over.

    INITIATE_CONTACT -> VERSION_RESPONSE -> REQUEST_OFFERS -> OFFER... -> ALL_OFFERS_DELIVERED -> handles -> ... -> UNLOAD

  SPDX-License-Identifier: Apache-2.0
**/
#include "Vmbus.h"
#include <Library/TimerLib.h>

/// A host that does not answer for so long is taken for dead. Long: the host may be a busy build machine.
#define ANSWER_TIMEOUT_NS  10000000000ULL
#define UNLOAD_TIMEOUT_NS   2000000000ULL

#define MAXIMUM_OFFERS  64

STATIC CONST UINT32  mVersions[] = {
  VMBUS_VERSION (5, 0), VMBUS_VERSION (4, 0), VMBUS_VERSION (3, 0), VMBUS_VERSION (2, 4)
};

STATIC UINT32  mConnectionId = VMBUS_CONNECTION_ID;
STATIC UINT32  mLastGpadl;

EFI_STATUS
BusPost (
  IN CONST VOID  *Message,
  IN UINTN       Bytes
  )
{
  return HyperVPostMessage (mConnectionId, Message, Bytes);
}

STATIC BOOLEAN
MessageReady (
  IN VOID  *Context
  )
{
  return HyperVTakeMessage (Context);
}

/**
  The next message of any type, or a timeout.

  HyperVIdle's look takes the message away, so that no interrupt can come between looking and sleeping; the payload's type is then
  not 0.
**/
STATIC EFI_STATUS
NextMessage (
  OUT UINT8   Payload[HV_MESSAGE_PAYLOAD],
  IN  UINT64  TimeoutNs
  )
{
  UINT64  Start;

  ((VMBUS_HEADER *)Payload)->Type = 0;
  if (HyperVTakeMessage (Payload)) {
    return EFI_SUCCESS;
  }

  Start = GetPerformanceCounter ();
  do {
    HyperVIdle (MessageReady, Payload);
    if ((((VMBUS_HEADER *)Payload)->Type != 0) || HyperVTakeMessage (Payload)) {
      return EFI_SUCCESS;
    }
  } while (GetTimeInNanoSecond (GetPerformanceCounter () - Start) < TimeoutNs);

  return EFI_TIMEOUT;
}

EFI_STATUS
BusWait (
  IN  UINT32  Type,
  IN  UINTN   Offset,
  IN  UINT32  Value,
  OUT UINT8   Payload[HV_MESSAGE_PAYLOAD]
  )
{
  EFI_STATUS  Status;

  for ( ; ;) {
    Status = NextMessage (Payload, ANSWER_TIMEOUT_NS);
    if (EFI_ERROR (Status)) {
      DEBUG ((DEBUG_ERROR, "VMBus: no answer of type %d\n", Type));
      return Status;
    }

    if ((((VMBUS_HEADER *)Payload)->Type == Type) && (ReadUnaligned32 ((UINT32 *)(Payload + Offset)) == Value)) {
      return EFI_SUCCESS;
    }
  }
}

UINT32
BusNewGpadl (
  VOID
  )
{
  return ++mLastGpadl;
}

STATIC EFI_STATUS
Negotiate (
  IN UINT32  Version
  )
{
  VMBUS_INITIATE_CONTACT  Contact;
  UINT8                   Payload[HV_MESSAGE_PAYLOAD];
  VMBUS_VERSION_RESPONSE  *Response;
  EFI_STATUS              Status;
  VOID                    *Pages;

  ZeroMem (&Contact, sizeof (Contact));
  Contact.Header.Type = VmbusInitiateContact;
  Contact.Version     = Version;
  // Pages for the old interrupt and monitor mechanisms. Nothing uses them, but hosts insist that they exist.
  Pages = AllocatePages (3);
  if (Pages == NULL) {
    return EFI_OUT_OF_RESOURCES;
  }

  ZeroMem (Pages, EFI_PAGES_TO_SIZE (3));
  Contact.MonitorPage1 = (UINTN)Pages + EFI_PAGE_SIZE;
  Contact.MonitorPage2 = (UINTN)Pages + 2 * EFI_PAGE_SIZE;
  if (Version >= VMBUS_VERSION (5, 0)) {
    Contact.InterruptPage = VMBUS_SINT;
    mConnectionId         = VMBUS_CONTACT_CONNECTION_ID_5;
  } else {
    Contact.InterruptPage = (UINTN)Pages;
    mConnectionId         = VMBUS_CONNECTION_ID;
  }

  Status = BusPost (&Contact, sizeof (Contact));
  if (!EFI_ERROR (Status)) {
    Status = BusWait (VmbusVersionResponse, 4, 0, Payload);
  }

  Response = (VMBUS_VERSION_RESPONSE *)Payload;
  if (!EFI_ERROR (Status) && ((Response->Supported == 0) || (Response->State != 0))) {
    Status = EFI_INCOMPATIBLE_VERSION;
  }

  if (EFI_ERROR (Status)) {
    FreePages (Pages, 3);
    return Status;
  }

  if (Version >= VMBUS_VERSION (5, 0)) {
    mConnectionId = Response->ConnectionId;
  }

  DEBUG ((DEBUG_INFO, "VMBus: version %d.%d\n", Version >> 16, Version & 0xFFFF));
  return EFI_SUCCESS;
}

/// Offers are copied while they arrive and published afterwards: publishing may itself talk to the bus.
STATIC EFI_STATUS
CollectOffers (
  VOID
  )
{
  VMBUS_HEADER  Request;
  VMBUS_OFFER   *Offers;
  UINT8         Payload[HV_MESSAGE_PAYLOAD];
  UINTN         Count;
  UINTN         Index;
  EFI_STATUS    Status;

  Offers = AllocatePool (MAXIMUM_OFFERS * sizeof (*Offers));
  if (Offers == NULL) {
    return EFI_OUT_OF_RESOURCES;
  }

  Count           = 0;
  Request.Type    = VmbusRequestOffers;
  Request.Padding = 0;
  Status          = BusPost (&Request, sizeof (Request));
  while (!EFI_ERROR (Status)) {
    Status = NextMessage (Payload, ANSWER_TIMEOUT_NS);
    if (EFI_ERROR (Status) || (((VMBUS_HEADER *)Payload)->Type == VmbusOffersDelivered)) {
      break;
    }

    // Subchannels are asked for by drivers; none of ours does.
    if ((((VMBUS_HEADER *)Payload)->Type == VmbusOffer) &&
        (((VMBUS_OFFER *)Payload)->SubChannelIndex == 0) && (Count < MAXIMUM_OFFERS))
    {
      CopyMem (&Offers[Count++], Payload, sizeof (*Offers));
    }
  }

  for (Index = 0; Index < Count; ++Index) {
    ChannelPublish (&Offers[Index]);
  }

  DEBUG ((DEBUG_INFO, "VMBus: %d offers\n", Count));
  FreePool (Offers);
  return Status;
}

/**
  The operating system takes over: the host must forget every page of ours before the first of them is reused.

  Runs with interrupts possibly off and without the timer tick, hence polls.
**/
STATIC VOID
EFIAPI
OnExitBootServices (
  IN EFI_EVENT  Event,
  IN VOID       *Context
  )
{
  VMBUS_HEADER  Unload;
  UINT8         Payload[HV_MESSAGE_PAYLOAD];
  UINT64        Start;

  Unload.Type    = VmbusUnload;
  Unload.Padding = 0;
  if (!EFI_ERROR (BusPost (&Unload, sizeof (Unload)))) {
    Start = GetPerformanceCounter ();
    do {
      if (HyperVTakeMessage (Payload) && (((VMBUS_HEADER *)Payload)->Type == VmbusUnloadResponse)) {
        break;
      }

      CpuPause ();
    } while (GetTimeInNanoSecond (GetPerformanceCounter () - Start) < UNLOAD_TIMEOUT_NS);
  }

  HyperVStop ();
}

EFI_STATUS
EFIAPI
VmbusEntry (
  IN EFI_HANDLE        ImageHandle,
  IN EFI_SYSTEM_TABLE  *SystemTable
  )
{
  EFI_STATUS  Status;
  EFI_EVENT   Event;
  UINTN       Index;

  Status = HyperVStart ();
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Status = EFI_INCOMPATIBLE_VERSION;
  for (Index = 0; EFI_ERROR (Status) && (Index < ARRAY_SIZE (mVersions)); ++Index) {
    Status = Negotiate (mVersions[Index]);
  }

  if (EFI_ERROR (Status)) {
    DEBUG ((DEBUG_ERROR, "VMBus: the host speaks none of our versions: %r\n", Status));
    HyperVStop ();
    return Status;
  }

  // After the core's and the drivers' own handlers, which may still use their channels.
  Status = gBS->CreateEvent (EVT_SIGNAL_EXIT_BOOT_SERVICES, TPL_CALLBACK, OnExitBootServices, NULL, &Event);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  // What has been offered stays usable even if the list broke off.
  CollectOffers ();
  return EFI_SUCCESS;
}
