#include "cpu/entry_state.h"

#include <array>
#include <vector>

#include "cpu/cpuid.h"
#include "cpu/reset_state.h"

namespace bygone::cpu {
namespace {

constexpr std::uint64_t kTableEntry = 0x3;        // present, writable; SDM volume 3, table 4-15
constexpr std::uint64_t kLargePageEntry = 0x83;   // and PS: a 2 MiB page
constexpr std::uint64_t kLargePage = 2ULL << 20;
constexpr std::size_t kEntries = 512;
constexpr std::size_t kDirectories = 4;  // one a GiB

// CR0 PE|MP|ET|NE (|PG), CR4 MCE|OSFXSR|OSXMMEXCPT (|PAE), EFER LME|LMA|NXE: SDM volume 3, 2.5 and 2.2.1.
constexpr std::uint64_t kCr0Protected = 0x33;
constexpr std::uint64_t kCr0Paging = 1ULL << 31;
constexpr std::uint64_t kCr4Base = 0x640;
constexpr std::uint64_t kCr4Pae = 0x20;
constexpr std::uint64_t kEferLong = 0xD00;

constexpr std::uint32_t kFlatCode = 0xB | 1U << 4 | kSegmentPresent | 1U << 15;
constexpr std::uint32_t kFlatData = 0x3 | 1U << 4 | kSegmentPresent | kSegmentDefaultBig | 1U << 15;
constexpr std::uint32_t kFlatLimit = 0xFFFFFFFF;

// A flat descriptor with these attributes: base 0, limit 0xFFFFF pages.
constexpr std::uint64_t descriptor(std::uint32_t attributes) {
  return 0x000F00000000FFFF | static_cast<std::uint64_t>(attributes) << 40;
}

Result<SystemRegisters> flat(memory::GuestMemory& memory, memory::Gpa descriptors, std::uint16_t selector, std::uint32_t code) {
  std::vector<std::uint64_t> table(selector / sizeof(std::uint64_t));
  table.push_back(descriptor(code));
  table.push_back(descriptor(kFlatData));
  const std::span<const std::byte> bytes = std::as_bytes(std::span(table));
  BYGONE_CHECK(memory.write(descriptors, bytes));
  SystemRegisters registers = reset_state(VpIndex{0}, CpuidTable{}).system;
  const auto data = static_cast<std::uint16_t>(selector + sizeof(std::uint64_t));
  for (Segment& segment : registers.segments) segment = {0, kFlatLimit, data, kFlatData};
  registers.segments[static_cast<std::size_t>(SegmentName::kCs)] = {0, kFlatLimit, selector, code};
  registers.gdt = {descriptors.value, static_cast<std::uint16_t>(bytes.size() - 1)};
  registers.idt = {0, 0};
  registers.cr0 = kCr0Protected;
  registers.cr4 = kCr4Base;
  return registers;
}

}  // namespace

Result<SystemRegisters> prepare_long_mode(memory::GuestMemory& memory, memory::Gpa page_tables,
                                          memory::Gpa descriptors, std::uint16_t code) {
  std::array<std::uint64_t, kEntries> table = {};
  const memory::Gpa pointers = page_tables + memory::kPageSize;
  const memory::Gpa directories = pointers + memory::kPageSize;
  table[0] = pointers.value | kTableEntry;
  BYGONE_CHECK(memory.write_object(page_tables, table));
  for (std::size_t i = 0; i < kDirectories; ++i) table[i] = (directories.value + i * memory::kPageSize) | kTableEntry;
  BYGONE_CHECK(memory.write_object(pointers, table));
  for (std::size_t i = 0; i < kDirectories; ++i) {
    for (std::size_t j = 0; j < kEntries; ++j) table[j] = (i * kEntries + j) * kLargePage | kLargePageEntry;
    BYGONE_CHECK(memory.write_object(directories + i * memory::kPageSize, table));
  }
  BYGONE_ASSIGN(SystemRegisters registers, flat(memory, descriptors, code, kFlatCode | kSegmentLong));
  registers.cr0 |= kCr0Paging;
  registers.cr3 = page_tables.value;
  registers.cr4 |= kCr4Pae;
  registers.efer = kEferLong;
  return registers;
}

Result<SystemRegisters> prepare_protected_mode(memory::GuestMemory& memory, memory::Gpa descriptors) {
  return flat(memory, descriptors, kEntryCode, kFlatCode | kSegmentDefaultBig);
}

SystemRegisters prepare_real_mode(std::uint16_t segment) {
  SystemRegisters registers = reset_state(VpIndex{0}, CpuidTable{}).system;
  for (Segment& each : registers.segments) {
    each.selector = segment;
    each.base = std::uint64_t{segment} << 4;
  }
  return registers;
}

}  // namespace bygone::cpu
