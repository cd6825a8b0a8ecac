/** @file
  Walks the configuration blob where the loader left it. A record that does not fit ends the walk: the blob is the
  host's, but a damaged one shall stop the machine with a message, not send it astray.

  SPDX-License-Identifier: Apache-2.0
**/
#include <Uefi.h>
#include <Library/BlobLib.h>

CONST BLOB_HEADER *
EFIAPI
BlobNext (
  IN UINT32             Type,
  IN CONST BLOB_HEADER  *Previous OPTIONAL
  )
{
  CONST BLOB_COUNT   *First;
  CONST BLOB_HEADER  *Record;
  UINTN              End;

  First = (CONST BLOB_COUNT *)(UINTN)BLOB_ADDRESS;
  if ((First->Header.Type != BlobCount) || (First->Header.Length != sizeof (*First))) {
    return NULL;
  }

  End    = (UINTN)First + First->Bytes;
  Record = (Previous != NULL) ? Previous : &First->Header;
  for ( ; ;) {
    Record = (CONST BLOB_HEADER *)((UINTN)Record + Record->Length);
    if (((UINTN)Record + sizeof (*Record) > End) ||
        (Record->Length < sizeof (*Record)) ||
        ((Record->Length & 7) != 0) ||
        ((UINTN)Record + Record->Length > End))
    {
      return NULL;
    }

    if ((Type == MAX_UINT32) || (Record->Type == Type)) {
      return Record;
    }
  }
}

CONST VOID *
EFIAPI
BlobFind (
  IN  UINT32  Type,
  OUT UINTN   *Bytes OPTIONAL
  )
{
  CONST BLOB_HEADER  *Record;

  Record = BlobNext (Type, NULL);
  if (Record == NULL) {
    return NULL;
  }

  if (Bytes != NULL) {
    *Bytes = Record->Length - sizeof (*Record);
  }

  return Record + 1;
}

UINT64
EFIAPI
BlobFlagsValue (
  VOID
  )
{
  CONST UINT64  *Flags;
  UINTN         Bytes;

  Bytes = 0;
  Flags = BlobFind (BlobFlags, &Bytes);
  return ((Flags != NULL) && (Bytes >= sizeof (*Flags))) ? *Flags : 0;
}

CONST CHAR8 *
EFIAPI
BlobString (
  IN UINT32       Type,
  IN CONST CHAR8  *Default
  )
{
  CONST CHAR8  *Text;
  UINTN        Bytes;
  UINTN        Index;

  Bytes = 0;
  Text  = BlobFind (Type, &Bytes);
  if ((Text == NULL) || (Bytes == 0) || (Text[0] == 0)) {
    return Default;
  }

  for (Index = 0; Index < Bytes; ++Index) {
    if (Text[Index] == 0) {
      return Text;
    }
  }

  return Default;
}
