/** @file
  EFI_EXT_SCSI_PASS_THRU_PROTOCOL (UEFI 2.10, 15.7) on the storage channel. Blocking only: the SCSI disk driver above copes.

  SPDX-License-Identifier: Apache-2.0
**/
#include "Storage.h"

/// The largest transfer of one request. ScsiDisk asks again with less when told so.
#define MAXIMUM_TRANSFER  SIZE_4MB

#define REPORT_LUNS_TIMEOUT  100000000ULL   ///< 10 s in 100 ns units
#define REPORT_LUNS_BYTES    (8 + 8 * STORAGE_MAXIMUM_LUNS)

STATIC VOID
TranslateStatus (
  IN     CONST STORAGE_SRB                           *Srb,
  IN OUT EFI_EXT_SCSI_PASS_THRU_SCSI_REQUEST_PACKET  *Packet,
  OUT    EFI_STATUS                                  *Status
  )
{
  UINT8  SenseBytes;

  *Status              = EFI_SUCCESS;
  Packet->TargetStatus = Srb->ScsiStatus;
  switch (Srb->SrbStatus & SRB_STATUS_MASK) {
    case SRB_STATUS_SUCCESS:
      Packet->HostAdapterStatus = EFI_EXT_SCSI_STATUS_HOST_ADAPTER_OK;
      break;
    case SRB_STATUS_DATA_OVERRUN:
      Packet->HostAdapterStatus = EFI_EXT_SCSI_STATUS_HOST_ADAPTER_DATA_OVERRUN_UNDERRUN;
      break;
    case SRB_STATUS_NO_DEVICE:
    case SRB_STATUS_INVALID_LUN:
      Packet->HostAdapterStatus = EFI_EXT_SCSI_STATUS_HOST_ADAPTER_SELECTION_TIMEOUT;
      *Status                   = EFI_TIMEOUT;
      break;
    case SRB_STATUS_TIMEOUT:
    case SRB_STATUS_ABORTED:
      Packet->HostAdapterStatus = EFI_EXT_SCSI_STATUS_HOST_ADAPTER_TIMEOUT;
      *Status                   = EFI_TIMEOUT;
      break;
    default:
      // The target's own status says what is wrong, if there is one.
      Packet->HostAdapterStatus = (Srb->ScsiStatus != 0) ? EFI_EXT_SCSI_STATUS_HOST_ADAPTER_OK
                                                         : EFI_EXT_SCSI_STATUS_HOST_ADAPTER_OTHER;
      *Status = EFI_DEVICE_ERROR;
      break;
  }

  if ((Srb->SrbStatus & SRB_STATUS_SENSE_VALID) != 0) {
    SenseBytes = MIN (MIN (Srb->SenseLength, SENSE_BYTES), Packet->SenseDataLength);
    if (Packet->SenseData != NULL) {
      CopyMem (Packet->SenseData, Srb->u.Sense, SenseBytes);
    }

    Packet->SenseDataLength = SenseBytes;
  } else {
    Packet->SenseDataLength = 0;
  }
}

