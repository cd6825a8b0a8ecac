/** @file
  The channel protocol on one offer.

  SPDX-License-Identifier: Apache-2.0
**/
#include "Vmbus.h"
#include <Library/DevicePathLib.h>

/// Hyper-V's node for a channel: the vendor node is followed by interface type and instance.
STATIC CONST EFI_GUID  mChannelNodeGuid = {
  0x9b17e5a2, 0x0891, 0x42dd, { 0xb6, 0x53, 0x80, 0xb5, 0xc2, 0x28, 0x09, 0xba }
};

#define MAXIMUM_DATA_PAGES  2048

STATIC EFI_STATUS
CreateGpadl (
  IN OUT VMBUS_CHANNEL  *Channel
  )
{
  VMBUS_GPADL_HEADER   Header;
  VMBUS_GPADL_BODY     Body;
  UINT8                Payload[HV_MESSAGE_PAYLOAD];
  VMBUS_GPADL_CREATED  *Created;
  EFI_STATUS           Status;
  UINT64               FirstPage;
  UINTN                Done;
  UINTN                Count;
  UINTN                Index;

  Channel->Gpadl = BusNewGpadl ();
  FirstPage      = (UINTN)Channel->Pages >> EFI_PAGE_SHIFT;

  ZeroMem (&Header, sizeof (Header));
  Header.Header.Type = VmbusGpadlHeader;
  Header.ChildRelId  = Channel->RelId;
  Header.Gpadl       = Channel->Gpadl;
  Header.RangeBytes  = (UINT16)(8 + 8 * Channel->PageCount);
  Header.RangeCount  = 1;
  Header.ByteCount   = (UINT32)EFI_PAGES_TO_SIZE (Channel->PageCount);
  Done               = MIN (Channel->PageCount, GPADL_HEADER_PAGES);
  for (Index = 0; Index < Done; ++Index) {
    Header.Page[Index] = FirstPage + Index;
  }

  Status = BusPost (&Header, OFFSET_OF (VMBUS_GPADL_HEADER, Page) + Done * sizeof (UINT64));

  ZeroMem (&Body, sizeof (Body));
  Body.Header.Type = VmbusGpadlBody;
  Body.Gpadl       = Channel->Gpadl;
  while (!EFI_ERROR (Status) && (Done < Channel->PageCount)) {
    ++Body.MessageNumber;
    Count = MIN (Channel->PageCount - Done, GPADL_BODY_PAGES);
    for (Index = 0; Index < Count; ++Index) {
      Body.Page[Index] = FirstPage + Done + Index;
    }

    Done  += Count;
    Status = BusPost (&Body, OFFSET_OF (VMBUS_GPADL_BODY, Page) + Count * sizeof (UINT64));
  }

  if (!EFI_ERROR (Status)) {
    Status = BusWait (VmbusGpadlCreated, OFFSET_OF (VMBUS_GPADL_CREATED, Gpadl), Channel->Gpadl, Payload);
  }

  Created = (VMBUS_GPADL_CREATED *)Payload;
  if (!EFI_ERROR (Status) && (Created->Status != 0)) {
    Status = EFI_DEVICE_ERROR;
  }

  return Status;
}

STATIC VOID
TearDownGpadl (
  IN OUT VMBUS_CHANNEL  *Channel
  )
{
  VMBUS_GPADL_TEARDOWN  Teardown;
  UINT8                 Payload[HV_MESSAGE_PAYLOAD];

  ZeroMem (&Teardown, sizeof (Teardown));
  Teardown.Header.Type = VmbusGpadlTeardown;
  Teardown.ChildRelId  = Channel->RelId;
  Teardown.Gpadl       = Channel->Gpadl;
  if (!EFI_ERROR (BusPost (&Teardown, sizeof (Teardown)))) {
    BusWait (VmbusGpadlTorndown, OFFSET_OF (VMBUS_GPADL_TORNDOWN, Gpadl), Channel->Gpadl, Payload);
  }
}

STATIC EFI_STATUS
OpenOnHost (
  IN VMBUS_CHANNEL  *Channel
  )
{
  VMBUS_OPEN_CHANNEL  Open;
  UINT8               Payload[HV_MESSAGE_PAYLOAD];
  EFI_STATUS          Status;

  ZeroMem (&Open, sizeof (Open));
  Open.Header.Type          = VmbusOpen;
  Open.ChildRelId           = Channel->RelId;
  Open.OpenId               = Channel->RelId;
  Open.RingGpadl            = Channel->Gpadl;
  Open.DownstreamPageOffset = (UINT32)(Channel->PageCount / 2);
  Status                    = BusPost (&Open, sizeof (Open));
  if (!EFI_ERROR (Status)) {
    Status = BusWait (VmbusOpenResult, OFFSET_OF (VMBUS_OPEN_RESULT, ChildRelId), Channel->RelId, Payload);
  }

  if (!EFI_ERROR (Status) && (((VMBUS_OPEN_RESULT *)Payload)->Status != 0)) {
    DEBUG ((DEBUG_ERROR, "VMBus: channel %d: open refused\n", Channel->RelId));
    Status = EFI_DEVICE_ERROR;
  }

  return Status;
}

