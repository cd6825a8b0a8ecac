/** @file
  What CpuDxe asks of memory types (Intel SDM volume 3, 12.11). Who has made the machine has set them, the same for every processor
  (docs/firmware-interface.md, "Image and entry state"), and nobody changes them before the operating system does. So the registers are
  read once; EDK II's own library reads all of them for every image that is loaded, and each read leaves the guest.

  SPDX-License-Identifier: Apache-2.0
**/
#include <Uefi.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/MtrrLib.h>
#include <Register/Intel/ArchitecturalMsr.h>
#include <Register/Intel/Cpuid.h>

#define RANGE_VALID    BIT11     ///< of a variable range's mask
#define ENABLED        BIT11     ///< of the default type
#define FIXED_ENABLED  BIT10     ///< of the default type

/// The fixed ranges in the order of their addresses; each register holds eight types.
STATIC CONST FIXED_MTRR  mFixedRanges[MTRR_NUMBER_OF_FIXED_MTRR] = {
  { MSR_IA32_MTRR_FIX64K_00000, 0x00000, SIZE_64KB },
  { MSR_IA32_MTRR_FIX16K_80000, 0x80000, SIZE_16KB },
  { MSR_IA32_MTRR_FIX16K_A0000, 0xA0000, SIZE_16KB },
  { MSR_IA32_MTRR_FIX4K_C0000,  0xC0000, SIZE_4KB  },
  { MSR_IA32_MTRR_FIX4K_C8000,  0xC8000, SIZE_4KB  },
  { MSR_IA32_MTRR_FIX4K_D0000,  0xD0000, SIZE_4KB  },
  { MSR_IA32_MTRR_FIX4K_D8000,  0xD8000, SIZE_4KB  },
  { MSR_IA32_MTRR_FIX4K_E0000,  0xE0000, SIZE_4KB  },
  { MSR_IA32_MTRR_FIX4K_E8000,  0xE8000, SIZE_4KB  },
  { MSR_IA32_MTRR_FIX4K_F0000,  0xF0000, SIZE_4KB  },
  { MSR_IA32_MTRR_FIX4K_F8000,  0xF8000, SIZE_4KB  }
};

STATIC BOOLEAN        mRead;
STATIC BOOLEAN        mSupported;
STATIC UINT32         mVariableCount;
STATIC MTRR_SETTINGS  mSettings;

STATIC VOID
ReadOnce (
  VOID
  )
{
  CPUID_VERSION_INFO_EDX  Edx;
  UINTN                   Index;

  if (mRead) {
    return;
  }

  mRead = TRUE;
  AsmCpuid (CPUID_VERSION_INFO, NULL, NULL, NULL, &Edx.Uint32);
  mSupported = (BOOLEAN)(Edx.Bits.MTRR != 0);
  if (!mSupported) {
    return;
  }

  mSettings.MtrrDefType = AsmReadMsr64 (MSR_IA32_MTRR_DEF_TYPE);
  for (Index = 0; Index < ARRAY_SIZE (mFixedRanges); ++Index) {
    mSettings.Fixed.Mtrr[Index] = AsmReadMsr64 (mFixedRanges[Index].Msr);
  }

  mVariableCount = (UINT32)MIN (AsmReadMsr64 (MSR_IA32_MTRRCAP) & 0xFF, MTRR_NUMBER_OF_VARIABLE_MTRR);
  for (Index = 0; Index < mVariableCount; ++Index) {
    mSettings.Variables.Mtrr[Index].Base = AsmReadMsr64 ((UINT32)(MSR_IA32_MTRR_PHYSBASE0 + 2 * Index));
    mSettings.Variables.Mtrr[Index].Mask = AsmReadMsr64 ((UINT32)(MSR_IA32_MTRR_PHYSMASK0 + 2 * Index));
  }
}

BOOLEAN
EFIAPI
IsMtrrSupported (
  VOID
  )
{
  ReadOnce ();
  return mSupported;
}

UINT32
EFIAPI
GetVariableMtrrCount (
  VOID
  )
{
  ReadOnce ();
  return mVariableCount;
}

/// None is kept for the operating system: the firmware sets none.
UINT32
EFIAPI
GetFirmwareVariableMtrrCount (
  VOID
  )
{
  return GetVariableMtrrCount ();
}

MTRR_MEMORY_CACHE_TYPE
EFIAPI
MtrrGetDefaultMemoryType (
  VOID
  )
{
  ReadOnce ();
  return (mSupported) ? (MTRR_MEMORY_CACHE_TYPE)(mSettings.MtrrDefType & 0x7) : CacheUncacheable;
}

