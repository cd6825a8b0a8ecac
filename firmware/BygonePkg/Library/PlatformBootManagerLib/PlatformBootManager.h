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
#include <Protocol/Cpu.h>
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

/// Has the processor take these exceptions on a stack of their own, and watches the end of the stack that boot loaders run on.
EFI_STATUS
FaultStacksPrepare (
  IN EFI_CPU_ARCH_PROTOCOL  *Cpu,
  IN CONST UINT8            *Vectors,
  IN UINTN                  Count
  );

/// Whether a stack pointer is into them: what it belongs to is the handling of a fault.
BOOLEAN
FaultStacksHold (
  IN UINT64  Address
  );

/// The stack pointer with which a function is entered that goes on after a fault, on a stack of its own.
UINT64
FaultStacksRecoveryTop (
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
