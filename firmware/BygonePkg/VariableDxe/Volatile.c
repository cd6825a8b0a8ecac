/** @file
  Volatile variables: a list of records in one block of runtime memory, packed when one is deleted.

  SPDX-License-Identifier: Apache-2.0
**/
#include "Variable.h"

#define STORE_BYTES  SIZE_128KB

typedef struct {
  UINT32      Bytes;             ///< of the whole record, a multiple of 8
  UINT32      Attributes;
  UINT32      NameBytes;
  UINT32      DataBytes;
  EFI_GUID    Vendor;
  // The name, then the data.
} RECORD;

STATIC UINT8  *mStore;
STATIC UINTN  mUsed;

EFI_STATUS
VolatileStoreStart (
  VOID
  )
{
  EFI_STATUS            Status;
  EFI_PHYSICAL_ADDRESS  Address;

  Status = gBS->AllocatePages (AllocateAnyPages, EfiRuntimeServicesData, EFI_SIZE_TO_PAGES (STORE_BYTES), &Address);
  if (!EFI_ERROR (Status)) {
    mStore = (UINT8 *)(UINTN)Address;
  }

  return Status;
}

VOID
VolatileStoreConvert (
  VOID
  )
{
  EfiConvertPointer (0, (VOID **)&mStore);
}

STATIC CHAR16 *
NameOf (
  IN RECORD  *Record
  )
{
  return (CHAR16 *)(Record + 1);
}

STATIC UINT8 *
DataOf (
  IN RECORD  *Record
  )
{
  return (UINT8 *)(Record + 1) + Record->NameBytes;
}

STATIC RECORD *
At (
  IN UINTN  Offset
  )
{
  return (RECORD *)(mStore + Offset);
}

/// After ExitBootServices, variables without runtime access are invisible.
STATIC BOOLEAN
Visible (
  IN CONST RECORD  *Record
  )
{
  return (BOOLEAN)(!EfiAtRuntime () || ((Record->Attributes & EFI_VARIABLE_RUNTIME_ACCESS) != 0));
}

STATIC RECORD *
Find (
  IN CONST CHAR16    *Name,
  IN CONST EFI_GUID  *Vendor
  )
{
  UINTN  Offset;

  for (Offset = 0; Offset < mUsed; Offset += At (Offset)->Bytes) {
    if (Visible (At (Offset)) && CompareGuid (&At (Offset)->Vendor, Vendor) &&
        (StrCmp (NameOf (At (Offset)), Name) == 0))
    {
      return At (Offset);
    }
  }

  return NULL;
}

STATIC VOID
Remove (
  IN RECORD  *Record
  )
{
  UINTN  Bytes;
  UINTN  Offset;

  Bytes  = Record->Bytes;
  Offset = (UINTN)((UINT8 *)Record - mStore);
  CopyMem (Record, (UINT8 *)Record + Bytes, mUsed - Offset - Bytes);
  mUsed -= Bytes;
}

EFI_STATUS
VolatileGet (
  IN     CONST CHAR16    *Name,
  IN     CONST EFI_GUID  *Vendor,
  OUT    UINT32          *Attributes OPTIONAL,
  IN OUT UINTN           *DataBytes,
  OUT    VOID            *Data OPTIONAL
  )
{
  RECORD  *Record;
  UINTN   Capacity;

  Record = Find (Name, Vendor);
  if (Record == NULL) {
    return EFI_NOT_FOUND;
  }

  Capacity   = *DataBytes;
  *DataBytes = Record->DataBytes;
  if (Attributes != NULL) {
    *Attributes = Record->Attributes;
  }

  if (Capacity < Record->DataBytes) {
    return EFI_BUFFER_TOO_SMALL;
  }

  if (Data == NULL) {
    return EFI_INVALID_PARAMETER;
  }

  CopyMem (Data, DataOf (Record), Record->DataBytes);
  return EFI_SUCCESS;
}

EFI_STATUS
VolatileSet (
  IN CONST CHAR16    *Name,
  IN CONST EFI_GUID  *Vendor,
  IN UINT32          Attributes,
  IN UINTN           DataBytes,
  IN CONST VOID      *Data
  )
{
  RECORD  *Old;
  RECORD  *New;
  UINTN   OldBytes;
  UINTN   NameBytes;
  UINTN   Bytes;

  Old      = Find (Name, Vendor);
  OldBytes = ((Old != NULL) && ((Attributes & EFI_VARIABLE_APPEND_WRITE) != 0)) ? Old->DataBytes : 0;
  Attributes &= ~(UINT32)EFI_VARIABLE_APPEND_WRITE;
  NameBytes   = StrSize (Name);
  if ((NameBytes > MAXIMUM_NAME_BYTES) || (DataBytes + OldBytes > MAXIMUM_DATA_BYTES)) {
    return EFI_INVALID_PARAMETER;
  }

  Bytes = ALIGN_VALUE (sizeof (RECORD) + NameBytes + OldBytes + DataBytes, 8);
  if (Bytes > STORE_BYTES - mUsed) {
    return EFI_OUT_OF_RESOURCES;
  }

  // The new record first, then the old one goes: the caller's data may be the old record's own.
  New             = At (mUsed);
  New->Bytes      = (UINT32)Bytes;
  New->Attributes = Attributes;
  New->NameBytes  = (UINT32)NameBytes;
  New->DataBytes  = (UINT32)(OldBytes + DataBytes);
  CopyGuid (&New->Vendor, Vendor);
  CopyMem (NameOf (New), Name, NameBytes);
  if (OldBytes != 0) {
    CopyMem (DataOf (New), DataOf (Old), OldBytes);
  }

  CopyMem (DataOf (New) + OldBytes, Data, DataBytes);
  mUsed += Bytes;
  if (Old != NULL) {
    Remove (Old);
  }

  // No data: the variable is deleted. Done last, so that deletion and change are one path.
  if (DataBytes + OldBytes == 0) {
    Remove (Find (Name, Vendor));
  }

  return EFI_SUCCESS;
}

EFI_STATUS
VolatileNextName (
  IN OUT UINTN     *NameBytes,
  IN OUT CHAR16    *Name,
  IN OUT EFI_GUID  *Vendor
  )
{
  RECORD  *Record;
  UINTN   Offset;

  Offset = 0;
  if (Name[0] != 0) {
    Record = Find (Name, Vendor);
    if (Record == NULL) {
      return EFI_NOT_FOUND;
    }

    Offset = (UINTN)((UINT8 *)Record - mStore) + Record->Bytes;
  }

  while ((Offset < mUsed) && !Visible (At (Offset))) {
    Offset += At (Offset)->Bytes;
  }

  if (Offset >= mUsed) {
    return EFI_NOT_FOUND;
  }

  Record = At (Offset);
  if (*NameBytes < Record->NameBytes) {
    *NameBytes = Record->NameBytes;
    return EFI_BUFFER_TOO_SMALL;
  }

  *NameBytes = Record->NameBytes;
  CopyMem (Name, NameOf (Record), Record->NameBytes);
  CopyGuid (Vendor, &Record->Vendor);
  return EFI_SUCCESS;
}

EFI_STATUS
VolatileQuery (
  OUT UINT64  *Maximum,
  OUT UINT64  *Remaining,
  OUT UINT64  *LargestVariable
  )
{
  *Maximum         = STORE_BYTES;
  *Remaining       = STORE_BYTES - mUsed;
  *LargestVariable = MAXIMUM_DATA_BYTES;
  return EFI_SUCCESS;
}
