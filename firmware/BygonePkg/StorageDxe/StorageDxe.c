/** @file
  Driver binding and the storage service's start-up conversation:

    BEGIN_INITIALIZATION -> QUERY_PROTOCOL_VERSION -> QUERY_PROPERTIES -> END_INITIALIZATION -> EXECUTE_SRB...

  SPDX-License-Identifier: Apache-2.0
**/
#include "Storage.h"
#include <Library/VmbusDriverLib.h>

STATIC CONST EFI_GUID  mStorageInterface = {
  0xba6163d9, 0x04a1, 0x4d29, { 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f }
};

/// Control page and 124 KiB: room for several of the largest requests' page lists.
#define RING_PAGES  32

#define START_TIMEOUT_NS  10000000000ULL

STATIC CONST UINT16  mVersions[] = { 0x0602, 0x0600, 0x0501 };

/// An answer to a request that has been given up on, or news about units, is none.
STATIC BOOLEAN
IsCompletion (
  IN OUT VOID        *Driver,
  IN     CONST VOID  *Packet,
  IN     UINT16      Type,
  IN     UINT64      Transaction
  )
{
  return (BOOLEAN)((Type == VMBUS_PACKET_COMPLETION) && (Transaction == ((STORAGE *)Driver)->LastTransaction));
}

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

  Status = Storage->Channel->Send (
                               Storage->Channel,
                               Packet,
                               sizeof (*Packet),
                               Data,
                               DataBytes,
                               ++Storage->LastTransaction,
                               TRUE
                               );
  if (!EFI_ERROR (Status)) {
    Status = VmbusDriverWaitFor (Storage->Channel, &Answer, sizeof (Answer), TimeoutNs, IsCompletion, Storage);
  }

  if (!EFI_ERROR (Status)) {
    CopyMem (Packet, &Answer, sizeof (*Packet));
  }

  return Status;
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
Negotiate (
  IN OUT VOID  *Driver
  )
{
  STORAGE         *Storage;
  STORAGE_PACKET  Packet;
  EFI_STATUS      Status;
  UINTN           Index;

  Storage = Driver;
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
  return VmbusDriverSupports (This, Controller, &mStorageInterface);
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
  Status             = VmbusDriverOpen (This, Controller, &Storage->Channel, RING_PAGES, NULL, Negotiate, Storage);
  if (!EFI_ERROR (Status)) {
    StorageInitializePassThru (Storage);
    StorageFindUnits (Storage);
    Status = gBS->InstallMultipleProtocolInterfaces (
                    &Controller,
                    &gEfiExtScsiPassThruProtocolGuid,
                    &Storage->PassThru,
                    NULL
                    );
    if (EFI_ERROR (Status)) {
      VmbusDriverClose (This, Controller, Storage->Channel);
    }
  }

  if (EFI_ERROR (Status)) {
    DEBUG ((DEBUG_ERROR, "storage: %r\n", Status));
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

  VmbusDriverClose (This, Controller, Storage->Channel);
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
