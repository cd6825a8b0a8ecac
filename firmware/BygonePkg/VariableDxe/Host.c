/** @file
  Commands to the host's variable store (docs/firmware-interface.md, "NVRAM commands"). The descriptor and the bounce buffer
  keep their physical addresses for ever; only our pointers to them change.

  SPDX-License-Identifier: Apache-2.0
**/
#include "Variable.h"
#include <Library/HelperPortLib.h>

#define STATUS_PENDING  MAX_UINT64

#pragma pack(1)

typedef struct {
  UINT32    Command;
  UINT64    Status;            ///< without the error bit
  union {
    struct {
      UINT32      Attributes;
      UINT64      Name;
      UINT32      NameBytes;
      EFI_GUID    Vendor;
      UINT64      Data;
      UINT32      DataBytes;
    } Variable;
    struct {
      UINT32    Attributes;
      UINT64    Maximum;
      UINT64    Remaining;
      UINT64    LargestVariable;
    } Query;
    UINT64    RuntimeFlags;
  } u;
} NVRAM_DESCRIPTOR;

#pragma pack()

STATIC_ASSERT (sizeof (NVRAM_DESCRIPTOR) == 56, "the host's layout");

typedef struct {
  NVRAM_DESCRIPTOR    Descriptor;
  UINT8               Padding[8];
  UINT8               Name[MAXIMUM_NAME_BYTES];
  UINT8               Data[MAXIMUM_DATA_BYTES];
} NVRAM_BUFFER;

STATIC NVRAM_BUFFER          *mBuffer;
STATIC EFI_PHYSICAL_ADDRESS  mBufferAddress;
STATIC BOOLEAN               mPresent;
STATIC BOOLEAN               mEnded;                 ///< the operating system has taken over

STATIC EFI_STATUS
Execute (
  VOID
  );

STATIC NVRAM_DESCRIPTOR *
NewCommand (
  IN UINT32  Command
  );

BOOLEAN
HostStorePresent (
  VOID
  )
{
  return mPresent;
}

EFI_STATUS
HostStoreStart (
  VOID
  )
{
  EFI_STATUS  Status;

  // The command is a 32-bit port write.
  mBufferAddress = MAX_UINT32;
  Status         = gBS->AllocatePages (
                          AllocateMaxAddress,
                          EfiRuntimeServicesData,
                          EFI_SIZE_TO_PAGES (sizeof (*mBuffer)),
                          &mBufferAddress
                          );
  if (!EFI_ERROR (Status)) {
    mBuffer = (NVRAM_BUFFER *)(UINTN)mBufferAddress;
    ZeroMem (mBuffer, sizeof (*mBuffer));
    NewCommand (NvramQueryInfo)->u.Query.Attributes = EFI_VARIABLE_NON_VOLATILE | EFI_VARIABLE_BOOTSERVICE_ACCESS;
    mPresent                                        = TRUE;
    mPresent                                        = (BOOLEAN)(Execute () != EFI_DEVICE_ERROR);
  }

  return Status;
}

VOID
HostStoreConvert (
  VOID
  )
{
  EfiConvertPointer (0, (VOID **)&mBuffer);
}

STATIC NVRAM_DESCRIPTOR *
NewCommand (
  IN UINT32  Command
  )
{
  NVRAM_DESCRIPTOR  *Descriptor;

  Descriptor = &mBuffer->Descriptor;
  ZeroMem (Descriptor, sizeof (*Descriptor));
  Descriptor->Command = Command;
  return Descriptor;
}

STATIC EFI_STATUS
Execute (
  VOID
  )
{
  volatile NVRAM_DESCRIPTOR  *Descriptor;
  UINT64                     Status;

  if (!mPresent) {
    return EFI_NOT_FOUND;
  }

  Descriptor = &mBuffer->Descriptor;
  do {
    Descriptor->Status = STATUS_PENDING;
    MemoryFence ();
    HelperWrite (HELPER_NVRAM_COMMAND, (UINT32)mBufferAddress);
    MemoryFence ();
    Status = Descriptor->Status;
    // No helper answered.
    if (Status == STATUS_PENDING) {
      return EFI_DEVICE_ERROR;
    }
  } while (ENCODE_ERROR (Status) == EFI_NOT_READY);

  return (Status == 0) ? EFI_SUCCESS : ENCODE_ERROR (Status);
}

