#include "cpu/translator/jit/runtime.h"

#include "cpu/translator/jit/assembler_words.h"
#include "cpu/translator/jit/cache.h"
#include "cpu/translator/jit/string_operation.h"
#include "cpu/translator/mmu.h"
#include "cpu/translator/registers.h"

namespace bygone::cpu::translator::jit {
namespace {

std::uint32_t low_word(VcpuBlock& block, Word which) { return static_cast<std::uint32_t>(own_word(block, which)); }
Cache& cache_of(VcpuBlock& block) { return *pointer_in<Cache>(block, Word::kCache); }
std::uint8_t* bounce_of(VcpuBlock& block) { return pointer_in<std::uint8_t>(block, Word::kBounce); }

const void* leave(VcpuBlock& block, std::uint64_t rip, std::uint32_t thunk) {
  block.rip = rip;
  return cache_of(block).pc(thunk);
}

/// Goes on at the access itself, with the operand at `host`.
const void* resume_access(VcpuBlock& block, const Site& site, std::uint8_t* host) {
  Cache& cache = cache_of(block);
  own_word(block, Word::kTemporary) = reinterpret_cast<std::uint64_t>(host);
  own_word(block, Word::kAddress) = 0;
  own_word(block, Word::kResume) = reinterpret_cast<std::uint64_t>(cache.pc(site.access));
  return cache.pc(cache.thunks().resume);
}

/// What the TLB knows now, the access's page slot may know as well.
void fill_page_slot(VcpuBlock& block, const Site& site, std::uint64_t address, std::uint8_t* host) {
  if (site.slot == kNoPageSlot) return;
  const TlbEntry& entry = block.tlb.contexts[block.tlb_context].entries[tlb_index(address)];
  const std::uint64_t page = address & ~std::uint64_t{0xFFF};
  if ((site.write ? entry.write_tag : entry.read_tag) == page) cache_of(block).fill_page_slot(site.slot, page, host - (address & 0xFFF));
}

/// A load that crosses a page: both pieces are put side by side. Stores and locked operations are the interpreter's.
const void* fill_across_pages(VcpuBlock& block, const Site& site, std::uint64_t address) {
  const Thunks& thunks = cache_of(block).thunks();
  if (site.write || site.masked) return leave(block, site.rip, thunks.leave_interpret);
  std::uint8_t* bounce = bounce_of(block) + (address & 63);  // as aligned as the guest's: misaligned vectors fault
  const std::uint32_t first = 4096 - static_cast<std::uint32_t>(address & 0xFFF);
  const MmuResult low = mmu::lookup(block, address, Access::kRead, block.tlb_context);
  if (low.status != MmuStatus::kRam) return leave(block, site.rip, thunks.leave_interpret);
  for (std::uint32_t i = 0; i < first; ++i) bounce[i] = __atomic_load_n(low.host + i, __ATOMIC_RELAXED);
  const MmuResult high = mmu::lookup(block, address + first, Access::kRead, block.tlb_context);
  if (high.status != MmuStatus::kRam) return leave(block, site.rip, thunks.leave_interpret);
  for (std::uint32_t i = first; i < site.size; ++i) bounce[i] = __atomic_load_n(high.host + (i - first), __ATOMIC_RELAXED);
  ++cache_of(block).statistics().bounced;
  return resume_access(block, site, bounce);
}

}  // namespace

const void* runtime_fill(VcpuBlock* vcpu, std::uint64_t address) {
  VcpuBlock& block = *vcpu;
  Cache& cache = cache_of(block);
  const Site& site = cache.site(low_word(block, Word::kSite));
  ++cache.statistics().fills;
  if ((address & 0xFFF) + site.size > 4096) return fill_across_pages(block, site, address);
  const MmuResult place = mmu::lookup(block, address, site.write ? Access::kWrite : Access::kRead, block.tlb_context);
  switch (place.status) {
    case MmuStatus::kRam:
      fill_page_slot(block, site, address, place.host);
      return resume_access(block, site, place.host);
    case MmuStatus::kFault:
      // An address that is not canonical is #SS for a stack reference, which the interpreter tells from others.
      return leave(block, site.rip, site.masked || block.fault.vector == vector::kGp ? cache.thunks().leave_interpret : cache.thunks().leave_fault);
    case MmuStatus::kMmio:
    case MmuStatus::kCode: break;
  }
  return leave(block, site.rip, cache.thunks().leave_interpret);
}

const void* runtime_give_up_slot(VcpuBlock* vcpu, std::uint64_t address) {
  VcpuBlock& block = *vcpu;
  cache_of(block).give_up_slot({low_word(block, Word::kSlotTest), low_word(block, Word::kNoSlot), low_word(block, Word::kFillJump)});
  return runtime_fill(vcpu, address);
}

const void* runtime_link(VcpuBlock* vcpu, std::uint64_t /*unused*/) {
  VcpuBlock& block = *vcpu;
  Cache& cache = cache_of(block);
  Link& link = cache.link_at(low_word(block, Word::kLink));
  const Block* target = cache.find(block, link.target, link.mode);
  if (target == nullptr) return leave(block, link.target, cache.thunks().leave_lookup);
  cache.link(link, *target);
  return cache.pc(target->entry);
}

const void* runtime_find(VcpuBlock* vcpu, std::uint64_t target) {
  VcpuBlock& block = *vcpu;
  Cache& cache = cache_of(block);
  const Block* found = cache.find(block, target, ModeKey{low_word(block, Word::kMode)});
  if (found == nullptr) return leave(block, target, cache.thunks().leave_lookup);
  cache.set_jump(*found);
  return cache.pc(found->entry);
}

namespace {

void copy_elements(std::uint8_t* to, const std::uint8_t* from, std::uint64_t count, unsigned shift) {
  switch (shift) {
    case 0: asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); break;
    case 1: asm volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); break;
    case 2: asm volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); break;
    default: asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); break;
  }
}

