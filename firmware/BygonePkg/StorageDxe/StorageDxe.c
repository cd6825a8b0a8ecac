/** @file
  Driver binding and the storage service's start-up conversation:

    BEGIN_INITIALIZATION -> QUERY_PROTOCOL_VERSION -> QUERY_PROPERTIES -> END_INITIALIZATION -> EXECUTE_SRB...

  SPDX-License-Identifier: Apache-2.0
**/
#include "Storage.h"
#include <Library/TimerLib.h>

STATIC CONST EFI_GUID  mStorageInterface = {
  0xba6163d9, 0x04a1, 0x4d29, { 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f }
};

/// Control page and 124 KiB: room for several of the largest requests' page lists.
#define RING_PAGES  32

#define START_TIMEOUT_NS  10000000000ULL

STATIC CONST UINT16  mVersions[] = { 0x0602, 0x0600, 0x0501 };

EFI_STATUS
StorageTransact (
  IN OUT STORAGE         *Storage,
  IN OUT STORAGE_PACKET  *Packet,
  IN     VOID            *Data OPTIONAL,
  IN     UINTN           DataBytes,
  IN     UINT64          TimeoutNs
  )
{
  STORAGE_PACKET  Answer;
  EFI_STATUS      Status;
  UINT64          Transaction;
  UINT64          Answered;
  UINT64          Start;
  UINTN           Bytes;
  UINT16          Type;

  Transaction = ++Storage->LastTransaction;
  Status      = Storage->Channel->Send (
                                    Storage->Channel,
                                    Packet,
                                    sizeof (*Packet),
                                    Data,
                                    DataBytes,
                                    Transaction,
                                    TRUE
                                    );
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Start = GetPerformanceCounter ();
  for ( ; ;) {
    ZeroMem (&Answer, sizeof (Answer));
    Bytes  = sizeof (Answer);
    Status = Storage->Channel->Receive (Storage->Channel, &Answer, &Bytes, &Type, &Answered);
    if (!EFI_ERROR (Status)) {
      // An answer to a request that has been given up on, or news about units: not now.
      if ((Type == VMBUS_PACKET_COMPLETION) && (Answered == Transaction)) {
        CopyMem (Packet, &Answer, sizeof (*Packet));
        return EFI_SUCCESS;
      }
    } else if (Status != EFI_NOT_READY) {
      return Status;
    } else if ((TimeoutNs != 0) && (GetTimeInNanoSecond (GetPerformanceCounter () - Start) > TimeoutNs)) {
      return EFI_TIMEOUT;
    } else {
      Storage->Channel->Wait (Storage->Channel);
    }
  }
}

STATIC EFI_STATUS
Control (
  IN OUT STORAGE         *Storage,
  IN OUT STORAGE_PACKET  *Packet,
  IN     UINT32          Operation
  )
{
  EFI_STATUS  Status;

  Packet->Operation = Operation;
  Packet->Flags     = STORAGE_FLAG_COMPLETE;
  Packet->Status    = 0;
  Status            = StorageTransact (Storage, Packet, NULL, 0, START_TIMEOUT_NS);
  if (!EFI_ERROR (Status) && ((Packet->Operation != StorageCompleteIo) || (Packet->Status != 0))) {
    Status = EFI_DEVICE_ERROR;
  }

  return Status;
}

STATIC EFI_STATUS
Initialize (
  IN OUT STORAGE  *Storage
  )
{
  STORAGE_PACKET  Packet;
  EFI_STATUS      Status;
  UINTN           Index;

  ZeroMem (&Packet, sizeof (Packet));
  Status = Control (Storage, &Packet, StorageBeginInitialization);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Status = EFI_INCOMPATIBLE_VERSION;
  for (Index = 0; EFI_ERROR (Status) && (Index < ARRAY_SIZE (mVersions)); ++Index) {
    ZeroMem (&Packet, sizeof (Packet));
    Packet.u.Version.Version = mVersions[Index];
    Status                   = Control (Storage, &Packet, StorageQueryProtocolVersion);
  }

  if (!EFI_ERROR (Status)) {
    ZeroMem (&Packet, sizeof (Packet));
    Status = Control (Storage, &Packet, StorageQueryProperties);
  }

  if (!EFI_ERROR (Status)) {
    ZeroMem (&Packet, sizeof (Packet));
    Status = Control (Storage, &Packet, StorageEndInitialization);
  }

  return Status;
}

