/** @file
  Reset and power off through the power management ports.

  SPDX-License-Identifier: Apache-2.0
**/
#include <Uefi.h>
#include <Library/BaseLib.h>
#include <Library/CpuLib.h>
#include <Library/IoLib.h>
#include <Library/ResetSystemLib.h>

#define PM1_CONTROL_PORT  0x404
#define PM1_SLEEP_ENABLE  BIT13    ///< with sleep type 0: S5
#define RESET_PORT        0x433

STATIC VOID
Stop (
  VOID
  )
{
  for ( ; ;) {
    CpuSleep ();
  }
}

VOID
EFIAPI
ResetCold (
  VOID
  )
{
  IoWrite8 (RESET_PORT, 1);
  Stop ();
}

VOID
EFIAPI
ResetWarm (
  VOID
  )
{
  ResetCold ();
}

VOID
EFIAPI
ResetShutdown (
  VOID
  )
{
  IoWrite16 (PM1_CONTROL_PORT, PM1_SLEEP_ENABLE);
  Stop ();
}

VOID
EFIAPI
ResetPlatformSpecific (
  IN UINTN  DataSize,
  IN VOID   *ResetData
  )
{
  ResetCold ();
}

VOID
EFIAPI
ResetSystem (
  IN EFI_RESET_TYPE  ResetType,
  IN EFI_STATUS      ResetStatus,
  IN UINTN           DataSize,
  IN VOID            *ResetData OPTIONAL
  )
{
  if (ResetType == EfiResetShutdown) {
    ResetShutdown ();
  } else {
    ResetCold ();
  }
}