void fill_elements(std::uint8_t* to, std::uint64_t value, std::uint64_t count, unsigned shift) {
  switch (shift) {
    case 0: asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory"); break;
    case 1: asm volatile("rep stosw" : "+D"(to), "+c"(count) : "a"(value) : "memory"); break;
    case 2: asm volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(value) : "memory"); break;
    default: asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory"); break;
  }
}

std::uint64_t elements_in_page(std::uint64_t address, unsigned shift) { return (4096 - (address & 0xFFF)) >> shift; }

}  // namespace

const void* runtime_string(VcpuBlock* vcpu, std::uint64_t /*unused*/) {
  VcpuBlock& block = *vcpu;
  Cache& cache = cache_of(block);
  const Site& site = cache.site(low_word(block, Word::kSite));
  const StringOperation operation = StringOperation::unpack(site.access);
  const Thunks& thunks = cache.thunks();
  constexpr std::uint64_t kDirectionFlag = 1U << 10;
  if ((block.rflags & kDirectionFlag) != 0) return leave(block, site.rip, thunks.leave_interpret);
  const std::uint64_t mask = operation.is_32 ? 0xFFFF'FFFF : ~std::uint64_t{0};
  std::uint64_t& rcx = block.gpr[1];
  std::uint64_t& rsi = block.gpr[6];
  std::uint64_t& rdi = block.gpr[7];
  std::uint64_t left = operation.repeat ? rcx & mask : 1;
  while (left != 0) {
    const std::uint64_t to = rdi & mask;
    const std::uint64_t from = rsi & mask;
    std::uint64_t count = left;
    if (count > elements_in_page(to, operation.shift)) count = elements_in_page(to, operation.shift);
    if (operation.is_move && count > elements_in_page(from, operation.shift)) count = elements_in_page(from, operation.shift);
    if (count == 0) return leave(block, site.rip, thunks.leave_interpret);  // an element across pages
    MmuResult source;
    if (operation.is_move) {
      source = mmu::lookup(block, from, Access::kRead, block.tlb_context);
      if (source.status == MmuStatus::kFault) return leave(block, site.rip, thunks.leave_fault);
      if (source.status != MmuStatus::kRam) return leave(block, site.rip, thunks.leave_interpret);
    }
    const MmuResult target = mmu::lookup(block, to, Access::kWrite, block.tlb_context);
    if (target.status == MmuStatus::kFault) return leave(block, site.rip, thunks.leave_fault);
    if (target.status != MmuStatus::kRam) return leave(block, site.rip, thunks.leave_interpret);
    if (operation.is_move) copy_elements(target.host, source.host, count, operation.shift);
    else fill_elements(target.host, block.gpr[0], count, operation.shift);
    const std::uint64_t bytes = count << operation.shift;
    rdi = (to + bytes) & mask;
    if (operation.is_move) rsi = (from + bytes) & mask;
    left -= count;
    if (operation.repeat) rcx = left;
    if (left != 0 && block.attention.load(std::memory_order_relaxed) != 0) return leave(block, site.rip, thunks.leave_attention);
  }
  return pointer_in<const void>(block, Word::kResume);
}

}  // namespace bygone::cpu::translator::jit
