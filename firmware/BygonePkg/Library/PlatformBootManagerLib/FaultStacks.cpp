// Stacks for faults. What faults may have ruined its stack pointer, or have used up its stack: the processor changes to a stack of the
// firmware's for each fault (Intel SDM volume 3, 6.14.5: interrupt stack table), and the lowest page of the stack that boot loaders run on
// is absent, so that one that recurses for ever is caught before it overwrites what lies below.
// SPDX-License-Identifier: Apache-2.0
#include "PlatformBootManager.h"

extern "C" {
#include <Guid/MemoryAllocationHob.h>
#include <Library/HobLib.h>
}

namespace bygone::boot {
namespace {

constexpr UINTN kFaultBytes = SIZE_32KB;     ///< for the exception handler
constexpr UINTN kRecoveryBytes = SIZE_64KB;  ///< above it, for what goes on afterwards

constexpr UINTN kInterruptStack = 1;  ///< which of the table's

#pragma pack(1)

/// Intel SDM volume 3, 7.7: in 64-bit mode.
struct TaskState {
  UINT32 reserved0;
  UINT64 rsp[3];
  UINT64 reserved1;
  UINT64 interrupt_stack[7];
  UINT64 reserved2;
  UINT16 reserved3;
  UINT16 io_map_offset;
};

/// Its segment's descriptor (7.2.3).
struct TaskStateDescriptor {
  UINT16 limit;
  UINT16 base_low;
  UINT8 base_middle;
  UINT8 type;
  UINT8 flags;
  UINT8 base_high;
  UINT32 base_upper;
  UINT32 reserved;
};

/// What the processor reads for the rest of the boot.
struct Tables {
  UINT8 segments[1024];
  TaskState task_state;
};

#pragma pack()

static_assert(sizeof(TaskState) == 104, "Intel SDM volume 3, figure 7-11");
static_assert(sizeof(TaskStateDescriptor) == 16 && sizeof(Tables) <= EFI_PAGE_SIZE);

constexpr UINT8 kAvailableTaskState = 0x89;  ///< present, an available 64-bit task state segment

UINTN stacks;

TaskStateDescriptor describe(const TaskState& task_state) {
  const auto base = reinterpret_cast<UINTN>(&task_state);
  TaskStateDescriptor descriptor = {};
  descriptor.limit = sizeof task_state - 1;
  descriptor.base_low = static_cast<UINT16>(base);
  descriptor.base_middle = static_cast<UINT8>(base >> 16);
  descriptor.type = kAvailableTaskState;
  descriptor.base_high = static_cast<UINT8>(base >> 24);
  descriptor.base_upper = static_cast<UINT32>(base >> 32);
  return descriptor;
}

/// The segment table again, with a task state segment behind what it holds, becomes the processor's. False: there is no room.
bool use(Tables& tables) {
  IA32_DESCRIPTOR old = {};
  AsmReadGdtr(&old);
  const UINTN bytes = UINTN{old.Limit} + 1;
  const UINTN selector = ALIGN_VALUE(bytes, 8);
  if (selector + sizeof(TaskStateDescriptor) > sizeof tables.segments) return false;
  CopyMem(tables.segments, reinterpret_cast<const void*>(old.Base), bytes);
  const TaskStateDescriptor descriptor = describe(tables.task_state);
  CopyMem(tables.segments + selector, &descriptor, sizeof descriptor);
  const IA32_DESCRIPTOR ours = {static_cast<UINT16>(selector + sizeof descriptor - 1), reinterpret_cast<UINTN>(tables.segments)};
  AsmWriteGdtr(&ours);
  AsmWriteTr(static_cast<UINT16>(selector));
  return true;
}

/// Takes away the lowest page of the stack that DXE, and so boot loaders, run on.
void guard_stack(EFI_CPU_ARCH_PROTOCOL& cpu) {
  EFI_PEI_HOB_POINTERS each;
  for (each.Raw = static_cast<UINT8*>(GetFirstHob(EFI_HOB_TYPE_MEMORY_ALLOCATION)); each.Raw != nullptr;
       each.Raw = static_cast<UINT8*>(GetNextHob(EFI_HOB_TYPE_MEMORY_ALLOCATION, GET_NEXT_HOB(each)))) {
    const EFI_HOB_MEMORY_ALLOCATION_HEADER& allocation = each.MemoryAllocation->AllocDescriptor;
    if (!CompareGuid(&allocation.Name, &gEfiHobMemoryAllocStackGuid)) continue;
    cpu.SetMemoryAttributes(&cpu, allocation.MemoryBaseAddress, EFI_PAGE_SIZE, EFI_MEMORY_RP);
  }
}

/// Of a kind of memory that operating systems keep: they may run on with the firmware's segments for a while, as with the processor
/// driver's own. Below 4 GiB; null: there is none.
Tables* allocate_tables() {
  EFI_PHYSICAL_ADDRESS page = SIZE_4GB - 1;
  if (EFI_ERROR(gBS->AllocatePages(AllocateMaxAddress, EfiRuntimeServicesData, 1, &page))) return nullptr;
  ZeroMem(reinterpret_cast<void*>(page), EFI_PAGE_SIZE);
  return reinterpret_cast<Tables*>(page);
}

}  // namespace

bool fault_stacks::hold(UINT64 address) { return address >= stacks && address <= stacks + kFaultBytes + kRecoveryBytes; }

UINT64 fault_stacks::recovery_top() {
  // As after a call: 8 off a multiple of 16, with the callee's 32 bytes above it.
  return stacks + kFaultBytes + kRecoveryBytes - 5 * sizeof(UINT64);
}

EFI_STATUS fault_stacks::prepare(EFI_CPU_ARCH_PROTOCOL& cpu, UINTN vector_count) {
  Pages pages;
  if (!pages.allocate(EFI_SIZE_TO_PAGES(kFaultBytes + kRecoveryBytes))) return EFI_OUT_OF_RESOURCES;
  Tables* const tables = allocate_tables();
  if (tables == nullptr) return EFI_OUT_OF_RESOURCES;
  tables->task_state.interrupt_stack[kInterruptStack - 1] = pages.address(0) + kFaultBytes;
  tables->task_state.io_map_offset = sizeof tables->task_state;
  if (!use(*tables)) {
    gBS->FreePages(reinterpret_cast<UINTN>(tables), 1);
    return EFI_BUFFER_TOO_SMALL;
  }
  stacks = reinterpret_cast<UINTN>(pages.release());

  IA32_DESCRIPTOR interrupts = {};
  AsmReadIdtr(&interrupts);
  auto* const gates = reinterpret_cast<IA32_IDT_GATE_DESCRIPTOR*>(interrupts.Base);
  for (UINTN vector = 0; vector < vector_count; ++vector) gates[vector].Bits.Reserved_0 = kInterruptStack;
  guard_stack(cpu);
  return EFI_SUCCESS;
}

}  // namespace bygone::boot