STATIC EFI_STATUS
EFIAPI
ChannelOpen (
  IN BYGONE_VMBUS_CHANNEL_PROTOCOL  *This,
  IN UINTN                          RingPages,
  IN EFI_EVENT                      Event OPTIONAL
  )
{
  VMBUS_CHANNEL  *Channel;
  EFI_STATUS     Status;

  Channel = CHANNEL_FROM_PROTOCOL (This);
  if (Channel->Opened) {
    return EFI_ALREADY_STARTED;
  }

  Channel->PageCount = 2 * RingPages;
  Channel->Pages     = AllocatePages (Channel->PageCount);
  if (Channel->Pages == NULL) {
    return EFI_OUT_OF_RESOURCES;
  }

  ZeroMem (Channel->Pages, EFI_PAGES_TO_SIZE (Channel->PageCount));
  RingFormat (&Channel->Send, Channel->Pages, RingPages);
  RingFormat (&Channel->Receive, (UINT8 *)Channel->Pages + EFI_PAGES_TO_SIZE (RingPages), RingPages);
  Channel->Event = Event;

  Status = CreateGpadl (Channel);
  if (!EFI_ERROR (Status)) {
    HyperVSetEvent (Channel->RelId, Event);
    Status = OpenOnHost (Channel);
    if (EFI_ERROR (Status)) {
      HyperVSetEvent (Channel->RelId, NULL);
      TearDownGpadl (Channel);
    }
  }

  if (EFI_ERROR (Status)) {
    FreePages (Channel->Pages, Channel->PageCount);
    return Status;
  }

  Channel->Opened = TRUE;
  return EFI_SUCCESS;
}

STATIC VOID
EFIAPI
ChannelClose (
  IN BYGONE_VMBUS_CHANNEL_PROTOCOL  *This
  )
{
  VMBUS_CHANNEL        *Channel;
  VMBUS_RELID_MESSAGE  Close;

  Channel = CHANNEL_FROM_PROTOCOL (This);
  if (!Channel->Opened) {
    return;
  }

  HyperVSetEvent (Channel->RelId, NULL);
  ZeroMem (&Close, sizeof (Close));
  Close.Header.Type = VmbusClose;
  Close.ChildRelId  = Channel->RelId;
  BusPost (&Close, sizeof (Close));
  TearDownGpadl (Channel);
  FreePages (Channel->Pages, Channel->PageCount);
  Channel->Opened = FALSE;
}

STATIC EFI_STATUS
EFIAPI
ChannelSend (
  IN BYGONE_VMBUS_CHANNEL_PROTOCOL  *This,
  IN CONST VOID                     *Packet,
  IN UINTN                          PacketBytes,
  IN VOID                           *Data OPTIONAL,
  IN UINTN                          DataBytes,
  IN UINT64                         Transaction,
  IN BOOLEAN                        Completes
  )
{
  STATIC UINT64    Pages[MAXIMUM_DATA_PAGES];
  VMBUS_CHANNEL    *Channel;
  VMBUS_PACKET     Descriptor;
  VMBUS_GPA_RANGE  Range;
  CONST VOID       *Parts[3];
  UINTN            PartBytes[3];
  UINTN            PartCount;
  UINTN            PageCount;
  UINTN            Index;
  UINTN            Bytes;
  BOOLEAN          Signal;
  EFI_STATUS       Status;
  EFI_TPL          Tpl;

  Channel = CHANNEL_FROM_PROTOCOL (This);
  if (!Channel->Opened) {
    return EFI_NOT_STARTED;
  }

  Tpl       = gBS->RaiseTPL (TPL_NOTIFY);
  PartCount = 0;
  Bytes     = sizeof (Descriptor);
  if (DataBytes != 0) {
    Range.Reserved   = 0;
    Range.RangeCount = 1;
    Range.ByteCount  = (UINT32)DataBytes;
    Range.ByteOffset = (UINT32)((UINTN)Data & EFI_PAGE_MASK);
    PageCount        = EFI_SIZE_TO_PAGES (Range.ByteOffset + DataBytes);
    if (PageCount > MAXIMUM_DATA_PAGES) {
      gBS->RestoreTPL (Tpl);
      return EFI_BAD_BUFFER_SIZE;
    }

    for (Index = 0; Index < PageCount; ++Index) {
      Pages[Index] = ((UINTN)Data >> EFI_PAGE_SHIFT) + Index;
    }

    Parts[0]     = &Range;
    PartBytes[0] = sizeof (Range);
    Parts[1]     = Pages;
    PartBytes[1] = PageCount * sizeof (UINT64);
    PartCount    = 2;
    Bytes       += PartBytes[0] + PartBytes[1];
  }

  Descriptor.Type        = (DataBytes != 0) ? VMBUS_PACKET_GPA_DIRECT : VMBUS_PACKET_IN_BAND;
  Descriptor.DataOffset8 = (UINT16)(Bytes / 8);
  Descriptor.Flags       = Completes ? BIT0 : 0;
  Descriptor.Transaction = Transaction;
  Parts[PartCount]       = Packet;
  PartBytes[PartCount]   = PacketBytes;
  ++PartCount;
  Bytes             += PacketBytes;
  Descriptor.Length8 = (UINT16)(ALIGN_VALUE (Bytes, 8) / 8);

  Status = RingSend (&Channel->Send, &Descriptor, Parts, PartBytes, PartCount, &Signal);
  gBS->RestoreTPL (Tpl);
  if (!EFI_ERROR (Status) && Signal) {
    HyperVSignalEvent (Channel->ConnectionId);
  }

  return Status;
}

