/** @file
  The HOB list (PI 1.7 volume 3) in one region: HOBs grow from its bottom, pages are handed out from its top, and the DXE
  core takes what remains between the two.

  SPDX-License-Identifier: Apache-2.0
**/
#include "Sec.h"
#include <Guid/MemoryAllocationHob.h>

// SEC runs from memory, so its data section is writable.
STATIC EFI_HOB_HANDOFF_INFO_TABLE  *mPhit;

STATIC VOID
PutEnd (
  IN EFI_PHYSICAL_ADDRESS  Address
  )
{
  EFI_HOB_GENERIC_HEADER  *End;

  End                         = (EFI_HOB_GENERIC_HEADER *)(UINTN)Address;
  End->HobType                = EFI_HOB_TYPE_END_OF_HOB_LIST;
  End->HobLength              = sizeof (*End);
  End->Reserved               = 0;
  mPhit->EfiEndOfHobList    = Address;
  mPhit->EfiFreeMemoryBottom = Address + sizeof (*End);
}

STATIC VOID *
NewHob (
  IN UINT16  Type,
  IN UINTN   Bytes
  )
{
  EFI_HOB_GENERIC_HEADER  *Hob;

  Bytes = ALIGN_VALUE (Bytes, 8);
  if (mPhit->EfiFreeMemoryBottom + Bytes > mPhit->EfiFreeMemoryTop) {
    SecFail ("out of memory for the HOB list");
  }

  Hob = (EFI_HOB_GENERIC_HEADER *)(UINTN)mPhit->EfiEndOfHobList;
  ZeroMem (Hob, Bytes);
  Hob->HobType   = Type;
  Hob->HobLength = (UINT16)Bytes;
  PutEnd ((UINTN)Hob + Bytes);
  return Hob;
}

VOID
HobBegin (
  IN EFI_PHYSICAL_ADDRESS  Base,
  IN EFI_PHYSICAL_ADDRESS  Top
  )
{
  mPhit = (EFI_HOB_HANDOFF_INFO_TABLE *)(UINTN)Base;
  ZeroMem (mPhit, sizeof (*mPhit));
  mPhit->Header.HobType     = EFI_HOB_TYPE_HANDOFF;
  mPhit->Header.HobLength   = sizeof (*mPhit);
  mPhit->Version            = EFI_HOB_HANDOFF_TABLE_VERSION;
  mPhit->BootMode           = BOOT_WITH_FULL_CONFIGURATION;
  mPhit->EfiMemoryBottom    = Base;
  mPhit->EfiMemoryTop       = Top;
  mPhit->EfiFreeMemoryTop   = Top;
  PutEnd (Base + sizeof (*mPhit));
}

VOID *
HobList (
  VOID
  )
{
  return mPhit;
}

VOID *
HobTakePages (
  IN UINTN  Pages
  )
{
  EFI_PHYSICAL_ADDRESS  Base;

  Base = mPhit->EfiFreeMemoryTop - EFI_PAGES_TO_SIZE (Pages);
  if (Base < mPhit->EfiFreeMemoryBottom) {
    SecFail ("out of memory for %d pages", Pages);
  }

  mPhit->EfiFreeMemoryTop = Base;
  ZeroMem ((VOID *)(UINTN)Base, EFI_PAGES_TO_SIZE (Pages));
  return (VOID *)(UINTN)Base;
}

VOID
HobResource (
  IN EFI_RESOURCE_TYPE            Type,
  IN EFI_RESOURCE_ATTRIBUTE_TYPE  Attributes,
  IN EFI_PHYSICAL_ADDRESS         Base,
  IN UINT64                       Length
  )
{
  EFI_HOB_RESOURCE_DESCRIPTOR  *Hob;

  Hob                    = NewHob (EFI_HOB_TYPE_RESOURCE_DESCRIPTOR, sizeof (*Hob));
  Hob->ResourceType      = Type;
  Hob->ResourceAttribute = Attributes;
  Hob->PhysicalStart     = Base;
  Hob->ResourceLength    = Length;
}

VOID
HobMemoryAllocation (
  IN EFI_PHYSICAL_ADDRESS  Base,
  IN UINT64                Length,
  IN EFI_MEMORY_TYPE       Type,
  IN CONST EFI_GUID        *Name OPTIONAL
  )
{
  EFI_HOB_MEMORY_ALLOCATION  *Hob;

  Hob                                    = NewHob (EFI_HOB_TYPE_MEMORY_ALLOCATION, sizeof (*Hob));
  Hob->AllocDescriptor.MemoryBaseAddress = Base;
  Hob->AllocDescriptor.MemoryLength      = Length;
  Hob->AllocDescriptor.MemoryType        = Type;
  if (Name != NULL) {
    CopyGuid (&Hob->AllocDescriptor.Name, Name);
  }
}

VOID
HobFirmwareVolume (
  IN EFI_PHYSICAL_ADDRESS  Base,
  IN UINT64                Length
  )
{
  EFI_HOB_FIRMWARE_VOLUME  *Hob;

  Hob              = NewHob (EFI_HOB_TYPE_FV, sizeof (*Hob));
  Hob->BaseAddress = Base;
  Hob->Length      = Length;
}

VOID
HobCpu (
  IN UINT8  AddressBits
  )
{
  EFI_HOB_CPU  *Hob;

  Hob                    = NewHob (EFI_HOB_TYPE_CPU, sizeof (*Hob));
  Hob->SizeOfMemorySpace = AddressBits;
  Hob->SizeOfIoSpace     = 16;
}

VOID
HobGuidData (
  IN CONST EFI_GUID  *Name,
  IN CONST VOID      *Data,
  IN UINTN           Bytes
  )
{
  EFI_HOB_GUID_TYPE  *Hob;

  Hob = NewHob (EFI_HOB_TYPE_GUID_EXTENSION, sizeof (*Hob) + Bytes);
  CopyGuid (&Hob->Name, Name);
  CopyMem (Hob + 1, Data, Bytes);
}

VOID
HobDxeCore (
  IN CONST EFI_GUID        *FileName,
  IN EFI_PHYSICAL_ADDRESS  Base,
  IN UINT64                Length,
  IN EFI_PHYSICAL_ADDRESS  EntryPoint
  )
{
  EFI_HOB_MEMORY_ALLOCATION_MODULE  *Hob;

  Hob = NewHob (EFI_HOB_TYPE_MEMORY_ALLOCATION, sizeof (*Hob));
  CopyGuid (&Hob->MemoryAllocationHeader.Name, &gEfiHobMemoryAllocModuleGuid);
  Hob->MemoryAllocationHeader.MemoryBaseAddress = Base;
  Hob->MemoryAllocationHeader.MemoryLength      = Length;
  Hob->MemoryAllocationHeader.MemoryType        = EfiBootServicesCode;
  CopyGuid (&Hob->ModuleName, FileName);
  Hob->EntryPoint = EntryPoint;
}
