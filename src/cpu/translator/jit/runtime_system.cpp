// Changes of ring that are too frequent for the interpreter: SYSCALL, SYSRET and IRETQ between flat 64-bit segments, STAC and CLAC. Anything
// else about them leaves to the interpreter before anything has changed. Compiled with general registers only (runtime.h).
#include "cpu/translator/jit/assembler_words.h"
#include "cpu/translator/jit/cache.h"
#include "cpu/translator/jit/runtime.h"
#include "cpu/translator/jit/system_operation.h"
#include "cpu/translator/mmu.h"
#include "cpu/translator/registers.h"

namespace bygone::cpu::translator::jit {
namespace {

constexpr std::uint32_t kCode64 = 0xA09B, kData = 0xC093;

Cache& cache_of(VcpuBlock& block) { return *pointer_in<Cache>(block, Word::kCache); }

std::uint64_t arithmetic_flags(VcpuBlock& block) {
  const std::uint64_t flags = own_word(block, Word::kFlags);
  return (flags >> 8 & kArithmeticFlags & 0xFF) | (flags & 1) << 11;
}

bool is_canonical(std::uint64_t linear) {
  const auto top = static_cast<std::int64_t>(linear) >> 47;
  return top == 0 || top == -1;
}

void set_flat(Segment& segment, std::uint64_t selector, std::uint32_t attributes, std::uint32_t dpl) {
  segment.base = 0;
  segment.limit = 0xFFFF'FFFF;
  segment.selector = static_cast<std::uint16_t>(selector);
  segment.attributes = attributes | dpl << 5;
}

Segment& segment_of(VcpuBlock& block, SegmentName name) { return block.segments[static_cast<std::size_t>(name)]; }

/// Sets the flags, takes over the new ring's mode and goes on at `rip` there.
const void* go_on(VcpuBlock& block, std::uint64_t rip, std::uint64_t flags, std::uint8_t cpl) {
  Cache& cache = cache_of(block);
  block.rflags = flags | rflags::kFixed;
  own_word(block, Word::kFlags) = (flags & 0xFF) << 8 | (flags >> 11 & 1);
  block.cpl = cpl;
  block.rip = rip;
  mmu::update_mode(block);
  if (!can_translate(block) || !cache.is_linked()) return cache.pc(cache.thunks().leave_lookup);
  const ModeKey mode = mode_key_of(block);
  own_word(block, Word::kMode) = mode.value;
  cache.use_mode(mode);
  const Block* target = cache.find(block, rip, mode);
  return cache.pc(target == nullptr ? cache.thunks().leave_lookup : target->entry);
}

bool enables_held_interrupt(const VcpuBlock& block, std::uint64_t flags) {
  return block.interrupt_held != 0 && (flags & rflags::kIf) != 0;
}

const void* system_call(VcpuBlock& block, const Site& site) {
  if ((block.efer & efer::kSce) == 0 || (block.rflags & rflags::kTf) != 0) return nullptr;
  const std::uint64_t flags = (block.rflags & ~std::uint64_t{kArithmeticFlags}) | arithmetic_flags(block);
  block.gpr[1] = site.rip + site.tag;
  block.gpr[11] = flags & ~rflags::kRf;
  const std::uint64_t selector = (block.msrs.star >> 32) & 0xFFFC;
  set_flat(segment_of(block, SegmentName::kCs), selector, kCode64, 0);
  set_flat(segment_of(block, SegmentName::kSs), selector + 8, kData, 0);
  return go_on(block, block.msrs.lstar, flags & ~block.msrs.sfmask & ~rflags::kRf, 0);
}

const void* system_return(VcpuBlock& block) {
  constexpr std::uint64_t kRestored = 0x3C'7FD7;
  const std::uint64_t flags = block.gpr[11] & kRestored;
  const std::uint64_t target = block.gpr[1];
  if ((block.efer & efer::kSce) == 0 || !is_canonical(target) || (flags & rflags::kTf) != 0) return nullptr;
  if (enables_held_interrupt(block, flags)) return nullptr;
  const std::uint64_t selector = block.msrs.star >> 48;
  set_flat(segment_of(block, SegmentName::kCs), (selector + 16) | 3, kCode64, 3);
  set_flat(segment_of(block, SegmentName::kSs), (selector + 8) | 3, kData, 3);
  return go_on(block, target, flags, 3);
}

/// The descriptor a selector names, when the table holds it in plain RAM.
bool read_descriptor(VcpuBlock& block, std::uint64_t selector, std::uint64_t& descriptor) {
  if ((selector & 4) != 0 || (selector & 0xFFF8) == 0 || (selector | 7) > block.gdt.limit) return false;
  const std::uint64_t at = block.gdt.base + (selector & 0xFFF8);
  if ((at & 0xFFF) > 0xFF8) return false;
  const MmuResult place = mmu::lookup(block, at, Access::kRead, kTlbSupervisor);
  if (place.status != MmuStatus::kRam) return false;
  descriptor = __atomic_load_n(reinterpret_cast<const std::uint64_t*>(place.host), __ATOMIC_RELAXED);
  return true;
}

/// A return to ring 3 voids data segments of inner rings that are still loaded.
bool has_inner_segment(VcpuBlock& block) {
  for (const SegmentName name : {SegmentName::kEs, SegmentName::kDs, SegmentName::kFs, SegmentName::kGs}) {
    const std::uint32_t attributes = segment_of(block, name).attributes;
    if ((attributes & kSegmentUnusable) == 0 && (attributes >> 5 & 3) < 3) return true;
  }
  return false;
}

/// To 64-bit code of ring 0 or 3 with a flat accessed stack segment: what kernels do all the time.
const void* interrupt_return(VcpuBlock& block) {
  const std::uint64_t stack = block.gpr[4];
  if ((stack & 0xFFF) > 4096 - 40 || (stack & 7) != 0 || (block.rflags & rflags::kNt) != 0 || block.nmi_masked != 0) return nullptr;
  const MmuResult place = mmu::lookup(block, stack, Access::kRead, block.tlb_context);
  if (place.status != MmuStatus::kRam) return nullptr;
  const auto* frame = reinterpret_cast<const std::uint64_t*>(place.host);
  const std::uint64_t rip = frame[0], cs = frame[1] & 0xFFFF, flags = frame[2], rsp = frame[3], ss = frame[4] & 0xFFFF;
  // Arithmetic, IF, DF, AC, ID; and RF, which every return from a fault sets: it holds off breakpoints, and where there are any, all code
  // is the interpreter's.
  constexpr std::uint64_t kSimple = 0x0004'0ED5 | rflags::kId | rflags::kRf;
  constexpr std::uint64_t kMask = 0x3F'7FD5;
  if ((flags & kMask & ~(kSimple | (block.rflags & rflags::kIopl))) != 0) return nullptr;
  if ((flags & rflags::kIopl) != (block.rflags & rflags::kIopl) || !is_canonical(rip)) return nullptr;
  const auto cpl = static_cast<std::uint8_t>(cs & 3);
  if ((cpl != 0 && cpl != 3) || enables_held_interrupt(block, flags)) return nullptr;
  Segment code = segment_of(block, SegmentName::kCs);
  Segment data = segment_of(block, SegmentName::kSs);
  if (cpl == 3) {
    std::uint64_t code_descriptor = 0;
    std::uint64_t data_descriptor = 0;
    if ((ss & 3) != 3 || has_inner_segment(block) || !read_descriptor(block, cs, code_descriptor) || !read_descriptor(block, ss, data_descriptor)) return nullptr;
    // Accessed, present, DPL 3: non-conforming readable 64-bit code; writable expand-up data with base 0 and limit 4 GiB.
    if ((code_descriptor & 0x0060'FF00'0000'0000) != 0x0020'FB00'0000'0000) return nullptr;
    if ((data_descriptor & 0xFFCF'FFFF'FFFF'FFFF) != 0x00CF'F300'0000'FFFF) return nullptr;
    set_flat(code, cs, kCode64, 3);
    set_flat(data, ss, kData, 3);
  } else if (cs != code.selector || ss != data.selector) {
    return nullptr;
  }
  segment_of(block, SegmentName::kCs) = code;
  segment_of(block, SegmentName::kSs) = data;
  block.gpr[4] = rsp;
  return go_on(block, rip, flags & (kSimple | rflags::kIopl) & ~rflags::kRf, cpl);
}

/// STAC and CLAC: the same ring, other rights to user pages.
const void* change_access_check(VcpuBlock& block, const Site& site, bool set) {
  const std::uint64_t flags = (block.rflags & ~std::uint64_t{kArithmeticFlags | rflags::kAc}) | arithmetic_flags(block);
  return go_on(block, site.rip + site.tag, flags | (set ? rflags::kAc : 0), 0);
}

}  // namespace

const void* runtime_system(VcpuBlock* vcpu, std::uint64_t /*unused*/) {
  VcpuBlock& block = *vcpu;
  const Site& site = cache_of(block).site(static_cast<std::uint32_t>(own_word(block, Word::kSite)));
  const void* next = nullptr;
  switch (static_cast<SystemOperation>(site.access)) {
    case SystemOperation::kSystemCall: next = system_call(block, site); break;
    case SystemOperation::kSystemReturn: next = system_return(block); break;
    case SystemOperation::kInterruptReturn: next = interrupt_return(block); break;
    case SystemOperation::kSetAccessCheck: next = change_access_check(block, site, true); break;
    case SystemOperation::kClearAccessCheck: next = change_access_check(block, site, false); break;
  }
  if (next != nullptr) return next;
  block.rip = site.rip;
  return cache_of(block).pc(cache_of(block).thunks().leave_interpret);
}

}  // namespace bygone::cpu::translator::jit
