/** @file
  Keeps out of the boot options what EDK II finds but nobody would boot from: the ISO 9660 view of a DVD. The DVD itself has an option
  already, which tries El Torito's image first and then this view.

  SPDX-License-Identifier: Apache-2.0
**/
#include "PlatformBootManager.h"
#include <Protocol/PlatformBootManager.h>

STATIC BOOLEAN
IsIso9660View (
  IN CONST EFI_BOOT_MANAGER_LOAD_OPTION  *Option
  )
{
  EFI_DEVICE_PATH_PROTOCOL  *Node;

  for (Node = Option->FilePath; !IsDevicePathEnd (Node); Node = NextDevicePathNode (Node)) {
    if ((DevicePathType (Node) == MEDIA_DEVICE_PATH) && (DevicePathSubType (Node) == MEDIA_VENDOR_DP) &&
        CompareGuid (&((VENDOR_DEVICE_PATH *)Node)->Guid, &gBygoneIso9660NodeGuid))
    {
      return TRUE;
    }
  }

  return FALSE;
}

STATIC EFI_STATUS
EFIAPI
RefreshAllBootOptions (
  IN  CONST EFI_BOOT_MANAGER_LOAD_OPTION  *Options,
  IN  CONST UINTN                         Count,
  OUT EFI_BOOT_MANAGER_LOAD_OPTION        **Updated,
  OUT UINTN                               *UpdatedCount
  )
{
  EFI_STATUS  Status;
  UINTN       Index;

  *UpdatedCount = 0;
  *Updated      = AllocateZeroPool (MAX (Count, 1) * sizeof (**Updated));
  if (*Updated == NULL) {
    return EFI_OUT_OF_RESOURCES;
  }

  for (Index = 0; Index < Count; ++Index) {
    if (IsIso9660View (&Options[Index])) {
      continue;
    }

    Status = EfiBootManagerInitializeLoadOption (
               &(*Updated)[*UpdatedCount],
               Options[Index].OptionNumber,
               Options[Index].OptionType,
               Options[Index].Attributes,
               Options[Index].Description,
               Options[Index].FilePath,
               Options[Index].OptionalData,
               Options[Index].OptionalDataSize
               );
    if (EFI_ERROR (Status)) {
      EfiBootManagerFreeLoadOptions (*Updated, *UpdatedCount);
      return Status;
    }

    ++*UpdatedCount;
  }

  return EFI_SUCCESS;
}

STATIC EDKII_PLATFORM_BOOT_MANAGER_PROTOCOL  mRefresh = { EDKII_PLATFORM_BOOT_MANAGER_PROTOCOL_REVISION, RefreshAllBootOptions };

VOID
BootOptionsFilter (
  VOID
  )
{
  EFI_HANDLE  Handle;

  Handle = NULL;
  gBS->InstallMultipleProtocolInterfaces (&Handle, &gEdkiiPlatformBootManagerProtocolGuid, &mRefresh, NULL);
}
