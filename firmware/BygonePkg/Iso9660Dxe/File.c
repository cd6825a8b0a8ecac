/** @file
  EFI_FILE_PROTOCOL (UEFI 2.10, 13.5) on a volume that cannot be written.

  SPDX-License-Identifier: Apache-2.0
**/
#include "Iso9660.h"

#define FILE_SIGNATURE  SIGNATURE_32 ('I', 'S', 'O', 'f')

typedef struct {
  UINT32               Signature;
  EFI_FILE_PROTOCOL    Protocol;
  ISO_VOLUME           *Volume;
  ISO_ENTRY            Entry;
  UINT64               Position;
  CHAR16               Path[MAXIMUM_PATH_LENGTH];   ///< from the root; empty for the root itself
} ISO_FILE;

#define FILE_FROM_PROTOCOL(Protocol_)  CR (Protocol_, ISO_FILE, Protocol, FILE_SIGNATURE)

STATIC EFI_STATUS
NewFile (
  IN  ISO_VOLUME         *Volume,
  IN  CONST CHAR16       *Path,
  OUT EFI_FILE_PROTOCOL  **Protocol
  );

STATIC EFI_STATUS
EFIAPI
Open (
  IN  EFI_FILE_PROTOCOL  *This,
  OUT EFI_FILE_PROTOCOL  **NewHandle,
  IN  CHAR16             *FileName,
  IN  UINT64             OpenMode,
  IN  UINT64             Attributes
  )
{
  CHAR16    Path[MAXIMUM_PATH_LENGTH];
  ISO_FILE  *File;

  if ((NewHandle == NULL) || (FileName == NULL)) {
    return EFI_INVALID_PARAMETER;
  }

  if (OpenMode != EFI_FILE_MODE_READ) {
    return EFI_WRITE_PROTECTED;
  }

  File    = FILE_FROM_PROTOCOL (This);
  Path[0] = 0;
  if (FileName[0] != L'\\') {
    StrCpyS (Path, MAXIMUM_PATH_LENGTH, File->Path);
  }

  if (EFI_ERROR (StrCatS (Path, MAXIMUM_PATH_LENGTH, L"\\")) || EFI_ERROR (StrCatS (Path, MAXIMUM_PATH_LENGTH, FileName)) ||
      (PathCleanUpDirectories (Path) == NULL))
  {
    return EFI_NOT_FOUND;
  }

  return NewFile (File->Volume, Path, NewHandle);
}

