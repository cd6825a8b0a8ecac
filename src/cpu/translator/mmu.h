// Address translation: page walks (32-bit, PAE, 4-level; NX, SMEP, SMAP, WP, A/D bits) and the software TLB.
//
// This file's functions are compiled with general registers only, so translated code may call them with guest vector and x87
// state still in hardware; they need no more than the C ABI's care for general registers and flags.
// They never raise: a failure leaves block.fault filled for the caller to deliver once the block's registers are home.
//
// Threading: the vCPU's thread, except where said.
#pragma once

#include <cstdint>

#include "cpu/translator/state.h"

namespace bygone::cpu::translator {

enum class MmuStatus : std::uint8_t {
  kRam,    ///< `host` is the place of the byte at `linear`
  kFault,  ///< block.fault holds the #PF or #GP
  kMmio,   ///< not RAM: `physical` is the guest physical address
  kCode,   ///< a write to RAM in a page that holds translated code: write to `host`, then call CodePages::wrote
};

struct MmuResult {
  MmuStatus status = MmuStatus::kFault;
  std::uint8_t* host = nullptr;
  std::uint64_t physical = 0;
};

/// Told about TLB changes, so that caches derived from it (the translator's per-site slots and jump caches) follow.
/// Called with general registers only, on the vCPU's thread; implementations must be compiled likewise.
class TlbListener {
 public:
  virtual ~TlbListener() = default;
  /// Everything, or everything not global; `keeps_high`: the latter, and all code in the upper half of the address space is global.
  virtual void tlb_flushed(VcpuBlock& block, bool keeps_high) = 0;
  virtual void tlb_page_flushed(VcpuBlock& block, std::uint64_t linear) = 0;   ///< one page, or the large page around it
  virtual void tlb_writes_flushed(VcpuBlock& block) = 0;                       ///< all write permissions
};

namespace mmu {

/// Looks `linear` up in `context`'s table and walks the page tables when it misses; fills the entry. No page crossing: the
/// caller splits. Sets A, and D for writes. For kExecute the byte's page must be executable at the block's CPL.
[[nodiscard]] MmuResult lookup(VcpuBlock& block, std::uint64_t linear, Access access, std::uint32_t context);

/// The walk alone: no TLB, no A/D updates, supervisor rights. False when unmapped. For debuggers and hypercalls.
[[nodiscard]] bool translate_for_debugger(VcpuBlock& block, std::uint64_t linear, std::uint64_t& physical);

/// Everything, of all address spaces.
void flush_all(VcpuBlock& block);
/// What is not global, of the present address space.
void flush_non_global(VcpuBlock& block);
void flush_page(VcpuBlock& block, std::uint64_t linear);
/// CR3 was given another PCID: sets `from`'s entries aside, and puts `to`'s back (`keeps`) or forgets them.
void change_address_space(VcpuBlock& block, std::uint16_t from, std::uint16_t to, bool keeps);
/// Forgets what is set aside of one address space, which is not the present one, or of all.
void forget_address_space(VcpuBlock& block, std::uint16_t pcid);
void forget_other_address_spaces(VcpuBlock& block);
/// Drops every write tag: pages that became code since must go the slow way.
void flush_writes(VcpuBlock& block);

/// Recomputes block.mode, tlb_context and cpl-derived fields from the segments, CR0, CR4, EFER, RFLAGS and debug state.
/// Call after any of them changed (the interpreter does).
void update_mode(VcpuBlock& block);

}  // namespace mmu
}  // namespace bygone::cpu::translator
