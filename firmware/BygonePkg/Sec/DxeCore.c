/** @file
  Finds the DXE core in the main volume (PI 1.7 volume 3, firmware file system 2) and loads it.

  SPDX-License-Identifier: Apache-2.0
**/
#include "Sec.h"
#include <Library/PeCoffLib.h>
#include <Pi/PiFirmwareFile.h>
#include <Pi/PiFirmwareVolume.h>

STATIC EFI_FFS_FILE_HEADER *
FindDxeCoreFile (
  IN EFI_FIRMWARE_VOLUME_HEADER  *Volume
  )
{
  EFI_FFS_FILE_HEADER             *File;
  EFI_FIRMWARE_VOLUME_EXT_HEADER  *Extended;
  UINTN                           Offset;
  UINTN                           Size;

  Offset = Volume->HeaderLength;
  if (Volume->ExtHeaderOffset != 0) {
    Extended = (EFI_FIRMWARE_VOLUME_EXT_HEADER *)((UINTN)Volume + Volume->ExtHeaderOffset);
    Offset   = Volume->ExtHeaderOffset + Extended->ExtHeaderSize;
  }

  while (Offset + sizeof (*File) < Volume->FvLength) {
    Offset = ALIGN_VALUE (Offset, 8);
    File   = (EFI_FFS_FILE_HEADER *)((UINTN)Volume + Offset);
    Size   = IS_FFS_FILE2 (File) ? FFS_FILE2_SIZE (File) : FFS_FILE_SIZE (File);
    if (File->Type == EFI_FV_FILETYPE_DXE_CORE) {
      return File;
    }

    if ((Size < sizeof (*File)) || (Size == 0xFFFFFF)) {
      break;
    }

    Offset += Size;
  }

  return NULL;
}

STATIC VOID *
FindPe32 (
  IN EFI_FFS_FILE_HEADER  *File
  )
{
  EFI_COMMON_SECTION_HEADER  *Section;
  UINTN                      Offset;
  UINTN                      End;

  Offset = IS_FFS_FILE2 (File) ? sizeof (EFI_FFS_FILE_HEADER2) : sizeof (EFI_FFS_FILE_HEADER);
  End    = IS_FFS_FILE2 (File) ? FFS_FILE2_SIZE (File) : FFS_FILE_SIZE (File);
  while (Offset + sizeof (*Section) < End) {
    Section = (EFI_COMMON_SECTION_HEADER *)((UINTN)File + Offset);
    if (Section->Type == EFI_SECTION_PE32) {
      return (UINT8 *)Section + (IS_SECTION2 (Section) ? sizeof (EFI_COMMON_SECTION_HEADER2) : sizeof (*Section));
    }

    Offset = ALIGN_VALUE (Offset + (IS_SECTION2 (Section) ? SECTION2_SIZE (Section) : SECTION_SIZE (Section)), 4);
  }

  return NULL;
}

VOID *
DxeCoreLoad (
  IN EFI_FIRMWARE_VOLUME_HEADER  *Volume
  )
{
  EFI_FFS_FILE_HEADER           *File;
  PE_COFF_LOADER_IMAGE_CONTEXT  Image;
  UINTN                         Pages;
  RETURN_STATUS                 Status;

  if (Volume->Signature != EFI_FVH_SIGNATURE) {
    SecFail ("no firmware volume at 0x%lx", (UINT64)(UINTN)Volume);
  }

  File = FindDxeCoreFile (Volume);
  ZeroMem (&Image, sizeof (Image));
  Image.Handle    = (File != NULL) ? FindPe32 (File) : NULL;
  Image.ImageRead = PeCoffLoaderImageReadFromMemory;
  if (Image.Handle == NULL) {
    SecFail ("no DXE core in the firmware volume");
  }

  Status = PeCoffLoaderGetImageInfo (&Image);
  if (!RETURN_ERROR (Status)) {
    Pages              = EFI_SIZE_TO_PAGES ((UINTN)Image.ImageSize);
    Image.ImageAddress = (UINTN)HobTakePages (Pages);
    Status             = PeCoffLoaderLoadImage (&Image);
    if (!RETURN_ERROR (Status)) {
      Status = PeCoffLoaderRelocateImage (&Image);
    }

    if (!RETURN_ERROR (Status)) {
      HobDxeCore (&File->Name, Image.ImageAddress, EFI_PAGES_TO_SIZE (Pages), Image.EntryPoint);
      return (VOID *)(UINTN)Image.EntryPoint;
    }
  }

  SecFail ("the DXE core does not load: status 0x%lx", (UINT64)Status);
  return NULL;
}