STATIC EFI_STATUS
EFIAPI
PassThru (
  IN     EFI_EXT_SCSI_PASS_THRU_PROTOCOL             *This,
  IN     UINT8                                       *Target,
  IN     UINT64                                      Lun,
  IN OUT EFI_EXT_SCSI_PASS_THRU_SCSI_REQUEST_PACKET  *Packet,
  IN     EFI_EVENT                                   Event OPTIONAL
  )
{
  STORAGE         *Storage;
  STORAGE_PACKET  Request;
  EFI_STATUS      Status;
  VOID            *Data;
  UINT32          *DataBytes;
  EFI_TPL         Tpl;

  Storage = STORAGE_FROM_PASS_THRU (This);
  if ((Packet == NULL) || (Packet->Cdb == NULL) || (Packet->CdbLength == 0) ||
      (Packet->CdbLength > sizeof (Request.u.Srb.u.Cdb)) || (Packet->DataDirection > 1) ||
      (Target[0] != 0) || (Lun >= STORAGE_MAXIMUM_LUNS))
  {
    return EFI_INVALID_PARAMETER;
  }

  Data      = (Packet->DataDirection == 0) ? Packet->InDataBuffer : Packet->OutDataBuffer;
  DataBytes = (Packet->DataDirection == 0) ? &Packet->InTransferLength : &Packet->OutTransferLength;
  if (*DataBytes > MAXIMUM_TRANSFER) {
    *DataBytes = MAXIMUM_TRANSFER;
    return EFI_BAD_BUFFER_SIZE;
  }

  if ((*DataBytes != 0) && (Data == NULL)) {
    return EFI_INVALID_PARAMETER;
  }

  ZeroMem (&Request, sizeof (Request));
  Request.Operation          = StorageExecuteSrb;
  Request.Flags              = STORAGE_FLAG_COMPLETE;
  Request.u.Srb.Length       = sizeof (Request.u.Srb);
  Request.u.Srb.Lun          = (UINT8)Lun;
  Request.u.Srb.CdbLength    = Packet->CdbLength;
  Request.u.Srb.SenseLength  = SENSE_BYTES;
  Request.u.Srb.DataBytes    = *DataBytes;
  Request.u.Srb.SrbFlags     = SRB_FLAGS_NO_SYNCH_TRANSFER;
  Request.u.Srb.TimeoutSeconds = (UINT32)DivU64x32 (Packet->Timeout, 10000000);
  CopyMem (Request.u.Srb.u.Cdb, Packet->Cdb, Packet->CdbLength);
  if (*DataBytes == 0) {
    Request.u.Srb.DataDirection = STORAGE_DATA_NONE;
  } else if (Packet->DataDirection == 0) {
    Request.u.Srb.DataDirection = STORAGE_DATA_IN;
    Request.u.Srb.SrbFlags     |= SRB_FLAGS_DATA_IN;
  } else {
    Request.u.Srb.DataDirection = STORAGE_DATA_OUT;
    Request.u.Srb.SrbFlags     |= SRB_FLAGS_DATA_OUT;
  }

  // Requests may come from timer events: one at a time.
  Tpl    = gBS->RaiseTPL (TPL_CALLBACK);
  Status = StorageTransact (
             Storage,
             &Request,
             Data,
             *DataBytes,
             (Packet->Timeout == 0) ? 0 : MultU64x32 (Packet->Timeout, 100)
             );
  gBS->RestoreTPL (Tpl);
  if (EFI_ERROR (Status)) {
    Packet->HostAdapterStatus = EFI_EXT_SCSI_STATUS_HOST_ADAPTER_TIMEOUT_COMMAND;
    Packet->SenseDataLength   = 0;
    return (Status == EFI_TIMEOUT) ? EFI_TIMEOUT : EFI_DEVICE_ERROR;
  }

  *DataBytes = MIN (*DataBytes, Request.u.Srb.DataBytes);
  TranslateStatus (&Request.u.Srb, Packet, &Status);
  if (!EFI_ERROR (Status) && (Event != NULL)) {
    gBS->SignalEvent (Event);
  }

  return Status;
}

VOID
StorageFindUnits (
  IN OUT STORAGE  *Storage
  )
{
  EFI_EXT_SCSI_PASS_THRU_SCSI_REQUEST_PACKET  Packet;
  UINT8                                       Target[TARGET_MAX_BYTES];
  UINT8                                       Cdb[12];
  UINT8                                       *List;
  UINT32                                      Bytes;
  UINTN                                       Index;

  List = AllocateZeroPool (REPORT_LUNS_BYTES);
  if (List == NULL) {
    return;
  }

  ZeroMem (&Packet, sizeof (Packet));
  ZeroMem (Target, sizeof (Target));
  ZeroMem (Cdb, sizeof (Cdb));
  Cdb[0] = 0xA0;                                             // REPORT LUNS (SPC-4, 6.33)
  WriteUnaligned32 ((UINT32 *)&Cdb[6], SwapBytes32 (REPORT_LUNS_BYTES));
  Packet.Timeout          = REPORT_LUNS_TIMEOUT;
  Packet.Cdb              = Cdb;
  Packet.CdbLength        = sizeof (Cdb);
  Packet.InDataBuffer     = List;
  Packet.InTransferLength = REPORT_LUNS_BYTES;
  if (!EFI_ERROR (PassThru (&Storage->PassThru, Target, 0, &Packet, NULL)) && (Packet.TargetStatus == 0)) {
    Bytes = MIN (SwapBytes32 (ReadUnaligned32 ((UINT32 *)List)), REPORT_LUNS_BYTES - 8);
    for (Index = 0; Index < Bytes / 8; ++Index) {
      // Single-level addressing: the unit is the second byte.
      if (List[8 + 8 * Index + 1] < STORAGE_MAXIMUM_LUNS) {
        Storage->Luns[Storage->LunCount++] = List[8 + 8 * Index + 1];
      }
    }
  } else {
    // An adapter that does not know: the bus driver's INQUIRY sorts out which exist.
    for (Index = 0; Index < 8; ++Index) {
      Storage->Luns[Storage->LunCount++] = (UINT8)Index;
    }
  }

  FreePool (List);
}

STATIC BOOLEAN
IsFirst (
  IN CONST UINT8  *Target
  )
{
  UINTN  Index;

  for (Index = 0; Index < TARGET_MAX_BYTES; ++Index) {
    if (Target[Index] != 0xFF) {
      return FALSE;
    }
  }

  return TRUE;
}

