// Memory type range registers (Intel SDM volume 3, 12.11): what SEC sets and MtrrLib reads.
// SPDX-License-Identifier: Apache-2.0
#pragma once

extern "C" {
#include <Uefi.h>
#include <Library/BaseLib.h>
#include <Register/Intel/ArchitecturalMsr.h>
#include <Register/Intel/Cpuid.h>
}

namespace bygone::mtrr {

/// Eight ranges in one register, of eight bits each.
struct FixedRanges {
  UINT32 msr;
  UINT32 base;
  UINT32 unit;  ///< bytes of one of them
};

/// In the order of their addresses.
constexpr FixedRanges kFixedRanges[] = {
    {MSR_IA32_MTRR_FIX64K_00000, 0x00000, SIZE_64KB}, {MSR_IA32_MTRR_FIX16K_80000, 0x80000, SIZE_16KB},
    {MSR_IA32_MTRR_FIX16K_A0000, 0xA0000, SIZE_16KB}, {MSR_IA32_MTRR_FIX4K_C0000, 0xC0000, SIZE_4KB},
    {MSR_IA32_MTRR_FIX4K_C8000, 0xC8000, SIZE_4KB},   {MSR_IA32_MTRR_FIX4K_D0000, 0xD0000, SIZE_4KB},
    {MSR_IA32_MTRR_FIX4K_D8000, 0xD8000, SIZE_4KB},   {MSR_IA32_MTRR_FIX4K_E0000, 0xE0000, SIZE_4KB},
    {MSR_IA32_MTRR_FIX4K_E8000, 0xE8000, SIZE_4KB},   {MSR_IA32_MTRR_FIX4K_F0000, 0xF0000, SIZE_4KB},
    {MSR_IA32_MTRR_FIX4K_F8000, 0xF8000, SIZE_4KB}};

constexpr UINT64 kTypeMask = 0x7;
constexpr UINT64 kWriteBack = 6;
constexpr UINT64 kWriteBackEight = 0x0606060606060606;

constexpr UINT64 kRangeValid = BIT11;    ///< of a variable range's mask
constexpr UINT64 kEnabled = BIT11;       ///< of the default type
constexpr UINT64 kFixedEnabled = BIT10;  ///< of the default type

/// A variable range's two registers.
constexpr UINT32 base_msr(UINT32 range) { return MSR_IA32_MTRR_PHYSBASE0 + 2 * range; }
constexpr UINT32 mask_msr(UINT32 range) { return MSR_IA32_MTRR_PHYSMASK0 + 2 * range; }

inline UINT32 variable_count() { return static_cast<UINT32>(AsmReadMsr64(MSR_IA32_MTRRCAP) & 0xFF); }

inline bool are_there() {
  CPUID_VERSION_INFO_EDX edx = {};
  AsmCpuid(CPUID_VERSION_INFO, nullptr, nullptr, nullptr, &edx.Uint32);
  return edx.Bits.MTRR != 0;
}

}  // namespace bygone::mtrr