STATIC EFI_STATUS
EFIAPI
StorageSupported (
  IN EFI_DRIVER_BINDING_PROTOCOL  *This,
  IN EFI_HANDLE                   Controller,
  IN EFI_DEVICE_PATH_PROTOCOL     *Remaining OPTIONAL
  )
{
  BYGONE_VMBUS_CHANNEL_PROTOCOL  *Channel;
  EFI_STATUS                     Status;

  Status = gBS->OpenProtocol (
                  Controller,
                  &gBygoneVmbusChannelProtocolGuid,
                  (VOID **)&Channel,
                  This->DriverBindingHandle,
                  Controller,
                  EFI_OPEN_PROTOCOL_BY_DRIVER
                  );
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Status = CompareGuid (&Channel->InterfaceType, &mStorageInterface) ? EFI_SUCCESS : EFI_UNSUPPORTED;
  gBS->CloseProtocol (Controller, &gBygoneVmbusChannelProtocolGuid, This->DriverBindingHandle, Controller);
  return Status;
}

STATIC EFI_STATUS
EFIAPI
StorageStart (
  IN EFI_DRIVER_BINDING_PROTOCOL  *This,
  IN EFI_HANDLE                   Controller,
  IN EFI_DEVICE_PATH_PROTOCOL     *Remaining OPTIONAL
  )
{
  STORAGE     *Storage;
  EFI_STATUS  Status;

  Storage = AllocateZeroPool (sizeof (*Storage));
  if (Storage == NULL) {
    return EFI_OUT_OF_RESOURCES;
  }

  Storage->Signature = STORAGE_SIGNATURE;
  Storage->Handle    = Controller;
  Status             = gBS->OpenProtocol (
                              Controller,
                              &gBygoneVmbusChannelProtocolGuid,
                              (VOID **)&Storage->Channel,
                              This->DriverBindingHandle,
                              Controller,
                              EFI_OPEN_PROTOCOL_BY_DRIVER
                              );
  if (EFI_ERROR (Status)) {
    FreePool (Storage);
    return Status;
  }

  Status = Storage->Channel->Open (Storage->Channel, RING_PAGES, NULL);
  if (!EFI_ERROR (Status)) {
    Status = Initialize (Storage);
    if (!EFI_ERROR (Status)) {
      StorageInitializePassThru (Storage);
      StorageFindUnits (Storage);
      Status = gBS->InstallMultipleProtocolInterfaces (
                      &Controller,
                      &gEfiExtScsiPassThruProtocolGuid,
                      &Storage->PassThru,
                      NULL
                      );
    }

    if (EFI_ERROR (Status)) {
      DEBUG ((DEBUG_ERROR, "storage: %r\n", Status));
      Storage->Channel->Close (Storage->Channel);
    }
  }

  if (EFI_ERROR (Status)) {
    gBS->CloseProtocol (Controller, &gBygoneVmbusChannelProtocolGuid, This->DriverBindingHandle, Controller);
    FreePool (Storage);
  }

  return Status;
}

STATIC EFI_STATUS
EFIAPI
StorageStop (
  IN EFI_DRIVER_BINDING_PROTOCOL  *This,
  IN EFI_HANDLE                   Controller,
  IN UINTN                        NumberOfChildren,
  IN EFI_HANDLE                   *Children OPTIONAL
  )
{
  EFI_EXT_SCSI_PASS_THRU_PROTOCOL  *PassThru;
  STORAGE                          *Storage;
  EFI_STATUS                       Status;

  Status = gBS->HandleProtocol (Controller, &gEfiExtScsiPassThruProtocolGuid, (VOID **)&PassThru);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Storage = STORAGE_FROM_PASS_THRU (PassThru);
  Status  = gBS->UninstallMultipleProtocolInterfaces (
                   Controller,
                   &gEfiExtScsiPassThruProtocolGuid,
                   &Storage->PassThru,
                   NULL
                   );
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Storage->Channel->Close (Storage->Channel);
  gBS->CloseProtocol (Controller, &gBygoneVmbusChannelProtocolGuid, This->DriverBindingHandle, Controller);
  FreePool (Storage);
  return EFI_SUCCESS;
}

STATIC EFI_DRIVER_BINDING_PROTOCOL  mBinding = { StorageSupported, StorageStart, StorageStop, 0x10, NULL, NULL };

EFI_STATUS
EFIAPI
StorageEntry (
  IN EFI_HANDLE        ImageHandle,
  IN EFI_SYSTEM_TABLE  *SystemTable
  )
{
  return EfiLibInstallDriverBinding (ImageHandle, SystemTable, &mBinding, ImageHandle);
}
