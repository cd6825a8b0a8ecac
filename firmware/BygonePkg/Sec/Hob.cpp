// The HOB list, see Sec.h.
// SPDX-License-Identifier: Apache-2.0
#include "Sec.h"

extern "C" {
#include <Guid/MemoryAllocationHob.h>
}

namespace bygone::sec {

HobList::HobList(EFI_PHYSICAL_ADDRESS base, EFI_PHYSICAL_ADDRESS top) : table_(*reinterpret_cast<EFI_HOB_HANDOFF_INFO_TABLE*>(base)) {
  ZeroMem(&table_, sizeof table_);
  table_.Header.HobType = EFI_HOB_TYPE_HANDOFF;
  table_.Header.HobLength = sizeof table_;
  table_.Version = EFI_HOB_HANDOFF_TABLE_VERSION;
  table_.BootMode = BOOT_WITH_FULL_CONFIGURATION;
  table_.EfiMemoryBottom = base;
  table_.EfiMemoryTop = top;
  table_.EfiFreeMemoryTop = top;
  put_end(base + sizeof table_);
}

void HobList::put_end(EFI_PHYSICAL_ADDRESS address) {
  auto& end = *reinterpret_cast<EFI_HOB_GENERIC_HEADER*>(address);
  end = {EFI_HOB_TYPE_END_OF_HOB_LIST, sizeof end, 0};
  table_.EfiEndOfHobList = address;
  table_.EfiFreeMemoryBottom = address + sizeof end;
}

void* HobList::append(UINT16 type, UINTN bytes) {
  bytes = ALIGN_VALUE(bytes, 8);
  if (bytes > MAX_UINT16 || table_.EfiFreeMemoryBottom + bytes > table_.EfiFreeMemoryTop) fail("out of memory for the HOB list");
  auto* const hob = reinterpret_cast<EFI_HOB_GENERIC_HEADER*>(table_.EfiEndOfHobList);
  ZeroMem(hob, bytes);
  hob->HobType = type;
  hob->HobLength = static_cast<UINT16>(bytes);
  put_end(table_.EfiEndOfHobList + bytes);
  return hob;
}

UINT8* HobList::take_pages(UINTN count) {
  const UINT64 room = table_.EfiFreeMemoryTop - table_.EfiFreeMemoryBottom;
  if (count > EFI_SIZE_TO_PAGES(MAX_INT64) || EFI_PAGES_TO_SIZE(count) > room) fail("out of memory for %ld pages", count);
  table_.EfiFreeMemoryTop -= EFI_PAGES_TO_SIZE(count);
  auto* const pages = reinterpret_cast<UINT8*>(table_.EfiFreeMemoryTop);
  ZeroMem(pages, EFI_PAGES_TO_SIZE(count));
  return pages;
}

void HobList::add_resource(EFI_RESOURCE_TYPE type, EFI_RESOURCE_ATTRIBUTE_TYPE attributes, EFI_PHYSICAL_ADDRESS base, UINT64 length) {
  auto& hob = add<EFI_HOB_RESOURCE_DESCRIPTOR>(EFI_HOB_TYPE_RESOURCE_DESCRIPTOR);
  hob.ResourceType = type;
  hob.ResourceAttribute = attributes;
  hob.PhysicalStart = base;
  hob.ResourceLength = length;
}

void HobList::add_allocation(EFI_PHYSICAL_ADDRESS base, UINT64 length, EFI_MEMORY_TYPE type, const EFI_GUID* name) {
  auto& allocation = add<EFI_HOB_MEMORY_ALLOCATION>(EFI_HOB_TYPE_MEMORY_ALLOCATION).AllocDescriptor;
  allocation.MemoryBaseAddress = base;
  allocation.MemoryLength = length;
  allocation.MemoryType = type;
  if (name != nullptr) allocation.Name = *name;
}

void HobList::add_volume(EFI_PHYSICAL_ADDRESS base, UINT64 length) {
  auto& hob = add<EFI_HOB_FIRMWARE_VOLUME>(EFI_HOB_TYPE_FV);
  hob.BaseAddress = base;
  hob.Length = length;
}

void HobList::add_processor(UINT8 address_bits) {
  auto& hob = add<EFI_HOB_CPU>(EFI_HOB_TYPE_CPU);
  hob.SizeOfMemorySpace = address_bits;
  hob.SizeOfIoSpace = 16;
}

void HobList::add_core(const EFI_GUID& file_name, EFI_PHYSICAL_ADDRESS base, UINT64 length, EFI_PHYSICAL_ADDRESS entry_point) {
  auto& hob = add<EFI_HOB_MEMORY_ALLOCATION_MODULE>(EFI_HOB_TYPE_MEMORY_ALLOCATION);
  hob.MemoryAllocationHeader.Name = gEfiHobMemoryAllocModuleGuid;
  hob.MemoryAllocationHeader.MemoryBaseAddress = base;
  hob.MemoryAllocationHeader.MemoryLength = length;
  hob.MemoryAllocationHeader.MemoryType = EfiBootServicesCode;
  hob.ModuleName = file_name;
  hob.EntryPoint = entry_point;
}

}  // namespace bygone::sec
