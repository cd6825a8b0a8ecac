/** @file
  Hypercalls and the synthetic interrupt controller.

  SPDX-License-Identifier: Apache-2.0
**/
#include "Vmbus.h"
#include <Library/InterruptLib.h>
#include <Library/SynchronizationLib.h>
#include <Library/TimerLib.h>

#define VMBUS_VECTOR  0x41

/// TLFS 2.6: bit 63 set means "not one of the listed proprietary systems".
#define GUEST_OS_ID  0x8B79000000010000ULL

#define PAGE_ENABLED  BIT0

/// The host may be short of buffers for a moment: so often, with a pause that grows.
#define POST_ATTEMPTS  100

STATIC VOID                   *mHypercallPage;
STATIC HV_MESSAGE             *mMessages;
STATIC UINT8                  *mEventFlags;
STATIC HV_POST_MESSAGE_INPUT  *mPostInput;
STATIC EFI_EVENT              mEvents[EVENT_FLAG_COUNT];
STATIC BOOLEAN                mAutoEoi;

STATIC BOOLEAN
Present (
  VOID
  )
{
  UINT32  Eax;
  UINT32  Ecx;
  UINT32  Needed;

  AsmCpuid (1, NULL, NULL, &Ecx, NULL);
  if ((Ecx & BIT31) == 0) {
    return FALSE;
  }

  AsmCpuid (HV_CPUID_INTERFACE, &Eax, NULL, NULL, NULL);
  if (Eax != SIGNATURE_32 ('H', 'v', '#', '1')) {
    return FALSE;
  }

  Needed = HV_FEATURE_SYNIC | HV_FEATURE_HYPERCALL_MSRS;
  AsmCpuid (HV_CPUID_FEATURES, &Eax, NULL, NULL, NULL);
  if ((Eax & Needed) != Needed) {
    return FALSE;
  }

  AsmCpuid (HV_CPUID_RECOMMENDATIONS, &Eax, NULL, NULL, NULL);
  mAutoEoi = (BOOLEAN)((Eax & HV_RECOMMEND_NO_AUTO_EOI) == 0);
  return TRUE;
}

STATIC VOID
EFIAPI
OnInterrupt (
  VOID
  )
{
  volatile UINT64  *Flags;
  UINT64           Bits;
  UINTN            Word;
  UINTN            Bit;
  EFI_TPL          Tpl;
  BOOLEAN          Raised;

  if (!mAutoEoi) {
    InterruptEnd ();
  }

  Raised = FALSE;
  Tpl    = 0;
  Flags  = (volatile UINT64 *)mEventFlags;
  for (Word = 0; Word < EVENT_FLAG_COUNT / 64; ++Word) {
    Bits = Flags[Word];
    if (Bits == 0) {
      continue;
    }

    // The host sets a bit and interrupts only if it was clear: what is taken here must be cleared here.
    while (InterlockedCompareExchange64 (&Flags[Word], Bits, 0) != Bits) {
      Bits = Flags[Word];
    }

    while (Bits != 0) {
      Bit   = (UINTN)LowBitSet64 (Bits);
      Bits &= Bits - 1;
      if (mEvents[Word * 64 + Bit] == NULL) {
        continue;
      }

      if (!Raised) {
        Tpl    = gBS->RaiseTPL (TPL_HIGH_LEVEL);
        Raised = TRUE;
      }

      gBS->SignalEvent (mEvents[Word * 64 + Bit]);
    }
  }

  if (Raised) {
    gBS->RestoreTPL (Tpl);
    DisableInterrupts ();
  }
}

EFI_STATUS
HyperVStart (
  VOID
  )
{
  EFI_STATUS            Status;
  EFI_PHYSICAL_ADDRESS  Page;
  UINT64                Sint;

  if (!Present ()) {
    return EFI_UNSUPPORTED;
  }

  InterruptInstall (VMBUS_VECTOR, OnInterrupt);

  // The hypercall page is the host's code: memory of a kind that is always executable.
  Status = gBS->AllocatePages (AllocateAnyPages, EfiBootServicesCode, 1, &Page);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  mHypercallPage = (VOID *)(UINTN)Page;

  mMessages   = AllocatePages (1);
  mEventFlags = AllocatePages (1);
  mPostInput  = AllocatePages (1);
  if ((mMessages == NULL) || (mEventFlags == NULL) || (mPostInput == NULL)) {
    return EFI_OUT_OF_RESOURCES;
  }

  ZeroMem (mMessages, EFI_PAGE_SIZE);
  ZeroMem (mEventFlags, EFI_PAGE_SIZE);

  AsmWriteMsr64 (HV_MSR_GUEST_OS_ID, GUEST_OS_ID);
  AsmWriteMsr64 (HV_MSR_HYPERCALL, (UINTN)mHypercallPage | PAGE_ENABLED);
  if ((AsmReadMsr64 (HV_MSR_HYPERCALL) & PAGE_ENABLED) == 0) {
    return EFI_DEVICE_ERROR;
  }

  mEventFlags += VMBUS_SINT * 256;
  mMessages   += VMBUS_SINT;
  AsmWriteMsr64 (HV_MSR_SIMP, (UINTN)(mMessages - VMBUS_SINT) | PAGE_ENABLED);
  AsmWriteMsr64 (HV_MSR_SIEFP, (UINTN)(mEventFlags - VMBUS_SINT * 256) | PAGE_ENABLED);
  Sint = VMBUS_VECTOR | (mAutoEoi ? HV_SINT_AUTO_EOI : 0);
  AsmWriteMsr64 (HV_MSR_SINT0 + VMBUS_SINT, Sint);
  AsmWriteMsr64 (HV_MSR_SCONTROL, 1);
  return EFI_SUCCESS;
}

