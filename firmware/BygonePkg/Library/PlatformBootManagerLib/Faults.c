/** @file
  A boot loader that faults shall not take the machine down: its image is ended as if it had returned an error, and the boot manager
  goes on. So is one under which the firmware itself faults, for it may have been called with anything. A fault when no boot loader
  runs is the firmware's own: it is told, and the machine starts over.

    exception (on the fault stack) -> message -> return address := Recover, on a stack of its own -> Exit() of the application that
    runs -> boot manager

  SPDX-License-Identifier: Apache-2.0
**/
#include "PlatformBootManager.h"
#include <Library/PrintLib.h>
#include <Protocol/Cpu.h>
#include <Protocol/LoadedImage.h>
#include <Protocol/Timer.h>

/// Divide, debug, breakpoint, overflow, bounds, invalid opcode, no coprocessor, double fault, task state, segment, stack, protection,
/// page, coprocessor, alignment, SIMD, control protection.
STATIC CONST UINT8  mVectors[] = { 0, 1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 19, 21 };

STATIC EFI_PHYSICAL_ADDRESS  mFaultAddress;
STATIC CHAR16                mMessage[160];
STATIC BOOLEAN               mGivesUp;

/// An application loaded from a disk or a volume: its code is EfiLoaderCode, drivers' is not.
STATIC BOOLEAN
IsApplication (
  IN CONST EFI_LOADED_IMAGE_PROTOCOL  *Image
  )
{
  return (BOOLEAN)(Image->ImageCodeType == EfiLoaderCode);
}

/**
  The application that holds the address, or, for any other address, the one loaded last; NULL: there is none.

  @param IsInDriver  whether a driver holds the address
**/
STATIC EFI_HANDLE
FindApplication (
  IN  UINT64   Address,
  OUT BOOLEAN  *IsInDriver
  )
{
  EFI_LOADED_IMAGE_PROTOCOL  *Image;
  EFI_HANDLE                 *Handles;
  EFI_HANDLE                 Last;
  EFI_HANDLE                 Holder;
  UINTN                      Count;
  UINTN                      Index;

  *IsInDriver = FALSE;
  if (EFI_ERROR (gBS->LocateHandleBuffer (ByProtocol, &gEfiLoadedImageProtocolGuid, NULL, &Count, &Handles))) {
    return NULL;
  }

  Last   = NULL;
  Holder = NULL;
  for (Index = 0; Index < Count; ++Index) {
    if (EFI_ERROR (gBS->HandleProtocol (Handles[Index], &gEfiLoadedImageProtocolGuid, (VOID **)&Image))) {
      continue;
    }

    if (IsApplication (Image)) {
      Last = Handles[Index];
    }

    if ((Address >= (UINTN)Image->ImageBase) && (Address < (UINTN)Image->ImageBase + Image->ImageSize)) {
      if (IsApplication (Image)) {
        Holder = Handles[Index];
      } else {
        *IsInDriver = TRUE;
      }
    }
  }

  FreePool (Handles);
  return (Holder != NULL) ? Holder : Last;
}

/// The clock ticks again if the fault was in something that a tick has called.
STATIC VOID
RestartTimer (
  VOID
  )
{
  EFI_TIMER_ARCH_PROTOCOL  *Timer;
  UINT64                   Period;

  if (!EFI_ERROR (gBS->LocateProtocol (&gEfiTimerArchProtocolGuid, NULL, (VOID **)&Timer)) &&
      !EFI_ERROR (Timer->GetTimerPeriod (Timer, &Period)))
  {
    Timer->SetTimerPeriod (Timer, Period);
  }
}

/// Runs on the recovery stack, as if the application had called it, at a level at which nothing that it has registered is called.
STATIC VOID
EFIAPI
Recover (
  VOID
  )
{
  EFI_HANDLE  Application;
  EFI_HANDLE  Before;
  BOOLEAN     IsInDriver;

  gBS->RaiseTPL (TPL_HIGH_LEVEL);
  gBS->RestoreTPL (TPL_NOTIFY);
  RestartTimer ();
  if (gST->ConOut != NULL) {
    gST->ConOut->OutputString (gST->ConOut, mMessage);
  }

  // Exit() does not return for the application that runs, and takes away one that was only loaded.
  Application = FindApplication (mFaultAddress, &IsInDriver);
  gBS->Exit (Application, EFI_ABORTED, 0, NULL);
  do {
    Before      = Application;
    Application = FindApplication (0, &IsInDriver);
    gBS->Exit (Application, EFI_ABORTED, 0, NULL);
  } while ((Application != NULL) && (Application != Before));

  // None of them was running after all: nothing sane is left to do.
  gRT->ResetSystem (EfiResetCold, EFI_ABORTED, 0, NULL);
}

/// A fault of the firmware's own: say it where someone may look, and start over.
STATIC VOID
GiveUp (
  VOID
  )
{
  if (!mGivesUp && (gST->ConOut != NULL)) {
    mGivesUp = TRUE;
    gST->ConOut->OutputString (gST->ConOut, mMessage);
  }

  gBS->Stall (2000000);
  gRT->ResetSystem (EfiResetCold, EFI_ABORTED, 0, NULL);
}

STATIC VOID
EFIAPI
OnFault (
  IN EFI_EXCEPTION_TYPE  Vector,
  IN EFI_SYSTEM_CONTEXT  Context
  )
{
  EFI_SYSTEM_CONTEXT_X64  *Registers;
  EFI_HANDLE              Application;
  BOOLEAN                 IsInDriver;

  Registers     = Context.SystemContextX64;
  mFaultAddress = Registers->Rip;
  IsInDriver    = FALSE;
  Application   = FaultStacksHold (Registers->Rsp) ? NULL : FindApplication (Registers->Rip, &IsInDriver);
  UnicodeSPrint (
    mMessage,
    sizeof (mMessage),
    L"\r\nBygone: %s faulted: exception %d, error 0x%lx, at 0x%lx, address 0x%lx\r\n",
    (Application == NULL) ? L"the firmware" : (IsInDriver ? L"what the boot loader called" : L"the boot loader"),
    (UINT32)Vector,
    Registers->ExceptionData,
    Registers->Rip,
    Registers->Cr2
    );
  if (Application == NULL) {
    GiveUp ();
  }

  Registers->Rip     = (UINTN)Recover;
  Registers->Rsp     = FaultStacksRecoveryTop ();
  Registers->Rflags &= ~(UINT64)(BIT10 | BIT8);
}

VOID
FaultsCatch (
  VOID
  )
{
  EFI_CPU_ARCH_PROTOCOL  *Cpu;
  UINTN                  Index;

  if (EFI_ERROR (gBS->LocateProtocol (&gEfiCpuArchProtocolGuid, NULL, (VOID **)&Cpu)) ||
      EFI_ERROR (FaultStacksPrepare (Cpu, mVectors, ARRAY_SIZE (mVectors))))
  {
    return;
  }

  for (Index = 0; Index < ARRAY_SIZE (mVectors); ++Index) {
    Cpu->RegisterInterruptHandler (Cpu, mVectors[Index], OnFault);
  }
}
