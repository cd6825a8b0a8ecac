#include "firmware/entry_state.h"

#include <vector>

namespace bygone::firmware {
namespace {

// Intel SDM volume 3, 4.5: present, writable, accessed, dirty, page size.
constexpr std::uint64_t kTable = 0x3, kLargePage = 0xE3;
constexpr std::uint64_t kLargePageBytes = 2ULL << 20;
// Intel SDM volume 3, 3.4.5: accessed code (L, G) and data (D/B, G), ring 0.
constexpr std::uint64_t kCode64 = 0x00AF9B000000FFFFULL, kData = 0x00CF93000000FFFFULL;

cpu::Segment flat_segment(unsigned index, std::uint32_t attributes) {
  cpu::Segment segment;
  segment.selector = static_cast<std::uint16_t>(index * 8);
  segment.limit = 0xFFFFFFFF;
  segment.attributes = attributes;
  return segment;
}

}  // namespace

Result<void> write_identity_page_tables(memory::GuestMemory& memory, memory::Gpa at) {
  std::vector<std::uint64_t> tables(6 * 512);
  tables[0] = (at.value + memory::kPageSize) | kTable;
  for (std::size_t gigabyte = 0; gigabyte < 4; ++gigabyte) {
    tables[512 + gigabyte] = (at.value + (2 + gigabyte) * memory::kPageSize) | kTable;
  }
  for (std::size_t i = 0; i < 4 * 512; ++i) tables[1024 + i] = i * kLargePageBytes | kLargePage;
  return memory.write(at, std::as_bytes(std::span(tables)));
}

Result<void> write_flat_gdt(memory::GuestMemory& memory, memory::Gpa at, unsigned code_index) {
  std::vector<std::uint64_t> gdt(code_index + 2);
  gdt[code_index] = kCode64;
  gdt[code_index + 1] = kData;
  return memory.write(at, std::as_bytes(std::span(gdt)));
}

EntryState long_mode_entry(memory::Gpa page_tables, memory::Gpa gdt, unsigned code_index) {
  EntryState entry;
  cpu::SystemRegisters& system = entry.system;
  const cpu::Segment code = flat_segment(code_index, 0xA09B);
  const cpu::Segment data = flat_segment(code_index + 1, 0xC093);
  for (cpu::Segment& segment : system.segments) segment = data;
  system.segments[static_cast<std::size_t>(cpu::SegmentName::kCs)] = code;
  system.task.attributes = 0x8B;  // a busy 64-bit TSS, as VM entry demands
  system.task.limit = 0xFFFF;
  system.local_descriptor_table.attributes = 0x82;
  system.local_descriptor_table.limit = 0xFFFF;
  system.gdt = {gdt.value, static_cast<std::uint16_t>((code_index + 2) * 8 - 1)};
  system.cr0 = 0x80000033;
  system.cr3 = page_tables.value;
  system.cr4 = 0x660;
  system.efer = 0xD00;
  system.apic_base = 0xFEE00900;  // enabled, boot processor
  entry.general.rflags = 2;
  return entry;
}

}  // namespace bygone::firmware
