// What the TLB tells the translator. Compiled with general registers only: mmu.h calls it.
#include "cpu/translator/jit/tier.h"

namespace bygone::cpu::translator::jit {

void Tier::tlb_flushed(VcpuBlock& block, bool keeps_high) {
  cache_->clear_page_slots();
  cache_->forget_unmapped(block, keeps_high);
}

void Tier::tlb_page_flushed(VcpuBlock& /*block*/, std::uint64_t linear) {
  cache_->clear_page_slots();
  cache_->forget_page(linear & ~std::uint64_t{0xFFF});
}

void Tier::tlb_writes_flushed(VcpuBlock& /*block*/) { cache_->clear_page_slots(); }

}  // namespace bygone::cpu::translator::jit
