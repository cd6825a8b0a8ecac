/** @file
  See InterruptLib.h.

  SPDX-License-Identifier: Apache-2.0
**/
#include <Library/BaseLib.h>
#include <Library/InterruptLib.h>
#include <Library/LocalApicLib.h>

/// Entry.nasm calls it.
INTERRUPT_HANDLER  gInterruptHandler;

#define APIC_EOI_OFFSET  0xB0
#define X2APIC_EOI_MSR   0x80B

/// In the local APIC's page; NULL: there is none, for the APIC is used by MSRs.
STATIC volatile UINT32  *mEoi;

VOID
InterruptEnd (
  VOID
  )
{
  if (mEoi != NULL) {
    *mEoi = 0;
  } else {
    AsmWriteMsr64 (X2APIC_EOI_MSR, 0);
  }
}

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

  mEoi              = (GetApicMode () == LOCAL_APIC_MODE_X2APIC) ? NULL : (UINT32 *)(GetLocalApicBaseAddress () + APIC_EOI_OFFSET);
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
