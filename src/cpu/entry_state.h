// Processor states in which code is started without a reset: what a loader, a probe and the test guests hand over.
// Threading: plain functions.
#pragma once

#include "cpu/state.h"
#include "memory/guest_memory.h"
#include "support/result.h"

namespace bygone::cpu {

/// Selectors of ring 0 in the table that the functions below write, where they are not told another place.
inline constexpr std::uint16_t kEntryCode = 0x08;
inline constexpr std::uint16_t kEntryData = 0x10;
inline constexpr std::uint64_t kEntryPageTableBytes = 6 * memory::kPageSize;

/// 64-bit mode, paging on, interrupts off. Writes an identity map of the first 4 GiB in 2 MiB pages to `page_tables` (six
/// pages) and a descriptor table to `descriptors`: null ones, code with the selector `code` (a multiple of 8 from 8 on), data
/// after it. CR0 PG|NE|MP|ET|PE, CR4 PAE|MCE|OSFXSR|OSXMMEXCPT, EFER LME|LMA|NXE, a busy task register as VM entry demands; the
/// APIC base is that of reset for processor 0. Errors: kOutOfRange when those are not RAM.
[[nodiscard]] Result<SystemRegisters> prepare_long_mode(memory::GuestMemory& memory, memory::Gpa page_tables,
                                                        memory::Gpa descriptors, std::uint16_t code = kEntryCode);

/// 32-bit protected mode with flat segments, paging off. Writes only `descriptors`.
[[nodiscard]] Result<SystemRegisters> prepare_protected_mode(memory::GuestMemory& memory, memory::Gpa descriptors);

/// Real mode with CS, DS, ES and SS at `segment`.
[[nodiscard]] SystemRegisters prepare_real_mode(std::uint16_t segment);

}  // namespace bygone::cpu
