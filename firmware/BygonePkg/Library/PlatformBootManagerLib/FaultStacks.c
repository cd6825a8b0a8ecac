/** @file
  Stacks for faults. What faults may have ruined its stack pointer, or have used up its stack: the processor changes to a stack of the
  firmware's for each fault (Intel SDM volume 3, 6.14.5: interrupt stack table), and the lowest page of the stack that boot loaders run
  on is absent, so that one that recurses for ever is caught before it overwrites what lies below.

  SPDX-License-Identifier: Apache-2.0
**/
#include "PlatformBootManager.h"
#include <Guid/MemoryAllocationHob.h>
#include <Library/HobLib.h>

#define FAULT_BYTES     SIZE_32KB           ///< for the exception handler
#define RECOVERY_BYTES  SIZE_64KB           ///< above it, for what goes on afterwards

#define INTERRUPT_STACK  1                  ///< which of the table's

#pragma pack(1)
/// Intel SDM volume 3, 7.7: in 64-bit mode.
typedef struct {
  UINT32    Reserved0;
  UINT64    Rsp[3];
  UINT64    Reserved1;
  UINT64    InterruptStack[7];
  UINT64    Reserved2;
  UINT16    Reserved3;
  UINT16    IoMapOffset;
} TASK_STATE;
#pragma pack()

STATIC_ASSERT (sizeof (TASK_STATE) == 104, "Intel SDM volume 3, figure 7-11");

#define DESCRIPTOR_BYTES      16
#define MAXIMUM_TABLE_BYTES   1024
#define TASK_STATE_AVAILABLE  0x89          ///< present, an available 64-bit task state segment

STATIC EFI_PHYSICAL_ADDRESS  mStacks;

BOOLEAN
FaultStacksHold (
  IN UINT64  Address
  )
{
  return (BOOLEAN)((Address >= mStacks) && (Address <= mStacks + FAULT_BYTES + RECOVERY_BYTES));
}

UINT64
FaultStacksRecoveryTop (
  VOID
  )
{
  // As after a call: 8 off a multiple of 16, with the callee's 32 bytes above it.
  return mStacks + FAULT_BYTES + RECOVERY_BYTES - 5 * sizeof (UINT64);
}

/// The segment table again, with a task state segment behind what it holds. Returns that one's selector, 0: there is no room.
STATIC UINT16
AddTaskState (
  IN OUT UINT8             *Table,
  IN     CONST TASK_STATE  *TaskState
  )
{
  IA32_DESCRIPTOR  Old;
  IA32_DESCRIPTOR  New;
  UINT64           Base;
  UINTN            Bytes;

  AsmReadGdtr (&Old);
  Bytes = ALIGN_VALUE ((UINTN)Old.Limit + 1, 8);
  if (Bytes + DESCRIPTOR_BYTES > MAXIMUM_TABLE_BYTES) {
    return 0;
  }

  CopyMem (Table, (VOID *)Old.Base, (UINTN)Old.Limit + 1);
  Base = (UINTN)TaskState;
  WriteUnaligned64 (
    (UINT64 *)(Table + Bytes),
    (sizeof (*TaskState) - 1) | LShiftU64 (Base & 0xFFFFFF, 16) | LShiftU64 (TASK_STATE_AVAILABLE, 40) | LShiftU64 ((Base >> 24) & 0xFF, 56)
    );
  WriteUnaligned64 ((UINT64 *)(Table + Bytes + 8), RShiftU64 (Base, 32));
  New.Base  = (UINTN)Table;
  New.Limit = (UINT16)(Bytes + DESCRIPTOR_BYTES - 1);
  AsmWriteGdtr (&New);
  return (UINT16)Bytes;
}

STATIC VOID
GuardStack (
  IN EFI_CPU_ARCH_PROTOCOL  *Cpu
  )
{
  EFI_HOB_MEMORY_ALLOCATION  *Hob;
  EFI_PEI_HOB_POINTERS       Each;

  for (Each.Raw = GetFirstHob (EFI_HOB_TYPE_MEMORY_ALLOCATION); Each.Raw != NULL;
       Each.Raw = GetNextHob (EFI_HOB_TYPE_MEMORY_ALLOCATION, GET_NEXT_HOB (Each)))
  {
    Hob = Each.MemoryAllocation;
    if (CompareGuid (&Hob->AllocDescriptor.Name, &gEfiHobMemoryAllocStackGuid)) {
      Cpu->SetMemoryAttributes (Cpu, Hob->AllocDescriptor.MemoryBaseAddress, EFI_PAGE_SIZE, EFI_MEMORY_RP);
    }
  }
}

EFI_STATUS
FaultStacksPrepare (
  IN EFI_CPU_ARCH_PROTOCOL  *Cpu,
  IN CONST UINT8            *Vectors,
  IN UINTN                  Count
  )
{
  IA32_DESCRIPTOR           Interrupts;
  IA32_IDT_GATE_DESCRIPTOR  *Gates;
  EFI_PHYSICAL_ADDRESS      Page;
  TASK_STATE                *TaskState;
  EFI_STATUS                Status;
  UINT16                    Selector;
  UINTN                     Index;

  Status = gBS->AllocatePages (AllocateAnyPages, EfiBootServicesData, EFI_SIZE_TO_PAGES (FAULT_BYTES + RECOVERY_BYTES), &mStacks);
  if (!EFI_ERROR (Status)) {
    // Operating systems may run on with the firmware's segments for a while: runtime memory, as where the processor driver has them.
    Page   = SIZE_4GB - 1;
    Status = gBS->AllocatePages (AllocateMaxAddress, EfiRuntimeServicesData, 1, &Page);
  }

  if (EFI_ERROR (Status)) {
    return Status;
  }

  ZeroMem ((VOID *)(UINTN)Page, EFI_PAGE_SIZE);
  TaskState                                      = (TASK_STATE *)(UINTN)(Page + MAXIMUM_TABLE_BYTES);
  TaskState->InterruptStack[INTERRUPT_STACK - 1] = mStacks + FAULT_BYTES;
  TaskState->IoMapOffset                         = sizeof (*TaskState);
  Selector                                       = AddTaskState ((UINT8 *)(UINTN)Page, TaskState);
  if (Selector == 0) {
    return EFI_BUFFER_TOO_SMALL;
  }

  AsmWriteTr (Selector);
  AsmReadIdtr (&Interrupts);
  Gates = (IA32_IDT_GATE_DESCRIPTOR *)Interrupts.Base;
  for (Index = 0; Index < Count; ++Index) {
    Gates[Vectors[Index]].Bits.Reserved_0 = INTERRUPT_STACK;
  }

  GuardStack (Cpu);
  return EFI_SUCCESS;
}