STATIC EFI_STATUS
SetName (
  IN OUT NVRAM_DESCRIPTOR  *Descriptor,
  IN     CONST CHAR16      *Name,
  IN     CONST EFI_GUID    *Vendor
  )
{
  UINTN  Bytes;

  Bytes = StrSize (Name);
  if (Bytes > MAXIMUM_NAME_BYTES) {
    return EFI_INVALID_PARAMETER;
  }

  CopyMem (mBuffer->Name, Name, Bytes);
  Descriptor->u.Variable.Name      = mBufferAddress + OFFSET_OF (NVRAM_BUFFER, Name);
  Descriptor->u.Variable.NameBytes = (UINT32)Bytes;
  CopyGuid (&Descriptor->u.Variable.Vendor, Vendor);
  return EFI_SUCCESS;
}

/// Whether answers are kept: not at run time, when memory is the operating system's and the host may change variables.
STATIC BOOLEAN
KeepsAnswers (
  VOID
  )
{
  return (BOOLEAN)(mPresent && !mEnded && !EfiAtRuntime ());
}

/// Puts an answer that was kept where the host puts its own.
STATIC VOID
Recall (
  IN CONST STORE_ANSWER  *Answer
  )
{
  NVRAM_DESCRIPTOR  *Descriptor;

  Descriptor = &mBuffer->Descriptor;
  CopyMem (mBuffer->Name, Answer->Name, Answer->NameBytes);
  CopyMem (mBuffer->Data, Answer->Data, Answer->DataBytes);
  Descriptor->u.Variable.NameBytes  = (UINT32)Answer->NameBytes;
  Descriptor->u.Variable.DataBytes  = (UINT32)Answer->DataBytes;
  Descriptor->u.Variable.Attributes = Answer->Attributes;
  if (Answer->NameBytes != 0) {
    CopyGuid (&Descriptor->u.Variable.Vendor, &Answer->Vendor);
  }
}

/// Executes a command that only asks, or recalls what the host has answered to it before.
STATIC EFI_STATUS
Ask (
  IN CONST CHAR16    *Name,
  IN UINTN           NameBytes,
  IN CONST EFI_GUID  *Vendor
  )
{
  NVRAM_DESCRIPTOR    *Descriptor;
  CONST STORE_ANSWER  *Found;
  STORE_ANSWER        Answer;

  Descriptor = &mBuffer->Descriptor;
  if (!KeepsAnswers ()) {
    return Execute ();
  }

  Found = AnswersFind (Descriptor->Command, Name, NameBytes, Vendor);
  if (Found != NULL) {
    Recall (Found);
    return Found->Status;
  }

  ZeroMem (&Answer, sizeof (Answer));
  Answer.Status = Execute ();
  Answer.Name   = mBuffer->Name;
  Answer.Data   = mBuffer->Data;
  if (!EFI_ERROR (Answer.Status) && (Descriptor->Command == NvramGet)) {
    Answer.Attributes = Descriptor->u.Variable.Attributes;
    Answer.DataBytes  = Descriptor->u.Variable.DataBytes;
  } else if (!EFI_ERROR (Answer.Status)) {
    Answer.NameBytes = Descriptor->u.Variable.NameBytes;
    CopyGuid (&Answer.Vendor, &Descriptor->u.Variable.Vendor);
  }

  // An error other than "there is none" may pass; an answer that is too long is refused by our caller.
  if ((!EFI_ERROR (Answer.Status) || (Answer.Status == EFI_NOT_FOUND)) && (Answer.DataBytes <= MAXIMUM_DATA_BYTES) &&
      (Answer.NameBytes <= MAXIMUM_NAME_BYTES))
  {
    AnswersKeep (Descriptor->Command, Name, NameBytes, Vendor, &Answer);
  }

  return Answer.Status;
}

EFI_STATUS
HostGet (
  IN     CONST CHAR16    *Name,
  IN     CONST EFI_GUID  *Vendor,
  OUT    UINT32          *Attributes OPTIONAL,
  IN OUT UINTN           *DataBytes,
  OUT    VOID            *Data OPTIONAL
  )
{
  NVRAM_DESCRIPTOR  *Descriptor;
  EFI_STATUS        Status;
  UINTN             Bytes;

  Descriptor = &mBuffer->Descriptor;
  NewCommand (NvramGet);
  Status = SetName (Descriptor, Name, Vendor);
  if (EFI_ERROR (Status)) {
    return EFI_NOT_FOUND;
  }

  Descriptor->u.Variable.Data      = mBufferAddress + OFFSET_OF (NVRAM_BUFFER, Data);
  Descriptor->u.Variable.DataBytes = MAXIMUM_DATA_BYTES;
  Status                           = Ask (Name, StrSize (Name), Vendor);
  if (EFI_ERROR (Status)) {
    return (Status == EFI_BUFFER_TOO_SMALL) ? EFI_DEVICE_ERROR : Status;
  }

  if (Descriptor->u.Variable.DataBytes > MAXIMUM_DATA_BYTES) {
    return EFI_DEVICE_ERROR;
  }

  if (Attributes != NULL) {
    *Attributes = Descriptor->u.Variable.Attributes;
  }

  Bytes = Descriptor->u.Variable.DataBytes;
  if (Bytes > *DataBytes) {
    *DataBytes = Bytes;
    return EFI_BUFFER_TOO_SMALL;
  }

  if ((Data == NULL) && (Bytes != 0)) {
    return EFI_INVALID_PARAMETER;
  }

  CopyMem (Data, mBuffer->Data, Bytes);
  *DataBytes = Bytes;
  return EFI_SUCCESS;
}

