// From the loader's hand-over to the DXE core. There is nothing to discover on this machine: memory, gaps and processors are in the host's
// blob, RAM is already initialized, and the image lies in RAM, uncompressed. So a PEI phase would only cost time; SEC writes the HOB list
// itself.
//
//   entry (SecEntry.nasm) -> caching -> pick a region -> HOBs from the blob -> page tables -> DXE core
//
// SPDX-License-Identifier: Apache-2.0
#include "Sec.h"

#include <BygoneHelperPorts.h>

extern "C" {
#include <Guid/MemoryAllocationHob.h>
#include <Guid/MemoryTypeInformation.h>
#include <Library/CpuLib.h>
#include <Library/PcdLib.h>
#include <Library/SerialPortLib.h>
#include <Library/UefiCpuLib.h>
#include <Register/Intel/Cpuid.h>
}

namespace bygone::sec {
namespace {

/// SEC's own region at the top of low memory: HOBs, page tables, the DXE core, its stack and first heap.
constexpr UINT64 kRegionBytes = SIZE_16MB;
/// Boot loaders may use 128 KiB (UEFI 2.10, 2.3.4); the rest is for who starts them, and a page that nothing may reach.
constexpr UINTN kDxeStackBytes = SIZE_128KB + SIZE_16KB;

constexpr EFI_PHYSICAL_ADDRESS kLegacyAreaBase = 0xA0000;
constexpr EFI_PHYSICAL_ADDRESS kLegacyAreaEnd = 0x100000;

constexpr EFI_PHYSICAL_ADDRESS kImageBase = FixedPcdGet32(PcdImageBase);
constexpr EFI_PHYSICAL_ADDRESS kMainVolumeBase = FixedPcdGet32(PcdMainFvBase);
constexpr UINT64 kMainVolumeBytes = FixedPcdGet32(PcdMainFvSize);

constexpr EFI_RESOURCE_ATTRIBUTE_TYPE kMmioAttributes = EFI_RESOURCE_ATTRIBUTE_PRESENT | EFI_RESOURCE_ATTRIBUTE_INITIALIZED |
                                                        EFI_RESOURCE_ATTRIBUTE_UNCACHEABLE | EFI_RESOURCE_ATTRIBUTE_WRITE_COMBINEABLE;
constexpr EFI_RESOURCE_ATTRIBUTE_TYPE kRamAttributes = kMmioAttributes | EFI_RESOURCE_ATTRIBUTE_TESTED |
                                                       EFI_RESOURCE_ATTRIBUTE_WRITE_THROUGH_CACHEABLE |
                                                       EFI_RESOURCE_ATTRIBUTE_WRITE_BACK_CACHEABLE;
constexpr EFI_RESOURCE_ATTRIBUTE_TYPE kPersistentAttributes =
    kRamAttributes | EFI_RESOURCE_ATTRIBUTE_PERSISTENT | EFI_RESOURCE_ATTRIBUTE_PERSISTABLE;

/// Pages set aside for each kind, so that the memory map keeps its shape from boot to boot (hibernation needs that).
constexpr EFI_MEMORY_TYPE_INFORMATION kMemoryTypes[] = {{EfiACPIReclaimMemory, 0x20},   {EfiACPIMemoryNVS, 0x10},
                                                        {EfiReservedMemoryType, 0x10},  {EfiRuntimeServicesCode, 0x80},
                                                        {EfiRuntimeServicesData, 0xA0}, {EfiMaxMemoryType, 0}};

/// What SEC needs of the blob.
struct Layout {
  blob::Span<const blob::MemoryRange> memory;
  blob::Span<const blob::MmioRange> gaps;
};

Layout layout_of(const blob::Blob& blob) {
  const Layout layout = {blob.all<blob::MemoryRange>(), blob.all<blob::MmioRange>()};
  if (layout.memory.size() == 0 || layout.gaps.size() < blob::kMmioRangeCount) {
    fail("the configuration blob lacks its memory map or its MMIO ranges");
  }
  return {layout.memory, {layout.gaps.begin(), blob::kMmioRangeCount}};
}

UINT8 physical_address_bits() {
  constexpr UINT8 kLeast = 36;  // of processors that do not say
  UINT32 maximum_leaf = 0;
  AsmCpuid(CPUID_EXTENDED_FUNCTION, &maximum_leaf, nullptr, nullptr, nullptr);
  if (maximum_leaf < CPUID_VIR_PHY_ADDRESS_SIZE) return kLeast;
  CPUID_VIR_PHY_ADDRESS_SIZE_EAX eax = {};
  AsmCpuid(CPUID_VIR_PHY_ADDRESS_SIZE, &eax.Uint32, nullptr, nullptr, nullptr);
  return static_cast<UINT8>(eax.Bits.PhysicalAddressBits);
}

/// Where SEC's region goes: the top of the highest RAM range below 4 GiB, not below `lowest`.
EFI_PHYSICAL_ADDRESS pick_region(const Layout& layout, EFI_PHYSICAL_ADDRESS lowest) {
  EFI_PHYSICAL_ADDRESS best = 0;
  for (const blob::MemoryRange& range : layout.memory) {
    const EFI_PHYSICAL_ADDRESS end = range.end() & ~UINT64{EFI_PAGE_MASK};
    const bool fits = range.is_ram() && end <= SIZE_4GB && end >= MAX(range.base, lowest) + kRegionBytes;
    if (fits && end > best) best = end;
  }
  if (best == 0) fail("the memory map has no %ld MiB of RAM below 4 GiB; give the machine more memory", kRegionBytes / SIZE_1MB);
  return best - kRegionBytes;
}

void add_memory(HobList& hobs, const blob::MemoryRange& range) {
  if (range.length == 0) return;
  if (range.is_reserved()) {
    hobs.add_resource(EFI_RESOURCE_MEMORY_RESERVED, kRamAttributes, range.base, range.length);
  } else {
    hobs.add_resource(EFI_RESOURCE_SYSTEM_MEMORY, range.is_persistent() ? kPersistentAttributes : kRamAttributes, range.base, range.length);
  }
}

/// Memory and gaps as resources. Returns the end of the highest of them.
EFI_PHYSICAL_ADDRESS add_resources(HobList& hobs, const Layout& layout) {
  EFI_PHYSICAL_ADDRESS top = SIZE_4GB;
  for (const blob::MemoryRange& range : layout.memory) {
    add_memory(hobs, range);
    if (range.length != 0) top = MAX(top, range.end());
  }
  for (const blob::MmioRange& gap : layout.gaps) {
    if (gap.pages == 0) continue;
    hobs.add_resource(EFI_RESOURCE_MEMORY_MAPPED_IO, kMmioAttributes, gap.base(), gap.length());
    top = MAX(top, gap.end());
  }
  return top;
}

/// What lies in memory already.
void add_what_is_used(HobList& hobs, EFI_PHYSICAL_ADDRESS free_start) {
  hobs.add_allocation(kLegacyAreaBase, kLegacyAreaEnd - kLegacyAreaBase, EfiReservedMemoryType);
  hobs.add_allocation(kImageBase, free_start - kImageBase, EfiBootServicesData);
  hobs.add_data(gEfiMemoryTypeInformationGuid, kMemoryTypes);
  hobs.add_volume(kMainVolumeBase, kMainVolumeBytes);
}

[[noreturn]] void enter_dxe(HobList& hobs) {
  void* const entry = load_dxe_core(hobs, *reinterpret_cast<const EFI_FIRMWARE_VOLUME_HEADER*>(kMainVolumeBase));
  UINT8* const stack = hobs.take_pages(EFI_SIZE_TO_PAGES(kDxeStackBytes));
  hobs.add_allocation(reinterpret_cast<UINTN>(stack), kDxeStackBytes, EfiBootServicesData, &gEfiHobMemoryAllocStackGuid);
  SecSwitchStack(entry, hobs.head(), stack + kDxeStackBytes);
  fail("the DXE core returned");
}

}  // namespace

void stop(CHAR8* text, UINTN length) {
  helper::write(helper::Selector::kDebugString, static_cast<UINT32>(reinterpret_cast<UINTN>(text)));
  text[length] = '\r';
  text[length + 1] = '\n';
  SerialPortInitialize();
  SerialPortWrite(reinterpret_cast<UINT8*>(text), length + 2);
  for (;;) CpuSleep();
}

}  // namespace bygone::sec

void EFIAPI SecMain(UINT8* blob, EFI_PHYSICAL_ADDRESS free_start) {
  using namespace bygone;
  using namespace bygone::sec;
  InitializeFloatingPointUnits();
  const blob::Blob told(blob);
  const Layout layout = layout_of(told);
  const UINT8 address_bits = physical_address_bits();
  if (!told.flags().are_mtrrs_set()) set_memory_types(layout.gaps, address_bits);
  helper::write(helper::Selector::kBootFinalize, address_bits);

  const EFI_PHYSICAL_ADDRESS region = pick_region(layout, free_start + SIZE_1MB);
  HobList hobs(region, region + kRegionBytes);
  hobs.add_processor(address_bits);
  const EFI_PHYSICAL_ADDRESS top = add_resources(hobs, layout);
  add_what_is_used(hobs, free_start);
  build_page_tables(hobs, top);
  enter_dxe(hobs);
}