STATIC EFI_STATUS
EFIAPI
Close (
  IN EFI_FILE_PROTOCOL  *This
  )
{
  ISO_FILE  *File;

  File = FILE_FROM_PROTOCOL (This);
  FreePool (File);
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
Delete (
  IN EFI_FILE_PROTOCOL  *This
  )
{
  Close (This);
  return EFI_WARN_DELETE_FAILURE;
}

/// EFI_FILE_INFO of an entry. EFI_BUFFER_TOO_SMALL sets the size that it takes.
STATIC EFI_STATUS
Describe (
  IN     CONST ISO_ENTRY  *Entry,
  IN OUT UINTN            *Bytes,
  OUT    VOID             *Buffer
  )
{
  EFI_FILE_INFO  *Information;
  UINTN          Needed;

  Needed = SIZE_OF_EFI_FILE_INFO + StrSize (Entry->Name);
  if (*Bytes < Needed) {
    *Bytes = Needed;
    return EFI_BUFFER_TOO_SMALL;
  }

  *Bytes      = Needed;
  Information = Buffer;
  ZeroMem (Information, Needed);
  Information->Size         = Needed;
  Information->FileSize     = Entry->Bytes;
  Information->PhysicalSize = ALIGN_VALUE (Entry->Bytes, SECTOR_BYTES);
  Information->Attribute    = EFI_FILE_READ_ONLY | (Entry->IsDirectory ? EFI_FILE_DIRECTORY : 0);
  CopyMem (&Information->CreateTime, &Entry->Time, sizeof (EFI_TIME));
  CopyMem (&Information->LastAccessTime, &Entry->Time, sizeof (EFI_TIME));
  CopyMem (&Information->ModificationTime, &Entry->Time, sizeof (EFI_TIME));
  CopyMem (Information->FileName, Entry->Name, StrSize (Entry->Name));
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
ReadDirectory (
  IN OUT ISO_FILE  *File,
  IN OUT UINTN     *Bytes,
  OUT    VOID      *Buffer
  )
{
  ISO_ENTRY   Entry;
  EFI_STATUS  Status;
  UINT64      Position;

  Position = File->Position;
  Status   = DirectoryNext (File->Volume, &File->Entry, &Position, &Entry);
  if (Status == EFI_END_OF_FILE) {
    *Bytes = 0;
    return EFI_SUCCESS;
  }

  if (!EFI_ERROR (Status)) {
    Status = Describe (&Entry, Bytes, Buffer);
  }

  if (!EFI_ERROR (Status)) {
    File->Position = Position;
  }

  return Status;
}

STATIC EFI_STATUS
EFIAPI
Read (
  IN     EFI_FILE_PROTOCOL  *This,
  IN OUT UINTN              *BufferSize,
  OUT    VOID               *Buffer
  )
{
  ISO_FILE    *File;
  EFI_STATUS  Status;
  UINTN       Bytes;

  File = FILE_FROM_PROTOCOL (This);
  if (File->Entry.IsDirectory) {
    return ReadDirectory (File, BufferSize, Buffer);
  }

  if (File->Position > File->Entry.Bytes) {
    return EFI_DEVICE_ERROR;                // UEFI 2.10, 13.5, Read(): the position is past the end
  }

  Bytes  = (UINTN)MIN ((UINT64)*BufferSize, File->Entry.Bytes - File->Position);
  Status = VolumeRead (File->Volume, File->Entry.Sector * SECTOR_BYTES + File->Position, Bytes, Buffer);
  if (!EFI_ERROR (Status)) {
    *BufferSize     = Bytes;
    File->Position += Bytes;
  }

  return Status;
}

STATIC EFI_STATUS
EFIAPI
Write (
  IN     EFI_FILE_PROTOCOL  *This,
  IN OUT UINTN              *BufferSize,
  IN     VOID               *Buffer
  )
{
  ISO_FILE  *File;

  File = FILE_FROM_PROTOCOL (This);
  return File->Entry.IsDirectory ? EFI_UNSUPPORTED : EFI_WRITE_PROTECTED;
}

STATIC EFI_STATUS
EFIAPI
GetPosition (
  IN  EFI_FILE_PROTOCOL  *This,
  OUT UINT64             *Position
  )
{
  ISO_FILE  *File;

  File = FILE_FROM_PROTOCOL (This);
  if (File->Entry.IsDirectory) {
    return EFI_UNSUPPORTED;
  }

  *Position = File->Position;
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
SetPosition (
  IN EFI_FILE_PROTOCOL  *This,
  IN UINT64             Position
  )
{
  ISO_FILE  *File;

  File = FILE_FROM_PROTOCOL (This);
  if (File->Entry.IsDirectory && (Position != 0)) {
    return EFI_UNSUPPORTED;
  }

  File->Position = (Position == MAX_UINT64) ? File->Entry.Bytes : Position;
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
GetVolumeInfo (
  IN     CONST ISO_VOLUME  *Volume,
  IN OUT UINTN             *Bytes,
  OUT    VOID              *Buffer
  )
{
  EFI_FILE_SYSTEM_INFO  *Information;
  UINTN                 Needed;

  Needed = SIZE_OF_EFI_FILE_SYSTEM_INFO + StrSize (Volume->Label);
  if (*Bytes < Needed) {
    *Bytes = Needed;
    return EFI_BUFFER_TOO_SMALL;
  }

  *Bytes      = Needed;
  Information = Buffer;
  ZeroMem (Information, Needed);
  Information->Size       = Needed;
  Information->ReadOnly   = TRUE;
  Information->VolumeSize = Volume->Bytes;
  Information->BlockSize  = SECTOR_BYTES;
  CopyMem (Information->VolumeLabel, Volume->Label, StrSize (Volume->Label));
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
GetInfo (
  IN     EFI_FILE_PROTOCOL  *This,
  IN     EFI_GUID           *InformationType,
  IN OUT UINTN              *BufferSize,
  OUT    VOID               *Buffer
  )
{
  ISO_FILE  *File;
  UINTN     Needed;

  File = FILE_FROM_PROTOCOL (This);
  if (CompareGuid (InformationType, &gEfiFileInfoGuid)) {
    return Describe (&File->Entry, BufferSize, Buffer);
  }

  if (CompareGuid (InformationType, &gEfiFileSystemInfoGuid)) {
    return GetVolumeInfo (File->Volume, BufferSize, Buffer);
  }

  if (!CompareGuid (InformationType, &gEfiFileSystemVolumeLabelInfoIdGuid)) {
    return EFI_UNSUPPORTED;
  }

  Needed = StrSize (File->Volume->Label);
  if (*BufferSize < Needed) {
    *BufferSize = Needed;
    return EFI_BUFFER_TOO_SMALL;
  }

  *BufferSize = Needed;
  CopyMem (Buffer, File->Volume->Label, Needed);
  return EFI_SUCCESS;
}

STATIC EFI_STATUS
EFIAPI
SetInfo (
  IN EFI_FILE_PROTOCOL  *This,
  IN EFI_GUID           *InformationType,
  IN UINTN              BufferSize,
  IN VOID               *Buffer
  )
{
  return EFI_WRITE_PROTECTED;
}

STATIC EFI_STATUS
EFIAPI
Flush (
  IN EFI_FILE_PROTOCOL  *This
  )
{
  return EFI_SUCCESS;
}

STATIC CONST EFI_FILE_PROTOCOL  mFunctions = {
  EFI_FILE_PROTOCOL_REVISION, Open, Close, Delete, Read, Write, GetPosition, SetPosition, GetInfo, SetInfo, Flush
};

STATIC EFI_STATUS
NewFile (
  IN  ISO_VOLUME         *Volume,
  IN  CONST CHAR16       *Path,
  OUT EFI_FILE_PROTOCOL  **Protocol
  )
{
  ISO_FILE    *File;
  EFI_STATUS  Status;
  UINTN       Length;

  File = AllocateZeroPool (sizeof (*File));
  if (File == NULL) {
    return EFI_OUT_OF_RESOURCES;
  }

  File->Signature = FILE_SIGNATURE;
  File->Volume    = Volume;
  CopyMem (&File->Protocol, &mFunctions, sizeof (mFunctions));
  Status = DirectoryFind (Volume, Path, &File->Entry);
  if (EFI_ERROR (Status)) {
    FreePool (File);
    return Status;
  }

  StrCpyS (File->Path, MAXIMUM_PATH_LENGTH, Path);
  Length = StrLen (File->Path);
  while ((Length != 0) && (File->Path[Length - 1] == L'\\')) {
    File->Path[--Length] = 0;
  }

  *Protocol = &File->Protocol;
  return EFI_SUCCESS;
}

EFI_STATUS
EFIAPI
FileOpenVolume (
  IN  EFI_SIMPLE_FILE_SYSTEM_PROTOCOL  *This,
  OUT EFI_FILE_PROTOCOL                **Root
  )
{
  return NewFile (VOLUME_FROM_FILE_SYSTEM (This), L"", Root);
}
