/** @file
  The platform's part of BDS.

  SPDX-License-Identifier: Apache-2.0
**/
#ifndef BYGONE_PLATFORM_BOOT_MANAGER_H_
#define BYGONE_PLATFORM_BOOT_MANAGER_H_

#include <PiDxe.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/BlobLib.h>
#include <Library/DebugLib.h>
#include <Library/DevicePathLib.h>
#include <Library/MemoryAllocationLib.h>
#include <Library/UefiBootManagerLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Library/UefiLib.h>
#include <Library/UefiRuntimeServicesTableLib.h>
#include <Protocol/VmbusChannel.h>

/// Points ConIn, ConOut and ErrOut at the keyboard, the screen and COM1, as far as they exist.
VOID
ConsoleDescribe (
  VOID
  );

/// Calls Function for each channel of an interface type.
VOID
ForEachChannel (
  IN CONST EFI_GUID  *InterfaceType,
  IN VOID            (*Function)(
    EFI_HANDLE  Handle
    )
  );

/// From now on a fault in a boot loader ends that loader only.
VOID
FaultsCatch (
  VOID
  );

/// Keeps EDK II's list of what can be booted to what a person would boot from.
VOID
BootOptionsFilter (
  VOID
  );

/// Publishes the boot logo's picture for BootLogoLib.
VOID
LogoPublish (
  VOID
  );

#endif
