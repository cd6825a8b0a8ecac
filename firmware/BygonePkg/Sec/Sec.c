/** @file
  From the loader's hand-over to the DXE core. There is nothing to discover on this machine: memory, gaps and
  processors are in the host's blob, RAM is already initialized, and the image lies in RAM, uncompressed. So a PEI phase would
  only cost time; SEC writes the HOB list itself.

    entry (SecEntry.nasm) -> caching -> pick a region -> HOBs from the blob -> page tables -> DXE core

  SPDX-License-Identifier: Apache-2.0
**/
#include "Sec.h"
#include <Guid/MemoryAllocationHob.h>
#include <Guid/MemoryTypeInformation.h>
#include <Library/HelperPortLib.h>
#include <Library/PcdLib.h>
#include <Library/PrintLib.h>
#include <Library/SerialPortLib.h>
#include <Library/UefiCpuLib.h>
#include <Register/Intel/ArchitecturalMsr.h>
#include <Register/Intel/Cpuid.h>

/// SEC's own region at the top of low memory: HOBs, page tables, the DXE core, its stack and first heap.
#define REGION_BYTES     SIZE_16MB
/// Boot loaders may use 128 KiB (UEFI 2.10, 2.3.4); the rest is for who starts them, and a page that nothing may reach.
#define DXE_STACK_BYTES  (SIZE_128KB + SIZE_16KB)

#define LEGACY_AREA_BASE  0xA0000
#define LEGACY_AREA_END   0x100000

#define RAM_ATTRIBUTES  (EFI_RESOURCE_ATTRIBUTE_PRESENT | EFI_RESOURCE_ATTRIBUTE_INITIALIZED | \
                         EFI_RESOURCE_ATTRIBUTE_TESTED | EFI_RESOURCE_ATTRIBUTE_UNCACHEABLE | \
                         EFI_RESOURCE_ATTRIBUTE_WRITE_COMBINEABLE | EFI_RESOURCE_ATTRIBUTE_WRITE_THROUGH_CACHEABLE | \
                         EFI_RESOURCE_ATTRIBUTE_WRITE_BACK_CACHEABLE)

#define MMIO_ATTRIBUTES  (EFI_RESOURCE_ATTRIBUTE_PRESENT | EFI_RESOURCE_ATTRIBUTE_INITIALIZED | \
                          EFI_RESOURCE_ATTRIBUTE_UNCACHEABLE | EFI_RESOURCE_ATTRIBUTE_WRITE_COMBINEABLE)

/// Pages set aside for each kind, so that the memory map keeps its shape from boot to boot (hibernation needs that).
STATIC CONST EFI_MEMORY_TYPE_INFORMATION  mMemoryTypes[] = {
  { EfiACPIReclaimMemory,   0x20  },
  { EfiACPIMemoryNVS,       0x10  },
  { EfiReservedMemoryType,  0x10  },
  { EfiRuntimeServicesCode, 0x80  },
  { EfiRuntimeServicesData, 0xA0  },
  { EfiMaxMemoryType,       0     }
};

VOID
SecFail (
  IN CONST CHAR8  *Format,
  ...
  )
{
  VA_LIST  Arguments;
  CHAR8    Text[160];
  UINTN    Length;

  Length = AsciiSPrint (Text, sizeof (Text), "Bygone firmware: ");
  VA_START (Arguments, Format);
  Length += AsciiVSPrint (Text + Length, sizeof (Text) - Length - 2, Format, Arguments);
  VA_END (Arguments);
  HelperWrite (HELPER_DEBUG_STRING, (UINT32)(UINTN)Text);
  Text[Length]     = '\r';
  Text[Length + 1] = '\n';
  SerialPortInitialize ();
  SerialPortWrite ((UINT8 *)Text, Length + 2);
  for ( ; ;) {
    CpuSleep ();
  }
}

STATIC UINT8
PhysicalAddressBits (
  VOID
  )
{
  UINT32  MaximumLeaf;
  UINT32  Eax;

  AsmCpuid (CPUID_EXTENDED_FUNCTION, &MaximumLeaf, NULL, NULL, NULL);
  if (MaximumLeaf < CPUID_VIR_PHY_ADDRESS_SIZE) {
    return 36;
  }

  AsmCpuid (CPUID_VIR_PHY_ADDRESS_SIZE, &Eax, NULL, NULL, NULL);
  return (UINT8)Eax;
}

