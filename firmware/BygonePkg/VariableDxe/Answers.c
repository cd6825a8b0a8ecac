/** @file
  What the host's store has answered, kept until the boot ends: the boot manager and its libraries ask for the same few variables again
  and again, and for the list of all names, and every command leaves the guest twice. Nobody but us changes a variable before then.

  SPDX-License-Identifier: Apache-2.0
**/
#include "Variable.h"
#include <Library/MemoryAllocationLib.h>

/// No more than so many bytes in all; what comes after that is asked for each time.
#define MOST_BYTES  SIZE_256KB

typedef struct {
  LIST_ENTRY      Link;
  STORE_ANSWER    Answer;
  UINT32          Command;
  EFI_GUID        Vendor;
  UINTN           NameBytes;      ///< of the name asked for, which comes first behind this; then the name, then the data answered
} KEPT;

STATIC LIST_ENTRY  mKept = INITIALIZE_LIST_HEAD_VARIABLE (mKept);
STATIC UINTN       mKeptBytes;

STATIC UINTN
KeptBytes (
  IN CONST KEPT  *Kept
  )
{
  return sizeof (*Kept) + Kept->NameBytes + Kept->Answer.NameBytes + Kept->Answer.DataBytes;
}

CONST STORE_ANSWER *
AnswersFind (
  IN UINT32          Command,
  IN CONST CHAR16    *Name,
  IN UINTN           NameBytes,
  IN CONST EFI_GUID  *Vendor
  )
{
  LIST_ENTRY  *Link;
  KEPT        *Kept;

  for (Link = GetFirstNode (&mKept); !IsNull (&mKept, Link); Link = GetNextNode (&mKept, Link)) {
    Kept = BASE_CR (Link, KEPT, Link);
    if ((Kept->Command == Command) && (Kept->NameBytes == NameBytes) && (CompareMem (Kept + 1, Name, NameBytes) == 0) &&
        ((NameBytes == 0) || CompareGuid (&Kept->Vendor, Vendor)))
    {
      return &Kept->Answer;
    }
  }

  return NULL;
}

VOID
AnswersKeep (
  IN UINT32              Command,
  IN CONST CHAR16        *Name,
  IN UINTN               NameBytes,
  IN CONST EFI_GUID      *Vendor,
  IN CONST STORE_ANSWER  *Answer
  )
{
  KEPT   *Kept;
  UINTN  Bytes;

  Bytes = sizeof (*Kept) + NameBytes + Answer->NameBytes + Answer->DataBytes;
  if (mKeptBytes + Bytes > MOST_BYTES) {
    return;
  }

  Kept = AllocatePool (Bytes);
  if (Kept == NULL) {
    return;
  }

  Kept->Command   = Command;
  Kept->NameBytes = NameBytes;
  CopyGuid (&Kept->Vendor, Vendor);
  CopyMem (Kept + 1, Name, NameBytes);
  Kept->Answer      = *Answer;
  Kept->Answer.Name = (UINT8 *)(Kept + 1) + NameBytes;
  Kept->Answer.Data = Kept->Answer.Name + Answer->NameBytes;
  CopyMem (Kept->Answer.Name, Answer->Name, Answer->NameBytes);
  CopyMem (Kept->Answer.Data, Answer->Data, Answer->DataBytes);
  InsertTailList (&mKept, &Kept->Link);
  mKeptBytes += Bytes;
}

VOID
AnswersForget (
  IN CONST CHAR16    *Name,
  IN UINTN           NameBytes,
  IN CONST EFI_GUID  *Vendor
  )
{
  LIST_ENTRY  *Link;
  KEPT        *Kept;

  for (Link = GetFirstNode (&mKept); !IsNull (&mKept, Link);) {
    Kept = BASE_CR (Link, KEPT, Link);
    Link = GetNextNode (&mKept, Link);
    if ((Kept->Command == NvramGet) && ((Kept->NameBytes != NameBytes) || (CompareMem (Kept + 1, Name, NameBytes) != 0) ||
                                        !CompareGuid (&Kept->Vendor, Vendor)))
    {
      continue;
    }

    RemoveEntryList (&Kept->Link);
    mKeptBytes -= KeptBytes (Kept);
    FreePool (Kept);
  }
}