VOID
HyperVStop (
  VOID
  )
{
  AsmWriteMsr64 (HV_MSR_SINT0 + VMBUS_SINT, HV_SINT_MASKED | VMBUS_VECTOR);
  AsmWriteMsr64 (HV_MSR_SCONTROL, 0);
  AsmWriteMsr64 (HV_MSR_SIMP, 0);
  AsmWriteMsr64 (HV_MSR_SIEFP, 0);
  AsmWriteMsr64 (HV_MSR_HYPERCALL, 0);
  AsmWriteMsr64 (HV_MSR_GUEST_OS_ID, 0);
}

EFI_STATUS
HyperVPostMessage (
  IN UINT32      ConnectionId,
  IN CONST VOID  *Message,
  IN UINTN       Bytes
  )
{
  UINT16  Result;
  UINTN   Attempt;

  if (Bytes > HV_MESSAGE_PAYLOAD) {
    return EFI_BAD_BUFFER_SIZE;
  }

  for (Attempt = 0; Attempt < POST_ATTEMPTS; ++Attempt) {
    mPostInput->ConnectionId = ConnectionId;
    mPostInput->Reserved     = 0;
    mPostInput->MessageType  = VMBUS_MESSAGE_TYPE;
    mPostInput->PayloadSize  = (UINT32)Bytes;
    CopyMem (mPostInput->Payload, Message, Bytes);
    Result = (UINT16)((HV_HYPERCALL)mHypercallPage) (HV_CALL_POST_MESSAGE, (UINTN)mPostInput, 0);
    if (Result == 0) {
      return EFI_SUCCESS;
    }

    if ((Result != HV_STATUS_INSUFFICIENT_BUFFERS) && (Result != HV_STATUS_INSUFFICIENT_MEMORY)) {
      DEBUG ((DEBUG_ERROR, "VMBus: post to connection %d: hypervisor status 0x%x\n", ConnectionId, Result));
      return EFI_DEVICE_ERROR;
    }

    MicroSecondDelay (10 * (Attempt + 1));
  }

  return EFI_TIMEOUT;
}

VOID
HyperVSignalEvent (
  IN UINT32  ConnectionId
  )
{
  ((HV_HYPERCALL)mHypercallPage) (HV_CALL_SIGNAL_EVENT | HV_CALL_FAST, ConnectionId, 0);
}

BOOLEAN
HyperVTakeMessage (
  OUT UINT8  Payload[HV_MESSAGE_PAYLOAD]
  )
{
  volatile HV_MESSAGE  *Slot;

  Slot = mMessages;
  if (Slot->Type == 0) {
    return FALSE;
  }

  MemoryFence ();
  CopyMem (Payload, (VOID *)Slot->Payload, HV_MESSAGE_PAYLOAD);
  MemoryFence ();
  Slot->Type = 0;
  FULL_FENCE ();
  if ((Slot->Flags & BIT0) != 0) {
    AsmWriteMsr64 (HV_MSR_EOM, 0);
  }

  return TRUE;
}

VOID
HyperVIdle (
  IN BOOLEAN  (*Ready)(
    VOID  *Context
    ),
  IN VOID     *Context
  )
{
  if (!GetInterruptState ()) {
    CpuPause ();
    return;
  }

  // With interrupts off between the look and the sleep, one that comes in between ends the sleep at once: STI takes effect
  // after HLT has begun.
  DisableInterrupts ();
  if (Ready (Context)) {
    EnableInterrupts ();
    return;
  }

  __asm__ __volatile__ ("sti; hlt" ::: "memory");
}

VOID
HyperVSetEvent (
  IN UINT32     RelId,
  IN EFI_EVENT  Event OPTIONAL
  )
{
  BOOLEAN  Enabled;

  if (RelId < EVENT_FLAG_COUNT) {
    Enabled        = SaveAndDisableInterrupts ();
    mEvents[RelId] = Event;
    SetInterruptState (Enabled);
  }
}