/**
  Memory write-back, the MMIO gaps uncached. The default becomes write-back, so one variable range a gap is enough; a gap that is
  not a power of two or not aligned takes the largest ranges that fit.
**/
STATIC VOID
SetMtrrs (
  IN CONST BLOB_MMIO_RANGE  *Gaps,
  IN UINT8                  AddressBits
  )
{
  STATIC CONST UINT32  Fixed[] = {
    MSR_IA32_MTRR_FIX64K_00000, MSR_IA32_MTRR_FIX16K_80000, MSR_IA32_MTRR_FIX16K_A0000, MSR_IA32_MTRR_FIX4K_C0000,
    MSR_IA32_MTRR_FIX4K_C8000,  MSR_IA32_MTRR_FIX4K_D0000,  MSR_IA32_MTRR_FIX4K_D8000,  MSR_IA32_MTRR_FIX4K_E0000,
    MSR_IA32_MTRR_FIX4K_E8000,  MSR_IA32_MTRR_FIX4K_F0000,  MSR_IA32_MTRR_FIX4K_F8000
  };
  CPUID_VERSION_INFO_EDX  Edx;
  UINT64                  AddressMask;
  UINT64                  Base;
  UINT64                  Length;
  UINT64                  Size;
  UINT32                  Range;
  UINT32                  Ranges;
  UINTN                   Index;

  AsmCpuid (CPUID_VERSION_INFO, NULL, NULL, NULL, &Edx.Uint32);
  if (Edx.Bits.MTRR == 0) {
    return;
  }

  for (Index = 0; Index < ARRAY_SIZE (Fixed); ++Index) {
    AsmWriteMsr64 (Fixed[Index], 0x0606060606060606ULL);
  }

  AddressMask = LShiftU64 (1, AddressBits) - 1;
  Ranges      = (UINT32)AsmReadMsr64 (MSR_IA32_MTRRCAP) & 0xFF;
  Range       = 0;
  for (Index = 0; Index < 2; ++Index) {
    Base   = LShiftU64 (Gaps[Index].FirstPage, EFI_PAGE_SHIFT);
    Length = LShiftU64 (Gaps[Index].Pages, EFI_PAGE_SHIFT);
    while ((Length != 0) && (Range < Ranges)) {
      Size = GetPowerOfTwo64 (Length);
      if ((Base != 0) && ((Base & (~Base + 1)) < Size)) {
        Size = Base & (~Base + 1);
      }

      AsmWriteMsr64 (MSR_IA32_MTRR_PHYSBASE0 + 2 * Range, Base);
      AsmWriteMsr64 (MSR_IA32_MTRR_PHYSMASK0 + 2 * Range, (~(Size - 1) & AddressMask) | BIT11);
      ++Range;
      Base   += Size;
      Length -= Size;
    }
  }

  AsmWriteMsr64 (MSR_IA32_MTRR_DEF_TYPE, BIT11 | BIT10 | 6);
}

/**
  Where SEC's region goes: the top of the highest RAM range below 4 GiB.
**/
STATIC EFI_PHYSICAL_ADDRESS
PickRegion (
  IN CONST BLOB_MEMORY_RANGE  *Ranges,
  IN UINTN                    Count,
  IN EFI_PHYSICAL_ADDRESS     LowestAddress
  )
{
  EFI_PHYSICAL_ADDRESS  Best;
  EFI_PHYSICAL_ADDRESS  End;
  UINTN                 Index;

  Best = 0;
  for (Index = 0; Index < Count; ++Index) {
    End = (Ranges[Index].Base + Ranges[Index].Length) & ~(UINT64)EFI_PAGE_MASK;
    if ((Ranges[Index].Flags == 0) && (End <= SIZE_4GB) && (End > Best) &&
        (End >= MAX (Ranges[Index].Base, LowestAddress) + REGION_BYTES))
    {
      Best = End;
    }
  }

  if (Best == 0) {
    SecFail ("the memory map has no %d MiB of RAM below 4 GiB; give the machine more memory", REGION_BYTES / SIZE_1MB);
  }

  return Best - REGION_BYTES;
}