STATIC EFI_STATUS
EFIAPI
GetNextTargetLun (
  IN     EFI_EXT_SCSI_PASS_THRU_PROTOCOL  *This,
  IN OUT UINT8                            **Target,
  IN OUT UINT64                           *Lun
  )
{
  STORAGE  *Storage;
  UINTN    Index;

  Storage = STORAGE_FROM_PASS_THRU (This);
  Index   = 0;
  if (!IsFirst (*Target)) {
    if ((*Target)[0] != 0) {
      return EFI_INVALID_PARAMETER;
    }

    while ((Index < Storage->LunCount) && (Storage->Luns[Index] != *Lun)) {
      ++Index;
    }

    ++Index;
  }

  if (Index >= Storage->LunCount) {
    return EFI_NOT_FOUND;
  }

  ZeroMem (*Target, TARGET_MAX_BYTES);
  *Lun = Storage->Luns[Index];
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
BuildDevicePath (
  IN     EFI_EXT_SCSI_PASS_THRU_PROTOCOL  *This,
  IN     UINT8                            *Target,
  IN     UINT64                           Lun,
  IN OUT EFI_DEVICE_PATH_PROTOCOL         **DevicePath
  )
{
  SCSI_DEVICE_PATH  *Node;

  if (DevicePath == NULL) {
    return EFI_INVALID_PARAMETER;
  }

  if ((Target[0] != 0) || (Lun >= STORAGE_MAXIMUM_LUNS)) {
    return EFI_NOT_FOUND;
  }

  Node = (SCSI_DEVICE_PATH *)CreateDeviceNode (MESSAGING_DEVICE_PATH, MSG_SCSI_DP, sizeof (*Node));
  if (Node == NULL) {
    return EFI_OUT_OF_RESOURCES;
  }

  Node->Pun   = Target[0];
  Node->Lun   = (UINT16)Lun;
  *DevicePath = &Node->Header;
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
GetTargetLun (
  IN  EFI_EXT_SCSI_PASS_THRU_PROTOCOL  *This,
  IN  EFI_DEVICE_PATH_PROTOCOL         *DevicePath,
  OUT UINT8                            **Target,
  OUT UINT64                           *Lun
  )
{
  SCSI_DEVICE_PATH  *Node;

  if ((DevicePath == NULL) || (Target == NULL) || (*Target == NULL) || (Lun == NULL)) {
    return EFI_INVALID_PARAMETER;
  }

  Node = (SCSI_DEVICE_PATH *)DevicePath;
  if ((DevicePathType (DevicePath) != MESSAGING_DEVICE_PATH) || (DevicePathSubType (DevicePath) != MSG_SCSI_DP) ||
      (DevicePathNodeLength (DevicePath) != sizeof (*Node)))
  {
    return EFI_UNSUPPORTED;
  }

  if ((Node->Pun != 0) || (Node->Lun >= STORAGE_MAXIMUM_LUNS)) {
    return EFI_NOT_FOUND;
  }

  ZeroMem (*Target, TARGET_MAX_BYTES);
  *Lun = Node->Lun;
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
ResetChannel (
  IN EFI_EXT_SCSI_PASS_THRU_PROTOCOL  *This
  )
{
  return EFI_UNSUPPORTED;
}

STATIC EFI_STATUS
EFIAPI
ResetTargetLun (
  IN EFI_EXT_SCSI_PASS_THRU_PROTOCOL  *This,
  IN UINT8                            *Target,
  IN UINT64                           Lun
  )
{
  return EFI_UNSUPPORTED;
}

STATIC EFI_STATUS
EFIAPI
GetNextTarget (
  IN     EFI_EXT_SCSI_PASS_THRU_PROTOCOL  *This,
  IN OUT UINT8                            **Target
  )
{
  if (!IsFirst (*Target)) {
    return EFI_NOT_FOUND;
  }

  ZeroMem (*Target, TARGET_MAX_BYTES);
  return EFI_SUCCESS;
}

VOID
StorageInitializePassThru (
  IN OUT STORAGE  *Storage
  )
{
  Storage->Mode.AdapterId  = 64;
  Storage->Mode.Attributes = EFI_EXT_SCSI_PASS_THRU_ATTRIBUTES_PHYSICAL | EFI_EXT_SCSI_PASS_THRU_ATTRIBUTES_LOGICAL;
  Storage->Mode.IoAlign    = 0;

  Storage->PassThru.Mode             = &Storage->Mode;
  Storage->PassThru.PassThru         = PassThru;
  Storage->PassThru.GetNextTargetLun = GetNextTargetLun;
  Storage->PassThru.BuildDevicePath  = BuildDevicePath;
  Storage->PassThru.GetTargetLun     = GetTargetLun;
  Storage->PassThru.ResetChannel     = ResetChannel;
  Storage->PassThru.ResetTargetLun   = ResetTargetLun;
  Storage->PassThru.GetNextTarget    = GetNextTarget;
}
