// Processor states in which code is started without a reset: what a loader, a probe and the test guests hand over.
// Threading: plain functions.
#pragma once

#include "cpu/state.h"
#include "memory/guest_memory.h"
#include "support/result.h"

namespace bygone::cpu {

inline constexpr std::uint16_t kEntryCode = 0x08;  ///< selector of ring 0 code in the table that the functions below write
inline constexpr std::uint16_t kEntryData = 0x10;
inline constexpr std::uint64_t kEntryPageTableBytes = 6 * memory::kPageSize;

/// 64-bit mode, paging on, interrupts off. Writes an identity map of the first 4 GiB in 2 MiB pages to `page_tables` (six
/// pages) and a descriptor table to `descriptors` (24 bytes). The APIC base is that of reset for processor 0.
/// Errors: kOutOfRange when those are not RAM.
[[nodiscard]] Result<SystemRegisters> prepare_long_mode(memory::GuestMemory& memory, memory::Gpa page_tables,
                                                        memory::Gpa descriptors);

/// 32-bit protected mode with flat segments, paging off. Writes only `descriptors`.
[[nodiscard]] Result<SystemRegisters> prepare_protected_mode(memory::GuestMemory& memory, memory::Gpa descriptors);

/// Real mode with CS, DS, ES and SS at `segment`.
[[nodiscard]] SystemRegisters prepare_real_mode(std::uint16_t segment);

}  // namespace bygone::cpu