/**
  Memory and gaps as resources. Returns the end of the highest of them.
**/
STATIC EFI_PHYSICAL_ADDRESS
DescribeResources (
  IN CONST BLOB_MEMORY_RANGE  *Ranges,
  IN UINTN                    Count,
  IN CONST BLOB_MMIO_RANGE    *Gaps
  )
{
  EFI_PHYSICAL_ADDRESS         Top;
  EFI_RESOURCE_TYPE            Type;
  EFI_RESOURCE_ATTRIBUTE_TYPE  Attributes;
  UINTN                        Index;
  UINT64                       Base;
  UINT64                       Length;

  Top = SIZE_4GB;
  for (Index = 0; Index < Count; ++Index) {
    if (Ranges[Index].Length == 0) {
      continue;
    }

    Type       = EFI_RESOURCE_SYSTEM_MEMORY;
    Attributes = RAM_ATTRIBUTES;
    if ((Ranges[Index].Flags & BLOB_MEMORY_RESERVED) != 0) {
      Type = EFI_RESOURCE_MEMORY_RESERVED;
    } else if ((Ranges[Index].Flags & BLOB_MEMORY_PERSISTENT) != 0) {
      Attributes |= EFI_RESOURCE_ATTRIBUTE_PERSISTENT | EFI_RESOURCE_ATTRIBUTE_PERSISTABLE;
    }

    HobResource (Type, Attributes, Ranges[Index].Base, Ranges[Index].Length);
    Top = MAX (Top, Ranges[Index].Base + Ranges[Index].Length);
  }

  for (Index = 0; Index < 2; ++Index) {
    Base   = LShiftU64 (Gaps[Index].FirstPage, EFI_PAGE_SHIFT);
    Length = LShiftU64 (Gaps[Index].Pages, EFI_PAGE_SHIFT);
    if (Length != 0) {
      HobResource (EFI_RESOURCE_MEMORY_MAPPED_IO, MMIO_ATTRIBUTES, Base, Length);
      Top = MAX (Top, Base + Length);
    }
  }

  return Top;
}

/**
  C entry.

  @param Blob       the configuration blob
  @param FreeStart  first byte behind it; SEC's stack begins there
**/
VOID
EFIAPI
SecMain (
  IN CONST VOID            *Blob,
  IN EFI_PHYSICAL_ADDRESS  FreeStart
  )
{
  CONST BLOB_MEMORY_RANGE  *Ranges;
  CONST BLOB_MMIO_RANGE    *Gaps;
  EFI_PHYSICAL_ADDRESS     Region;
  EFI_PHYSICAL_ADDRESS     Top;
  UINTN                    RangeBytes;
  UINTN                    GapBytes;
  UINTN                    RangeCount;
  UINT8                    AddressBits;
  VOID                     *Entry;
  UINT8                    *Stack;

  InitializeFloatingPointUnits ();

  Ranges = BlobFind (BlobMemoryMap, &RangeBytes);
  Gaps   = BlobFind (BlobMmioRanges, &GapBytes);
  if ((Ranges == NULL) || (Gaps == NULL) || (GapBytes < 2 * sizeof (*Gaps))) {
    SecFail ("the configuration blob lacks its memory map or its MMIO ranges");
  }

  RangeCount  = RangeBytes / sizeof (*Ranges);
  AddressBits = PhysicalAddressBits ();
  if ((BlobFlagsValue () & BLOB_FLAG_MTRRS_SET) == 0) {
    SetMtrrs (Gaps, AddressBits);
  }

  HelperWrite (HELPER_BOOT_FINALIZE, AddressBits);

  Region = PickRegion (Ranges, RangeCount, FreeStart + SIZE_1MB);
  HobBegin (Region, Region + REGION_BYTES);
  HobCpu (AddressBits);
  Top = DescribeResources (Ranges, RangeCount, Gaps);
  HobMemoryAllocation (LEGACY_AREA_BASE, LEGACY_AREA_END - LEGACY_AREA_BASE, EfiReservedMemoryType, NULL);
  HobMemoryAllocation (
    FixedPcdGet32 (PcdImageBase),
    FreeStart - FixedPcdGet32 (PcdImageBase),
    EfiBootServicesData,
    NULL
    );
  HobGuidData (&gEfiMemoryTypeInformationGuid, mMemoryTypes, sizeof (mMemoryTypes));
  HobFirmwareVolume (FixedPcdGet32 (PcdMainFvBase), FixedPcdGet32 (PcdMainFvSize));

  PagingBuild (Top);

  Entry = DxeCoreLoad ((EFI_FIRMWARE_VOLUME_HEADER *)(UINTN)FixedPcdGet32 (PcdMainFvBase));
  Stack = HobTakePages (EFI_SIZE_TO_PAGES (DXE_STACK_BYTES));
  HobMemoryAllocation ((UINTN)Stack, DXE_STACK_BYTES, EfiBootServicesData, &gEfiHobMemoryAllocStackGuid);

  SecSwitchStack (Entry, HobList (), Stack + DXE_STACK_BYTES);
  SecFail ("the DXE core returned");
}
