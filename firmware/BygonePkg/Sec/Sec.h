// SEC's parts: messages, memory types, memory hand-out and HOB list, page tables, DXE core loading. One processor, no interrupts, no heap.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <BygoneBlob.h>

extern "C" {
#include <PiPei.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/PrintLib.h>
}

namespace bygone::sec {

/// Sends the text, with room for two characters more behind it, to COM1 and the helper's debug string, and stops the processor.
[[noreturn]] void stop(CHAR8* text, UINTN length);

/// Says why there is no start. `format`: PrintLib's, its arguments 64-bit numbers.
template <typename... Numbers>
[[noreturn]] void fail(const CHAR8* format, Numbers... numbers) {
  CHAR8 text[160];
  UINTN length = AsciiSPrint(text, sizeof text, "Bygone firmware: ");
  length += AsciiSPrint(text + length, sizeof text - length - 2, format, UINT64{numbers}...);
  stop(text, length);
}

/// The HOB list (PI 1.7 volume 3) in one region of memory that nobody else uses: HOBs grow from its bottom, pages are handed out from its
/// top, and the DXE core takes what remains between the two.
class HobList {
 public:
  HobList(EFI_PHYSICAL_ADDRESS base, EFI_PHYSICAL_ADDRESS top);
  HobList(const HobList&) = delete;
  HobList& operator=(const HobList&) = delete;

  /// The list's head, for the DXE core.
  void* head() const { return &table_; }
  /// Whole zeroed pages from the top of the region. The caller records what they are for.
  UINT8* take_pages(UINTN count);

  void add_resource(EFI_RESOURCE_TYPE type, EFI_RESOURCE_ATTRIBUTE_TYPE attributes, EFI_PHYSICAL_ADDRESS base, UINT64 length);
  /// `name` may be null.
  void add_allocation(EFI_PHYSICAL_ADDRESS base, UINT64 length, EFI_MEMORY_TYPE type, const EFI_GUID* name = nullptr);
  void add_volume(EFI_PHYSICAL_ADDRESS base, UINT64 length);
  void add_processor(UINT8 address_bits);
  template <typename T>
  void add_data(const EFI_GUID& name, const T& data) {
    auto& hob = add<EFI_HOB_GUID_TYPE>(EFI_HOB_TYPE_GUID_EXTENSION, sizeof data);
    hob.Name = name;
    CopyMem(&hob + 1, &data, sizeof data);
  }
  /// The DXE core's module record.
  void add_core(const EFI_GUID& file_name, EFI_PHYSICAL_ADDRESS base, UINT64 length, EFI_PHYSICAL_ADDRESS entry_point);

 private:
  void* append(UINT16 type, UINTN bytes);
  /// Zeros behind its header, with so many bytes more.
  template <typename T>
  T& add(UINT16 type, UINTN more = 0) {
    return *static_cast<T*>(append(type, sizeof(T) + more));
  }
  void put_end(EFI_PHYSICAL_ADDRESS address);

  EFI_HOB_HANDOFF_INFO_TABLE& table_;
};

/// Memory write back, the gaps uncached (Mtrr.cpp).
void set_memory_types(blob::Span<const blob::MmioRange> gaps, UINT8 address_bits);

/// Identity-maps everything below `end`, and switches to that map (Paging.cpp).
void build_page_tables(HobList& hobs, EFI_PHYSICAL_ADDRESS end);

/// Loads the DXE core from the volume into fresh pages, and returns its entry point (DxeCore.cpp).
void* load_dxe_core(HobList& hobs, const EFI_FIRMWARE_VOLUME_HEADER& volume);

}  // namespace bygone::sec

extern "C" {

/// SecEntry.nasm.
void EFIAPI SecSwitchStack(void* entry_point, void* hob_list, void* new_stack_top);

/// Called by SecEntry.nasm. `blob`: the configuration blob; `free_start`: the first byte behind it, where SEC's stack begins.
void EFIAPI SecMain(UINT8* blob, EFI_PHYSICAL_ADDRESS free_start);
}
