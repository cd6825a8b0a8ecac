/** @file
  A boot loader that faults shall not take the machine down: its image is ended as if it had returned an error, and the boot manager
  goes on. Faults of the firmware itself still stop it, with EDK II's dump on COM1.

    exception -> message -> return address := Recover -> Exit() of the running application -> boot manager

  SPDX-License-Identifier: Apache-2.0
**/
#include "PlatformBootManager.h"
#include <Library/PrintLib.h>
#include <Protocol/Cpu.h>
#include <Protocol/LoadedImage.h>

/// Divide, overflow, bounds, invalid opcode, no coprocessor, segment, stack, protection, page, coprocessor, alignment, SIMD.
STATIC CONST UINT8  mVectors[] = { 0, 4, 5, 6, 7, 11, 12, 13, 14, 16, 17, 19 };

STATIC EFI_HANDLE  mFaulted;
STATIC CHAR16      mMessage[160];
STATIC BOOLEAN     mHandling;

/// An application loaded from a disk or a volume: its code is EfiLoaderCode, drivers' is not.
STATIC BOOLEAN
IsApplication (
  IN CONST EFI_LOADED_IMAGE_PROTOCOL  *Image
  )
{
  return (BOOLEAN)(Image->ImageCodeType == EfiLoaderCode);
}

/**
  The application that runs: the one that holds the address, or, for code in memory that an application allocated, the
  one started last.
**/
STATIC EFI_HANDLE
FindApplication (
  IN UINT64  Address
  )
{
  EFI_LOADED_IMAGE_PROTOCOL  *Image;
  EFI_HANDLE                 *Handles;
  EFI_HANDLE                 Found;
  UINTN                      Count;
  UINTN                      Index;
  BOOLEAN                    InDriver;

  if (EFI_ERROR (gBS->LocateHandleBuffer (ByProtocol, &gEfiLoadedImageProtocolGuid, NULL, &Count, &Handles))) {
    return NULL;
  }

  Found    = NULL;
  InDriver = FALSE;
  for (Index = 0; Index < Count; ++Index) {
    if (EFI_ERROR (gBS->HandleProtocol (Handles[Index], &gEfiLoadedImageProtocolGuid, (VOID **)&Image))) {
      continue;
    }

    if (IsApplication (Image)) {
      Found = Handles[Index];
    } else if ((Address >= (UINTN)Image->ImageBase) && (Address < (UINTN)Image->ImageBase + Image->ImageSize)) {
      InDriver = TRUE;
    }
  }

  FreePool (Handles);
  return InDriver ? NULL : Found;
}

/// Runs where the fault was, on the application's stack, as if the application had called it.
STATIC VOID
EFIAPI
Recover (
  VOID
  )
{
  EnableInterrupts ();
  mHandling = FALSE;
  if (gST->ConOut != NULL) {
    gST->ConOut->OutputString (gST->ConOut, mMessage);
  }

  gBS->Exit (mFaulted, EFI_ABORTED, 0, NULL);
  // Not the running image after all: nothing sane is left to do.
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

  Registers = Context.SystemContextX64;
  mFaulted  = mHandling ? NULL : FindApplication (Registers->Rip);
  UnicodeSPrint (
    mMessage,
    sizeof (mMessage),
    L"\r\nBygone: %s faulted: exception %d, error 0x%lx, at 0x%lx, address 0x%lx\r\n",
    (mFaulted != NULL) ? L"the boot loader" : L"the firmware",
    (UINT32)Vector,
    Registers->ExceptionData,
    Registers->Rip,
    Registers->Cr2
    );
  if (mFaulted == NULL) {
    // Ours. Say it where someone may look, and start over.
    if (!mHandling && (gST->ConOut != NULL)) {
      mHandling = TRUE;
      gST->ConOut->OutputString (gST->ConOut, mMessage);
    }

    gBS->Stall (2000000);
    gRT->ResetSystem (EfiResetCold, EFI_ABORTED, 0, NULL);
  }

  mHandling        = TRUE;
  Registers->Rip   = (UINTN)Recover;
  // As after a call: the stack pointer is 8 off a multiple of 16, with the callee's 32 bytes above it.
  Registers->Rsp   = ((Registers->Rsp - 256) & ~15ULL) - 8;
  Registers->Rflags &= ~(UINT64)(BIT10 | BIT8);
}

VOID
FaultsCatch (
  VOID
  )
{
  EFI_CPU_ARCH_PROTOCOL  *Cpu;
  UINTN                  Index;

  if (EFI_ERROR (gBS->LocateProtocol (&gEfiCpuArchProtocolGuid, NULL, (VOID **)&Cpu))) {
    return;
  }

  for (Index = 0; Index < ARRAY_SIZE (mVectors); ++Index) {
    Cpu->RegisterInterruptHandler (Cpu, mVectors[Index], OnFault);
  }
}
