/** @file
  Identity page tables for everything the firmware may touch. The loader's own map ends at 4 GiB; memory and MMIO may lie
  above it. 1 GiB pages where the processor has them; CpuDxe splits what it has to protect later.

  SPDX-License-Identifier: Apache-2.0
**/
#include "Sec.h"

#define PAGE_PRESENT_WRITE  0x3ULL
#define PAGE_LARGE          0x80ULL

STATIC UINT64 *
NewTable (
  VOID
  )
{
  VOID  *Table;

  Table = HobTakePages (1);
  HobMemoryAllocation ((UINTN)Table, EFI_PAGE_SIZE, EfiBootServicesData, NULL);
  return Table;
}

VOID
PagingBuild (
  IN EFI_PHYSICAL_ADDRESS  End
  )
{
  UINT64   *Pml4;
  UINT64   *Pdpt;
  UINT64   *Pd;
  UINT64   Gib;
  UINT64   Gibs;
  UINTN    Index;
  UINT32   MaximumLeaf;
  UINT32   Edx;
  BOOLEAN  GibPages;

  AsmCpuid (0x80000000, &MaximumLeaf, NULL, NULL, NULL);
  Edx = 0;
  if (MaximumLeaf >= 0x80000001) {
    AsmCpuid (0x80000001, NULL, NULL, NULL, &Edx);
  }

  GibPages = (BOOLEAN)((Edx & BIT26) != 0);
  Gibs     = DivU64x32 (End + SIZE_1GB - 1, SIZE_1GB);
  if (Gibs < 4) {
    Gibs = 4;
  }

  Pml4 = NewTable ();
  Pdpt = NULL;
  for (Gib = 0; Gib < Gibs; ++Gib) {
    if ((Gib & 511) == 0) {
      Pdpt           = NewTable ();
      Pml4[Gib >> 9] = (UINTN)Pdpt | PAGE_PRESENT_WRITE;
    }

    if (GibPages) {
      Pdpt[Gib & 511] = (Gib << 30) | PAGE_PRESENT_WRITE | PAGE_LARGE;
      continue;
    }

    Pd              = NewTable ();
    Pdpt[Gib & 511] = (UINTN)Pd | PAGE_PRESENT_WRITE;
    for (Index = 0; Index < 512; ++Index) {
      Pd[Index] = (Gib << 30) | LShiftU64 (Index, 21) | PAGE_PRESENT_WRITE | PAGE_LARGE;
    }
  }

  AsmWriteCr3 ((UINTN)Pml4);
}
