/** @file
  The storage service's packets (Linux drivers/scsi/storvsc_drv.c describes the same wire format) and the driver's state.

  SPDX-License-Identifier: Apache-2.0
**/
#ifndef BYGONE_STORAGE_H_
#define BYGONE_STORAGE_H_

#include <Uefi.h>
#include <IndustryStandard/Scsi.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/DebugLib.h>
#include <Library/DevicePathLib.h>
#include <Library/MemoryAllocationLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Library/UefiLib.h>
#include <Protocol/DevicePath.h>
#include <Protocol/ScsiPassThruExt.h>
#include <Protocol/VmbusChannel.h>

enum {
  StorageCompleteIo           = 1,
  StorageRemoveDevice         = 2,
  StorageExecuteSrb           = 3,
  StorageBeginInitialization  = 7,
  StorageEndInitialization    = 8,
  StorageQueryProtocolVersion = 9,
  StorageQueryProperties      = 10
};

#define STORAGE_FLAG_COMPLETE  BIT0

#define STORAGE_DATA_OUT   0
#define STORAGE_DATA_IN    1
#define STORAGE_DATA_NONE  2

#define SRB_FLAGS_NO_SYNCH_TRANSFER  0x08
#define SRB_FLAGS_DATA_IN            0x40
#define SRB_FLAGS_DATA_OUT           0x80

#define SRB_STATUS_MASK          0x3F
#define SRB_STATUS_SENSE_VALID   0x80
#define SRB_STATUS_SUCCESS       0x01
#define SRB_STATUS_ABORTED       0x02
#define SRB_STATUS_ERROR         0x04
#define SRB_STATUS_NO_DEVICE     0x08
#define SRB_STATUS_TIMEOUT       0x09
#define SRB_STATUS_DATA_OVERRUN  0x12
#define SRB_STATUS_INVALID_LUN   0x20

#define SENSE_BYTES  20

#pragma pack(1)

typedef struct {
  UINT16    Length;
  UINT8     SrbStatus;
  UINT8     ScsiStatus;
  UINT8     Port;
  UINT8     Path;
  UINT8     Target;
  UINT8     Lun;
  UINT8     CdbLength;
  UINT8     SenseLength;
  UINT8     DataDirection;
  UINT8     Reserved;
  UINT32    DataBytes;
  union {
    UINT8    Cdb[16];
    UINT8    Sense[SENSE_BYTES];
  } u;
  UINT16    Reserved2;
  UINT8     QueueTag;
  UINT8     QueueAction;
  UINT32    SrbFlags;
  UINT32    TimeoutSeconds;
  UINT32    SortKey;
} STORAGE_SRB;

typedef struct {
  UINT32    Operation;
  UINT32    Flags;
  UINT32    Status;
  union {
    STORAGE_SRB    Srb;
    struct {
      UINT16    Version;     ///< major in the high byte
      UINT16    Revision;
    } Version;
  } u;
} STORAGE_PACKET;

#pragma pack()

STATIC_ASSERT (sizeof (STORAGE_SRB) == 52, "the request of Windows 8 and later");
STATIC_ASSERT (sizeof (STORAGE_PACKET) == 64, "the packet of Windows 8 and later");

#define STORAGE_SIGNATURE     SIGNATURE_32 ('b', 'y', 's', 't')
#define STORAGE_MAXIMUM_LUNS  64

typedef struct {
  UINT32                             Signature;
  EFI_HANDLE                         Handle;
  BYGONE_VMBUS_CHANNEL_PROTOCOL      *Channel;
  EFI_EXT_SCSI_PASS_THRU_PROTOCOL    PassThru;
  EFI_EXT_SCSI_PASS_THRU_MODE        Mode;
  UINT64                             LastTransaction;
  UINT8                              Luns[STORAGE_MAXIMUM_LUNS];
  UINTN                              LunCount;
} STORAGE;

#define STORAGE_FROM_PASS_THRU(PassThru_)  (CR (PassThru_, STORAGE, PassThru, STORAGE_SIGNATURE))

/**
  Sends a packet and waits for its completion. One request is in flight at a time.

  @param Packet     in: the request; out: the completion
  @param TimeoutNs  0: wait for ever
**/
EFI_STATUS
StorageTransact (
  IN OUT STORAGE         *Storage,
  IN OUT STORAGE_PACKET  *Packet,
  IN     VOID            *Data OPTIONAL,
  IN     UINTN           DataBytes,
  IN     UINT64          TimeoutNs
  );

/// Fills in the protocol's functions and mode.
VOID
StorageInitializePassThru (
  IN OUT STORAGE  *Storage
  );

/// Asks the adapter which units exist.
VOID
StorageFindUnits (
  IN OUT STORAGE  *Storage
  );

#endif