EFI_STATUS
HostSet (
  IN CONST CHAR16    *Name,
  IN CONST EFI_GUID  *Vendor,
  IN UINT32          Attributes,
  IN UINTN           DataBytes,
  IN CONST VOID      *Data
  )
{
  NVRAM_DESCRIPTOR  *Descriptor;
  EFI_STATUS        Status;

  if (DataBytes > MAXIMUM_DATA_BYTES) {
    return EFI_INVALID_PARAMETER;
  }

  Descriptor = NewCommand (NvramSet);
  Status     = SetName (Descriptor, Name, Vendor);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  if (KeepsAnswers ()) {
    AnswersForget (Name, StrSize (Name), Vendor);
  }

  CopyMem (mBuffer->Data, Data, DataBytes);
  Descriptor->u.Variable.Attributes = Attributes;
  Descriptor->u.Variable.Data       = mBufferAddress + OFFSET_OF (NVRAM_BUFFER, Data);
  Descriptor->u.Variable.DataBytes  = (UINT32)DataBytes;
  return Execute ();
}

/// Executes a name command and hands its answer to the caller's buffer. AskedBytes: of the name that is in there; 0: none.
STATIC EFI_STATUS
ExecuteName (
  IN     NVRAM_DESCRIPTOR  *Descriptor,
  IN     UINTN             AskedBytes,
  IN OUT UINTN             *NameBytes,
  OUT    CHAR16            *Name,
  OUT    EFI_GUID          *Vendor
  )
{
  EFI_STATUS  Status;
  UINTN       Bytes;

  Descriptor->u.Variable.Name      = mBufferAddress + OFFSET_OF (NVRAM_BUFFER, Name);
  Descriptor->u.Variable.NameBytes = MAXIMUM_NAME_BYTES;
  Status                           = Ask (Name, AskedBytes, Vendor);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Bytes = Descriptor->u.Variable.NameBytes;
  if ((Bytes > MAXIMUM_NAME_BYTES) || (Bytes < sizeof (CHAR16))) {
    return EFI_DEVICE_ERROR;
  }

  if (Bytes > *NameBytes) {
    *NameBytes = Bytes;
    return EFI_BUFFER_TOO_SMALL;
  }

  CopyMem (Name, mBuffer->Name, Bytes);
  CopyGuid (Vendor, &Descriptor->u.Variable.Vendor);
  *NameBytes = Bytes;
  return EFI_SUCCESS;
}

EFI_STATUS
HostFirstName (
  IN OUT UINTN     *NameBytes,
  OUT    CHAR16    *Name,
  OUT    EFI_GUID  *Vendor
  )
{
  return ExecuteName (NewCommand (NvramGetFirstName), 0, NameBytes, Name, Vendor);
}

EFI_STATUS
HostNextName (
  IN OUT UINTN     *NameBytes,
  IN OUT CHAR16    *Name,
  IN OUT EFI_GUID  *Vendor
  )
{
  NVRAM_DESCRIPTOR  *Descriptor;
  EFI_STATUS        Status;

  Descriptor = NewCommand (NvramGetNextName);
  Status     = SetName (Descriptor, Name, Vendor);
  return EFI_ERROR (Status) ? Status : ExecuteName (Descriptor, StrSize (Name), NameBytes, Name, Vendor);
}

EFI_STATUS
HostQuery (
  IN  UINT32  Attributes,
  OUT UINT64  *Maximum,
  OUT UINT64  *Remaining,
  OUT UINT64  *LargestVariable
  )
{
  NVRAM_DESCRIPTOR  *Descriptor;
  EFI_STATUS        Status;

  Descriptor                     = NewCommand (NvramQueryInfo);
  Descriptor->u.Query.Attributes = Attributes;
  Status                         = Execute ();
  if (!EFI_ERROR (Status)) {
    *Maximum         = Descriptor->u.Query.Maximum;
    *Remaining       = Descriptor->u.Query.Remaining;
    *LargestVariable = Descriptor->u.Query.LargestVariable;
  }

  return Status;
}

VOID
HostStoreEnterRuntime (
  VOID
  )
{
  mEnded = TRUE;
  NewCommand (NvramSignalRuntime);
  Execute ();
}
