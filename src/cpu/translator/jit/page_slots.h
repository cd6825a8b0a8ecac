// What translated code and the shared code behind it do with the TLB and page slots, r10 being the address and r11 scratch.
//
// Threading: one vCPU's thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/translator/jit/assembler.h"
#include "cpu/translator/jit/cache.h"

namespace bygone::cpu::translator::jit {

/// Displacement of a context's tags for reads or writes from the address bits that index the TLB.
[[nodiscard]] std::uint32_t tag_of(std::uint32_t tlb_address, std::uint32_t context, bool write);
/// Displacement of the host page from there, for the tag at `tag`.
[[nodiscard]] inline std::size_t host_of(std::uint32_t tag) { return (tag & ~31U) + offsetof(TlbEntry, host); }

/// r11 = index of the address in r10, r10 = its distance from the page that the entry maps. Returns the displacement of the jump that is
/// taken when `size` bytes there are not that page's. Destroys native flags.
[[nodiscard]] std::uint32_t emit_tlb_probe(Assembler& code, std::uint32_t tag, unsigned size);

/// After a probe that hit: the slot holds the entry's page, and r11 is its host page.
void emit_slot_fill(Assembler& code, const Cache& cache, std::uint32_t slot, std::uint32_t tag);

/// For every slot that is not a loop's the code that fills it; appended at `offset` of the code memory. Where each begins goes to `places`.
/// Called with r10 = address less the slot's page, r11 = host address to go on at, Word::kSite = the access.
[[nodiscard]] Result<std::uint32_t> emit_slot_thunks(const Cache& cache, std::uint32_t offset, std::uint32_t* places);

}  // namespace bygone::cpu::translator::jit
