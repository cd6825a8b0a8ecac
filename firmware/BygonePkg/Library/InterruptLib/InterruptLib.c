/** @file
  See InterruptLib.h.

  SPDX-License-Identifier: Apache-2.0
**/
#include <Library/BaseLib.h>
#include <Library/InterruptLib.h>

/// Entry.nasm calls it.
INTERRUPT_HANDLER  gInterruptHandler;

VOID
EFIAPI
InterruptEntry (
  VOID
  );

VOID
InterruptInstall (
  IN UINT8              Vector,
  IN INTERRUPT_HANDLER  Handler
  )
{
  IA32_DESCRIPTOR           Table;
  IA32_IDT_GATE_DESCRIPTOR  *Gate;
  BOOLEAN                   Enabled;
  UINTN                     Entry;

  gInterruptHandler = Handler;
  Entry             = (UINTN)InterruptEntry;
  Enabled           = SaveAndDisableInterrupts ();
  AsmReadIdtr (&Table);
  Gate                   = (IA32_IDT_GATE_DESCRIPTOR *)Table.Base + Vector;
  Gate->Bits.OffsetLow   = (UINT16)Entry;
  Gate->Bits.OffsetHigh  = (UINT16)(Entry >> 16);
  Gate->Bits.OffsetUpper = (UINT32)(Entry >> 32);
  SetInterruptState (Enabled);
}
