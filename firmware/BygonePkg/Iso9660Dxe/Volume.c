/** @file
  Media: which devices hold an ISO 9660 volume. They are looked at whenever something is about to be booted, the shell included, and so
  after El Torito's boot images have got their file systems: those are what a DVD boots from first.

  SPDX-License-Identifier: Apache-2.0
**/
#include "Iso9660.h"
#include <Guid/EventGroup.h>

#define FIRST_DESCRIPTOR  16                ///< ECMA-119, 6.2.1: the sector
#define LAST_DESCRIPTOR   64                ///< no medium has so many

#define DESCRIPTOR_PRIMARY        1
#define DESCRIPTOR_SUPPLEMENTARY  2
#define DESCRIPTOR_END            255

STATIC LIST_ENTRY  mVolumes = INITIALIZE_LIST_HEAD_VARIABLE (mVolumes);

EFI_STATUS
VolumeRead (
  IN  ISO_VOLUME  *Volume,
  IN  UINT64      Offset,
  IN  UINTN       Bytes,
  OUT VOID        *Buffer
  )
{
  EFI_BLOCK_IO_PROTOCOL  *BlockIo;
  EFI_STATUS             Status;
  UINTN                  Part;
  UINTN                  Skip;
  UINT8                  *To;

  if ((Offset > Volume->Bytes) || (Bytes > Volume->Bytes - Offset)) {
    return EFI_VOLUME_CORRUPTED;
  }

  BlockIo = Volume->BlockIo;
  To      = Buffer;
  while (Bytes != 0) {
    Skip = (UINTN)Offset % SECTOR_BYTES;
    if ((Skip == 0) && (Bytes >= SECTOR_BYTES) && ((BlockIo->Media->IoAlign <= 1) || ((UINTN)To % BlockIo->Media->IoAlign == 0))) {
      Part   = Bytes - Bytes % SECTOR_BYTES;
      Status = BlockIo->ReadBlocks (BlockIo, Volume->MediaId, DivU64x32 (Offset, SECTOR_BYTES), Part, To);
    } else {
      Part   = MIN (Bytes, SECTOR_BYTES - Skip);
      Status = BlockIo->ReadBlocks (BlockIo, Volume->MediaId, DivU64x32 (Offset, SECTOR_BYTES), SECTOR_BYTES, Volume->Sector);
      CopyMem (To, Volume->Sector + Skip, Part);
    }

    if (EFI_ERROR (Status)) {
      return Status;
    }

    To     += Part;
    Offset += Part;
    Bytes  -= Part;
  }

  return EFI_SUCCESS;
}

/// Joliet, 1.3: escape sequences of UCS-2, level 1, 2 and 3.
STATIC BOOLEAN
IsJoliet (
  IN CONST ISO_VOLUME_DESCRIPTOR  *Descriptor
  )
{
  CONST UINT8  *Escapes;

  Escapes = Descriptor->Escapes;
  return (BOOLEAN)((Escapes[0] == '%') && (Escapes[1] == '/') && ((Escapes[2] == '@') || (Escapes[2] == 'C') || (Escapes[2] == 'E')));
}

STATIC VOID
TakeLabel (
  IN OUT ISO_VOLUME                   *Volume,
  IN     CONST ISO_VOLUME_DESCRIPTOR  *Descriptor
  )
{
  UINTN  Length;

  for (Length = 0; Length < sizeof (Descriptor->Label); ++Length) {
    Volume->Label[Length] = Descriptor->Label[Length];
  }

  while ((Length != 0) && ((Volume->Label[Length - 1] == L' ') || (Volume->Label[Length - 1] == 0))) {
    --Length;
  }

  Volume->Label[Length] = 0;
}

STATIC EFI_STATUS
ReadDescriptors (
  IN OUT ISO_VOLUME  *Volume
  )
{
  ISO_VOLUME_DESCRIPTOR  Descriptor;
  EFI_STATUS             Status;
  BOOLEAN                Found;
  UINT64                 Sector;

  Found = FALSE;
  for (Sector = FIRST_DESCRIPTOR; Sector < LAST_DESCRIPTOR; ++Sector) {
    Status = VolumeRead (Volume, Sector * SECTOR_BYTES, sizeof (Descriptor), &Descriptor);
    if (EFI_ERROR (Status) || (CompareMem (Descriptor.Identifier, "CD001", 5) != 0) || (Descriptor.Type == DESCRIPTOR_END)) {
      break;
    }

    if (Descriptor.SectorBytes != SECTOR_BYTES) {
      continue;
    }

    if (((Descriptor.Type == DESCRIPTOR_PRIMARY) && !Found) ||
        ((Descriptor.Type == DESCRIPTOR_SUPPLEMENTARY) && Found && !Volume->Joliet && IsJoliet (&Descriptor)))
    {
      Volume->Joliet = (BOOLEAN)(Descriptor.Type == DESCRIPTOR_SUPPLEMENTARY);
      if (!Volume->Joliet) {
        TakeLabel (Volume, &Descriptor);
      }

      if (EFI_ERROR (EntryFromRecord (Volume, (CONST ISO_RECORD *)Descriptor.Root, &Volume->Root)) || !Volume->Root.IsDirectory) {
        return EFI_VOLUME_CORRUPTED;
      }

      Volume->Root.Name[0] = 0;
      Found                = TRUE;
    }
  }

  return Found ? EFI_SUCCESS : EFI_UNSUPPORTED;
}

