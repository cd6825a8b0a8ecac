// 64-bit mode as loaders hand it over: identity page tables, a flat GDT, and the register values that go with them.
#pragma once

#include "cpu/state.h"
#include "memory/guest_memory.h"
#include "support/result.h"

namespace bygone::firmware {

/// The registers that the boot processor starts with.
struct EntryState {
  cpu::GeneralRegisters general;
  cpu::SystemRegisters system;
};

/// Six pages at `at`: PML4, PDPT and four page directories that map the first 4 GiB onto themselves in 2 MiB pages.
inline constexpr std::uint64_t kIdentityPageTableBytes = 6 * memory::kPageSize;
[[nodiscard]] Result<void> write_identity_page_tables(memory::GuestMemory& memory, memory::Gpa at);

/// A GDT of `code_index` + 2 entries: null ones, 64-bit code at `code_index`, data after it.
[[nodiscard]] Result<void> write_flat_gdt(memory::GuestMemory& memory, memory::Gpa at, unsigned code_index);

/// CR0 PG|NE|MP|ET|PE, CR4 PAE|MCE|FXSR|XMMEXCPT, EFER LME|LMA|NXE, flat segments from that GDT, interrupts off.
[[nodiscard]] EntryState long_mode_entry(memory::Gpa page_tables, memory::Gpa gdt, unsigned code_index);

}  // namespace bygone::firmware
