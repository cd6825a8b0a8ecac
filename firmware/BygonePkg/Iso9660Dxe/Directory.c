/** @file
  Directories: records in a row, none across the end of a sector (ECMA-119, 6.8.1 and 9.1).

  SPDX-License-Identifier: Apache-2.0
**/
#include "Iso9660.h"

#define RECORD_HEADER_BYTES   OFFSET_OF (ISO_RECORD, Name)
#define MAXIMUM_RECORD_BYTES  255

STATIC VOID
TakeTime (
  IN  CONST UINT8  Date[7],
  OUT EFI_TIME     *Time
  )
{
  INT8  Zone;

  ZeroMem (Time, sizeof (*Time));
  Zone           = (INT8)Date[6];
  Time->Year     = (UINT16)(1900 + Date[0]);
  Time->Month    = Date[1];
  Time->Day      = Date[2];
  Time->Hour     = Date[3];
  Time->Minute   = Date[4];
  Time->Second   = Date[5];
  Time->TimeZone = ((Zone >= -48) && (Zone <= 52)) ? (INT16)(-15 * Zone) : EFI_UNSPECIFIED_TIMEZONE;
  if ((Time->Month < 1) || (Time->Month > 12) || (Time->Day < 1) || (Time->Day > 31) || (Time->Hour > 23) || (Time->Minute > 59) ||
      (Time->Second > 59))
  {
    ZeroMem (Time, sizeof (*Time));
    Time->Year  = 1980;
    Time->Month = 1;
    Time->Day   = 1;
  }
}

STATIC VOID
TakeName (
  IN  BOOLEAN           Joliet,
  IN  CONST ISO_RECORD  *Record,
  OUT CHAR16            Name[NAME_LENGTH]
  )
{
  UINTN  Length;
  UINTN  Index;

  Length = 0;
  for (Index = 0; (Index < Record->NameBytes) && (Length < NAME_LENGTH - 1); ++Index) {
    if (!Joliet) {
      Name[Length++] = Record->Name[Index];
    } else if ((Index % 2 == 1)) {
      Name[Length++] = (CHAR16)((Record->Name[Index - 1] << 8) | Record->Name[Index]);
    }
  }

  // ECMA-119, 7.5: behind the name a version, and a period even where there is no extension.
  for (Index = 0; Index < Length; ++Index) {
    if (Name[Index] == L';') {
      Length = Index;
    }

    if ((Name[Index] == L'\\') || (Name[Index] == 0)) {
      Name[Index] = L'_';
    }
  }

  if ((Length > 1) && (Name[Length - 1] == L'.')) {
    --Length;
  }

  Name[Length] = 0;
}

EFI_STATUS
EntryFromRecord (
  IN  CONST ISO_VOLUME  *Volume,
  IN  CONST ISO_RECORD  *Record,
  OUT ISO_ENTRY         *Entry
  )
{
  ZeroMem (Entry, sizeof (*Entry));
  if ((Record->Bytes < RECORD_HEADER_BYTES + 1) || (Record->NameBytes > Record->Bytes - RECORD_HEADER_BYTES)) {
    return EFI_VOLUME_CORRUPTED;
  }

  if (((Record->Flags & RECORD_MULTI_EXTENT) != 0) || (Record->UnitSize != 0)) {
    return EFI_UNSUPPORTED;
  }

  Entry->Sector      = (UINT64)Record->Sector + Record->AttributeSectors;
  Entry->Bytes       = Record->DataBytes;
  Entry->IsDirectory = (BOOLEAN)((Record->Flags & RECORD_DIRECTORY) != 0);
  TakeTime (Record->Date, &Entry->Time);
  TakeName (Volume->Joliet, Record, Entry->Name);
  return EFI_SUCCESS;
}

EFI_STATUS
DirectoryNext (
  IN     ISO_VOLUME       *Volume,
  IN     CONST ISO_ENTRY  *Directory,
  IN OUT UINT64           *Position,
  OUT    ISO_ENTRY        *Entry
  )
{
  UINT8       Bytes[MAXIMUM_RECORD_BYTES + 1];
  ISO_RECORD  *Record;
  EFI_STATUS  Status;
  UINTN       Left;
  UINT64      At;

  Record = (ISO_RECORD *)Bytes;
  while (*Position < Directory->Bytes) {
    At   = Directory->Sector * SECTOR_BYTES + *Position;
    Left = SECTOR_BYTES - (UINTN)(*Position % SECTOR_BYTES);
    ZeroMem (Bytes, sizeof (Bytes));
    Status = VolumeRead (Volume, At, MIN (Left, MAXIMUM_RECORD_BYTES), Bytes);
    if (EFI_ERROR (Status)) {
      return Status;
    }

    if (Record->Bytes == 0) {
      *Position += Left;                    // the rest of the sector is empty
      continue;
    }

    if (Record->Bytes > Left) {
      return EFI_VOLUME_CORRUPTED;
    }

    *Position += Record->Bytes;
    Status     = EntryFromRecord (Volume, Record, Entry);
    if (Status == EFI_VOLUME_CORRUPTED) {
      return Status;
    }

    // Names of one byte 0 and 1 are the directory itself and its parent.
    if (!EFI_ERROR (Status) && (Entry->Name[0] != 0) && ((Record->NameBytes != 1) || (Record->Name[0] > 1))) {
      return EFI_SUCCESS;
    }
  }

  return EFI_END_OF_FILE;
}

STATIC BOOLEAN
IsNamed (
  IN CONST ISO_ENTRY  *Entry,
  IN CONST CHAR16     *Name,
  IN UINTN            Length
  )
{
  UINTN  Index;

  for (Index = 0; Index < Length; ++Index) {
    if (CharToUpper (Entry->Name[Index]) != CharToUpper (Name[Index])) {
      return FALSE;
    }
  }

  return (BOOLEAN)(Entry->Name[Length] == 0);
}

EFI_STATUS
DirectoryFind (
  IN  ISO_VOLUME    *Volume,
  IN  CONST CHAR16  *Path,
  OUT ISO_ENTRY     *Entry
  )
{
  ISO_ENTRY   Directory;
  EFI_STATUS  Status;
  UINT64      Position;
  UINTN       Length;

  CopyMem (Entry, &Volume->Root, sizeof (*Entry));
  for ( ; ;) {
    while (*Path == L'\\') {
      ++Path;
    }

    if (*Path == 0) {
      return EFI_SUCCESS;
    }

    for (Length = 0; (Path[Length] != 0) && (Path[Length] != L'\\'); ++Length) {
    }

    if (!Entry->IsDirectory || (Length >= NAME_LENGTH)) {
      return EFI_NOT_FOUND;
    }

    CopyMem (&Directory, Entry, sizeof (Directory));
    Position = 0;
    do {
      Status = DirectoryNext (Volume, &Directory, &Position, Entry);
      if (EFI_ERROR (Status)) {
        return (Status == EFI_END_OF_FILE) ? EFI_NOT_FOUND : Status;
      }
    } while (!IsNamed (Entry, Path, Length));

    Path += Length;
  }
}