STATIC MTRR_MEMORY_CACHE_TYPE
FixedType (
  IN PHYSICAL_ADDRESS  Address
  )
{
  UINTN  Index;
  UINTN  Shift;

  Index = ARRAY_SIZE (mFixedRanges) - 1;
  while (mFixedRanges[Index].BaseAddress > Address) {
    --Index;
  }

  Shift = (UINTN)(Address - mFixedRanges[Index].BaseAddress) / mFixedRanges[Index].Length * 8;
  return (MTRR_MEMORY_CACHE_TYPE)(RShiftU64 (mSettings.Fixed.Mtrr[Index], Shift) & 0x7);
}

/// Where ranges overlap, uncached wins; then written through over written back (12.11.4.1).
STATIC MTRR_MEMORY_CACHE_TYPE
VariableType (
  IN PHYSICAL_ADDRESS  Address
  )
{
  MTRR_MEMORY_CACHE_TYPE  Type;
  UINTN                   Found;
  UINTN                   Index;
  UINT64                  Mask;

  Found = CacheInvalid;
  for (Index = 0; Index < mVariableCount; ++Index) {
    Mask = mSettings.Variables.Mtrr[Index].Mask;
    if (((Mask & RANGE_VALID) != 0) && (((Address ^ mSettings.Variables.Mtrr[Index].Base) & Mask & ~(UINT64)EFI_PAGE_MASK) == 0)) {
      Type  = (MTRR_MEMORY_CACHE_TYPE)(mSettings.Variables.Mtrr[Index].Base & 0x7);
      Found = MIN (Found, (UINTN)Type);
    }
  }

  return (Found == CacheInvalid) ? MtrrGetDefaultMemoryType () : (MTRR_MEMORY_CACHE_TYPE)Found;
}

MTRR_MEMORY_CACHE_TYPE
EFIAPI
MtrrGetMemoryAttribute (
  IN PHYSICAL_ADDRESS  Address
  )
{
  ReadOnce ();
  if (!mSupported || ((mSettings.MtrrDefType & ENABLED) == 0)) {
    return CacheUncacheable;
  }

  if ((Address < BASE_1MB) && ((mSettings.MtrrDefType & FIXED_ENABLED) != 0)) {
    return FixedType (Address);
  }

  return VariableType (Address);
}

/// Types are not ours to change: only what they are already is accepted.
RETURN_STATUS
EFIAPI
MtrrSetMemoryAttribute (
  IN PHYSICAL_ADDRESS        BaseAddress,
  IN UINT64                  Length,
  IN MTRR_MEMORY_CACHE_TYPE  Attribute
  )
{
  return (MtrrGetMemoryAttribute (BaseAddress) == Attribute) ? RETURN_SUCCESS : RETURN_ACCESS_DENIED;
}

MTRR_FIXED_SETTINGS *
EFIAPI
MtrrGetFixedMtrr (
  OUT MTRR_FIXED_SETTINGS  *FixedSettings
  )
{
  ReadOnce ();
  CopyMem (FixedSettings, &mSettings.Fixed, sizeof (*FixedSettings));
  return FixedSettings;
}

MTRR_SETTINGS *
EFIAPI
MtrrGetAllMtrrs (
  OUT MTRR_SETTINGS  *MtrrSetting
  )
{
  ReadOnce ();
  CopyMem (MtrrSetting, &mSettings, sizeof (*MtrrSetting));
  return MtrrSetting;
}

/// CpuDxe gives other processors what the first has; there they have it from the start.
MTRR_SETTINGS *
EFIAPI
MtrrSetAllMtrrs (
  IN MTRR_SETTINGS  *MtrrSetting
  )
{
  return MtrrSetting;
}

UINT32
EFIAPI
MtrrGetMemoryAttributeInVariableMtrr (
  IN  UINT64         MtrrValidBitsMask,
  IN  UINT64         MtrrValidAddressMask,
  OUT VARIABLE_MTRR  *VariableMtrr
  )
{
  CONST MTRR_VARIABLE_SETTING  *Setting;
  UINT32                       Index;
  UINT32                       Used;

  ReadOnce ();
  Used = 0;
  ZeroMem (VariableMtrr, MTRR_NUMBER_OF_VARIABLE_MTRR * sizeof (*VariableMtrr));
  for (Index = 0; Index < mVariableCount; ++Index) {
    Setting = &mSettings.Variables.Mtrr[Index];
    if ((Setting->Mask & RANGE_VALID) == 0) {
      continue;
    }

    VariableMtrr[Index].Msr         = MSR_IA32_MTRR_PHYSBASE0 + 2 * Index;
    VariableMtrr[Index].BaseAddress = Setting->Base & MtrrValidAddressMask;
    VariableMtrr[Index].Length      = (~(Setting->Mask & MtrrValidAddressMask) & MtrrValidBitsMask) + 1;
    VariableMtrr[Index].Type        = Setting->Base & 0x7;
    VariableMtrr[Index].Valid       = TRUE;
    VariableMtrr[Index].Used        = TRUE;
    ++Used;
  }

  return Used;
}