STATIC EFI_STATUS
EFIAPI
ChannelReceive (
  IN     BYGONE_VMBUS_CHANNEL_PROTOCOL  *This,
  OUT    VOID                           *Packet,
  IN OUT UINTN                          *PacketBytes,
  OUT    UINT16                         *Type OPTIONAL,
  OUT    UINT64                         *Transaction OPTIONAL
  )
{
  VMBUS_CHANNEL  *Channel;
  VMBUS_PACKET   Descriptor;
  BOOLEAN        Signal;
  EFI_STATUS     Status;

  Channel = CHANNEL_FROM_PROTOCOL (This);
  if (!Channel->Opened) {
    return EFI_NOT_STARTED;
  }

  Status = RingReceive (&Channel->Receive, &Descriptor, Packet, PacketBytes, &Signal);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  if (Signal) {
    HyperVSignalEvent (Channel->ConnectionId);
  }

  if (Type != NULL) {
    *Type = Descriptor.Type;
  }

  if (Transaction != NULL) {
    *Transaction = Descriptor.Transaction;
  }

  return EFI_SUCCESS;
}

STATIC BOOLEAN
PacketReady (
  IN VOID  *Context
  )
{
  return (BOOLEAN)!RingEmpty (&((VMBUS_CHANNEL *)Context)->Receive);
}

STATIC VOID
EFIAPI
ChannelWait (
  IN BYGONE_VMBUS_CHANNEL_PROTOCOL  *This
  )
{
  VMBUS_CHANNEL  *Channel;

  Channel = CHANNEL_FROM_PROTOCOL (This);
  if (Channel->Opened && RingEmpty (&Channel->Receive)) {
    HyperVIdle (PacketReady, Channel);
  }
}

STATIC VOID
MakeDevicePath (
  IN OUT VMBUS_CHANNEL_DEVICE_PATH  *Path,
  IN     CONST VMBUS_OFFER          *Offer
  )
{
  UINTN  AcpiBytes;

  AcpiBytes                 = OFFSET_OF (VMBUS_CHANNEL_DEVICE_PATH, Channel);
  Path->Acpi.Header.Type    = ACPI_DEVICE_PATH;
  Path->Acpi.Header.SubType = ACPI_EXTENDED_DP;
  SetDevicePathNodeLength (&Path->Acpi.Header, AcpiBytes);
  CopyMem (Path->Hid, "VMBus", sizeof (Path->Hid));

  Path->Channel.Header.Type    = HARDWARE_DEVICE_PATH;
  Path->Channel.Header.SubType = HW_VENDOR_DP;
  SetDevicePathNodeLength (&Path->Channel.Header, sizeof (VENDOR_DEVICE_PATH) + 2 * sizeof (EFI_GUID));
  CopyGuid (&Path->Channel.Guid, &mChannelNodeGuid);
  CopyGuid (&Path->InterfaceType, &Offer->InterfaceType);
  CopyGuid (&Path->InterfaceInstance, &Offer->InterfaceInstance);
  SetDevicePathEndNode (&Path->End);
}

EFI_STATUS
ChannelPublish (
  IN CONST VMBUS_OFFER  *Offer
  )
{
  VMBUS_CHANNEL  *Channel;
  EFI_STATUS     Status;

  Channel = AllocateZeroPool (sizeof (*Channel));
  if (Channel == NULL) {
    return EFI_OUT_OF_RESOURCES;
  }

  Channel->Signature    = VMBUS_CHANNEL_SIGNATURE;
  Channel->RelId        = Offer->ChildRelId;
  Channel->ConnectionId = Offer->ConnectionId;
  CopyGuid (&Channel->Protocol.InterfaceType, &Offer->InterfaceType);
  CopyGuid (&Channel->Protocol.InterfaceInstance, &Offer->InterfaceInstance);
  Channel->Protocol.Open    = ChannelOpen;
  Channel->Protocol.Close   = ChannelClose;
  Channel->Protocol.Send    = ChannelSend;
  Channel->Protocol.Receive = ChannelReceive;
  Channel->Protocol.Wait    = ChannelWait;
  MakeDevicePath (&Channel->DevicePath, Offer);

  Status = gBS->InstallMultipleProtocolInterfaces (
                  &Channel->Handle,
                  &gEfiDevicePathProtocolGuid,
                  &Channel->DevicePath,
                  &gBygoneVmbusChannelProtocolGuid,
                  &Channel->Protocol,
                  NULL
                  );
  if (EFI_ERROR (Status)) {
    FreePool (Channel);
  }

  return Status;
}
