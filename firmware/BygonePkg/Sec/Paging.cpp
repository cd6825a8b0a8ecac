// Identity page tables for everything the firmware may touch. The loader's own map ends at 4 GiB; memory and MMIO may lie above it. 1 GiB
// pages where the processor has them; CpuDxe splits what it has to protect later.
// SPDX-License-Identifier: Apache-2.0
#include "Sec.h"

extern "C" {
#include <Register/Intel/Cpuid.h>
}

namespace bygone::sec {
namespace {

constexpr UINTN kEntries = 512;
constexpr UINT64 kPresentWritable = BIT1 | BIT0;
constexpr UINT64 kLargePage = BIT7;
constexpr UINT64 kLargePageShift = 21;  ///< 2 MiB
constexpr UINT64 kGibShift = 30;

struct Table {
  UINT64 entries[kEntries];

  static Table& create(HobList& hobs) {
    UINT8* const page = hobs.take_pages(1);
    hobs.add_allocation(reinterpret_cast<UINTN>(page), EFI_PAGE_SIZE, EfiBootServicesData);
    return *reinterpret_cast<Table*>(page);
  }
  UINT64 address() const { return reinterpret_cast<UINTN>(this); }
  void link(UINTN index, const Table& lower) { entries[index] = lower.address() | kPresentWritable; }
  void map(UINTN index, UINT64 address) { entries[index] = address | kPresentWritable | kLargePage; }
};

static_assert(sizeof(Table) == EFI_PAGE_SIZE);

bool has_gib_pages() {
  UINT32 maximum_leaf = 0;
  AsmCpuid(CPUID_EXTENDED_FUNCTION, &maximum_leaf, nullptr, nullptr, nullptr);
  if (maximum_leaf < CPUID_EXTENDED_CPU_SIG) return false;
  CPUID_EXTENDED_CPU_SIG_EDX edx = {};
  AsmCpuid(CPUID_EXTENDED_CPU_SIG, nullptr, nullptr, nullptr, &edx.Uint32);
  return edx.Bits.Page1GB != 0;
}

/// One GiB in 2 MiB pages.
const Table& map_gib(HobList& hobs, UINT64 base) {
  Table& directory = Table::create(hobs);
  for (UINTN index = 0; index < kEntries; ++index) directory.map(index, base + (UINT64{index} << kLargePageShift));
  return directory;
}

}  // namespace

void build_page_tables(HobList& hobs, EFI_PHYSICAL_ADDRESS end) {
  const UINT64 gibs = MAX((end + SIZE_1GB - 1) >> kGibShift, 4);
  if (gibs > kEntries * kEntries / 2) fail("memory or MMIO ends at 0x%lx, beyond what four levels of page tables map", end);
  const bool uses_gib_pages = has_gib_pages();
  Table& top = Table::create(hobs);
  Table* pointers = nullptr;
  for (UINT64 gib = 0; gib < gibs; ++gib) {
    const UINTN index = gib % kEntries;
    if (index == 0) {
      pointers = &Table::create(hobs);
      top.link(gib / kEntries, *pointers);
    }
    if (uses_gib_pages) {
      pointers->map(index, gib << kGibShift);
    } else {
      pointers->link(index, map_gib(hobs, gib << kGibShift));
    }
  }
  AsmWriteCr3(top.address());
}

}  // namespace bygone::sec
