/** @file
  SEC's parts: memory hand-out, HOB list, page tables, DXE core loading. One processor, no interrupts.

  SPDX-License-Identifier: Apache-2.0
**/
#ifndef BYGONE_SEC_H_
#define BYGONE_SEC_H_

#include <PiPei.h>
#include <Library/BaseLib.h>
#include <Library/CpuLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/BlobLib.h>
#include <Library/DebugLib.h>

/// Prints to COM1 and the helper's debug string, and stops the processor.
VOID
SecFail (
  IN CONST CHAR8  *Format,
  ...
  );

/// Begins the HOB list in [Base, Top), memory that nobody else uses.
VOID
HobBegin (
  IN EFI_PHYSICAL_ADDRESS  Base,
  IN EFI_PHYSICAL_ADDRESS  Top
  );

/// The list's head, for the DXE core.
VOID *
HobList (
  VOID
  );

/// Whole zeroed pages from the top of the region. The caller records what they are for.
VOID *
HobTakePages (
  IN UINTN  Pages
  );

VOID
HobResource (
  IN EFI_RESOURCE_TYPE            Type,
  IN EFI_RESOURCE_ATTRIBUTE_TYPE  Attributes,
  IN EFI_PHYSICAL_ADDRESS         Base,
  IN UINT64                       Length
  );

VOID
HobMemoryAllocation (
  IN EFI_PHYSICAL_ADDRESS  Base,
  IN UINT64                Length,
  IN EFI_MEMORY_TYPE       Type,
  IN CONST EFI_GUID        *Name OPTIONAL
  );

VOID
HobFirmwareVolume (
  IN EFI_PHYSICAL_ADDRESS  Base,
  IN UINT64                Length
  );

VOID
HobCpu (
  IN UINT8  AddressBits
  );

VOID
HobGuidData (
  IN CONST EFI_GUID  *Name,
  IN CONST VOID      *Data,
  IN UINTN           Bytes
  );

/// The DXE core's module record: its memory, file name and entry.
VOID
HobDxeCore (
  IN CONST EFI_GUID        *FileName,
  IN EFI_PHYSICAL_ADDRESS  Base,
  IN UINT64                Length,
  IN EFI_PHYSICAL_ADDRESS  EntryPoint
  );

/// Identity-maps [0, End) and switches to that map.
VOID
PagingBuild (
  IN EFI_PHYSICAL_ADDRESS  End
  );

/// Loads the DXE core from the volume into fresh pages. Returns its entry point; does not return on failure.
VOID *
DxeCoreLoad (
  IN EFI_FIRMWARE_VOLUME_HEADER  *Volume
  );

VOID
EFIAPI
SecSwitchStack (
  IN VOID  *EntryPoint,
  IN VOID  *HobList,
  IN VOID  *NewStackTop
  );

#endif