STATIC VOID
Free (
  IN ISO_VOLUME  *Volume
  )
{
  if (Volume->Path != NULL) {
    FreePool (Volume->Path);
  }

  if (Volume->Sector != NULL) {
    FreeAlignedPages (Volume->Sector, 1);
  }

  FreePool (Volume);
}

STATIC VOID
Mount (
  IN EFI_HANDLE             Device,
  IN EFI_BLOCK_IO_PROTOCOL  *BlockIo
  )
{
  VENDOR_DEVICE_PATH  Node;
  ISO_VOLUME          *Volume;
  EFI_STATUS          Status;

  Volume = AllocateZeroPool (sizeof (*Volume));
  if (Volume == NULL) {
    return;
  }

  Volume->Signature             = VOLUME_SIGNATURE;
  Volume->Device                = Device;
  Volume->BlockIo               = BlockIo;
  Volume->MediaId               = BlockIo->Media->MediaId;
  Volume->Bytes                 = MultU64x32 (BlockIo->Media->LastBlock + 1, SECTOR_BYTES);
  Volume->FileSystem.Revision   = EFI_SIMPLE_FILE_SYSTEM_PROTOCOL_REVISION;
  Volume->FileSystem.OpenVolume = FileOpenVolume;
  Volume->Sector                = AllocateAlignedPages (1, MAX (BlockIo->Media->IoAlign, EFI_PAGE_SIZE));

  ZeroMem (&Node, sizeof (Node));
  Node.Header.Type    = MEDIA_DEVICE_PATH;
  Node.Header.SubType = MEDIA_VENDOR_DP;
  SetDevicePathNodeLength (&Node, sizeof (Node));
  CopyGuid (&Node.Guid, &gBygoneIso9660NodeGuid);
  Volume->Path = AppendDevicePathNode (DevicePathFromHandle (Device), &Node.Header);

  Status = ((Volume->Sector == NULL) || (Volume->Path == NULL)) ? EFI_OUT_OF_RESOURCES : ReadDescriptors (Volume);
  if (!EFI_ERROR (Status)) {
    Status = gBS->InstallMultipleProtocolInterfaces (
                    &Volume->Handle,
                    &gEfiDevicePathProtocolGuid,
                    Volume->Path,
                    &gEfiSimpleFileSystemProtocolGuid,
                    &Volume->FileSystem,
                    NULL
                    );
  }

  if (EFI_ERROR (Status)) {
    Free (Volume);
    return;
  }

  InsertTailList (&mVolumes, &Volume->Link);
}

/// Takes volumes away whose medium is another now. Their memory stays: a file of theirs may still be open, and fails when it is read.
STATIC VOID
UnmountChanged (
  VOID
  )
{
  LIST_ENTRY  *Link;
  LIST_ENTRY  *Next;
  ISO_VOLUME  *Volume;

  for (Link = mVolumes.ForwardLink; Link != &mVolumes; Link = Next) {
    Next   = Link->ForwardLink;
    Volume = CR (Link, ISO_VOLUME, Link, VOLUME_SIGNATURE);
    if (Volume->BlockIo->Media->MediaPresent && (Volume->BlockIo->Media->MediaId == Volume->MediaId)) {
      continue;
    }

    if (!EFI_ERROR (
           gBS->UninstallMultipleProtocolInterfaces (
                  Volume->Handle,
                  &gEfiDevicePathProtocolGuid,
                  Volume->Path,
                  &gEfiSimpleFileSystemProtocolGuid,
                  &Volume->FileSystem,
                  NULL
                  )
           ))
    {
      RemoveEntryList (Link);
    }
  }
}

STATIC BOOLEAN
IsMounted (
  IN EFI_HANDLE  Device
  )
{
  LIST_ENTRY  *Link;
  ISO_VOLUME  *Volume;

  for (Link = mVolumes.ForwardLink; Link != &mVolumes; Link = Link->ForwardLink) {
    Volume = CR (Link, ISO_VOLUME, Link, VOLUME_SIGNATURE);
    if (Volume->Device == Device) {
      return TRUE;
    }
  }

  return FALSE;
}

STATIC VOID
EFIAPI
OnReadyToBoot (
  IN EFI_EVENT  Event,
  IN VOID       *Context
  )
{
  EFI_BLOCK_IO_PROTOCOL  *BlockIo;
  EFI_HANDLE             *Handles;
  UINTN                  Count;
  UINTN                  Index;

  UnmountChanged ();
  if (EFI_ERROR (gBS->LocateHandleBuffer (ByProtocol, &gEfiBlockIoProtocolGuid, NULL, &Count, &Handles))) {
    return;
  }

  for (Index = 0; Index < Count; ++Index) {
    if (!EFI_ERROR (gBS->HandleProtocol (Handles[Index], &gEfiBlockIoProtocolGuid, (VOID **)&BlockIo)) &&
        BlockIo->Media->MediaPresent && !BlockIo->Media->LogicalPartition && (BlockIo->Media->BlockSize == SECTOR_BYTES) &&
        (DevicePathFromHandle (Handles[Index]) != NULL) && !IsMounted (Handles[Index]))
    {
      Mount (Handles[Index], BlockIo);
    }
  }

  FreePool (Handles);
}

EFI_STATUS
EFIAPI
Iso9660Entry (
  IN EFI_HANDLE        ImageHandle,
  IN EFI_SYSTEM_TABLE  *SystemTable
  )
{
  EFI_EVENT  Event;

  return gBS->CreateEventEx (EVT_NOTIFY_SIGNAL, TPL_CALLBACK, OnReadyToBoot, NULL, &gEfiEventReadyToBootGuid, &Event);
}
