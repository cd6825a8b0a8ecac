#include "cpu/translator/lockstep.h"

#include <Zydis/Zydis.h>

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace bygone::cpu::translator {
namespace {

constexpr unsigned kMostSteps = 200;
constexpr unsigned kRcx = 1, kRsi = 6, kRdi = 7;

/// Instructions that learn something from outside of the processor and its RAM.
bool asks_outside(std::uint16_t mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_RDTSC: case ZYDIS_MNEMONIC_RDTSCP: case ZYDIS_MNEMONIC_CPUID: case ZYDIS_MNEMONIC_HLT:
    case ZYDIS_MNEMONIC_RDMSR: case ZYDIS_MNEMONIC_WRMSR: case ZYDIS_MNEMONIC_VMCALL: case ZYDIS_MNEMONIC_VMMCALL:
    case ZYDIS_MNEMONIC_IN: case ZYDIS_MNEMONIC_OUT: case ZYDIS_MNEMONIC_INSB: case ZYDIS_MNEMONIC_INSW: case ZYDIS_MNEMONIC_INSD:
    case ZYDIS_MNEMONIC_OUTSB: case ZYDIS_MNEMONIC_OUTSW: case ZYDIS_MNEMONIC_OUTSD:
      return true;
    default: return false;
  }
}

bool has_equal_place(const VcpuBlock& first, const VcpuBlock& second) { return first.rip == second.rip && first.gpr == second.gpr; }

bool is_equal(const Segment& first, const Segment& second) {
  return first.selector == second.selector && first.base == second.base && first.limit == second.limit && first.attributes == second.attributes;
}

/// What differs beside general registers and arithmetic flags; empty: nothing.
std::string difference(const VcpuBlock& first, const VcpuBlock& second) {
  const std::uint64_t flags = (first.rflags ^ second.rflags) & ~rflags::kStatus & ~rflags::kRf;
  if (flags != 0) return fmt::format("flags {:#x}, interpreted {:#x}", first.rflags, second.rflags);
  if (first.cpl != second.cpl) return fmt::format("ring {}, interpreted {}", first.cpl, second.cpl);
  if (first.cr0 != second.cr0 || first.cr2 != second.cr2 || first.cr3 != second.cr3 || first.cr4 != second.cr4) {
    return fmt::format("control registers {:#x} {:#x} {:#x} {:#x}, interpreted {:#x} {:#x} {:#x} {:#x}", first.cr0, first.cr2, first.cr3, first.cr4,
                       second.cr0, second.cr2, second.cr3, second.cr4);
  }
  for (std::size_t i = 0; i < first.segments.size(); ++i) {
    if (!is_equal(first.segments[i], second.segments[i])) return fmt::format("segment {}", i);
  }
  if (first.msrs.kernel_gs_base != second.msrs.kernel_gs_base) return "the kernel's GS base";
  const VectorState& one = first.vector;
  const VectorState& other = second.vector;
  for (std::size_t i = 0; i < one.zmm.size(); ++i) {
    if (one.zmm[i] != other.zmm[i]) return fmt::format("vector {}", i);
  }
  if (one.opmask != other.opmask) return "opmasks";
  if (one.mxcsr != other.mxcsr) return fmt::format("MXCSR {:#x}, interpreted {:#x}", one.mxcsr, other.mxcsr);
  for (std::size_t i = 0; i < 160; ++i) {
    if ((i >= 5 && i < 32) || (i >= 32 && i % 16 >= 10)) continue;  // places of the last instruction, and padding
    if (one.x87[i] != other.x87[i]) return fmt::format("x87 byte {}", i);
  }
  return {};
}

/// Flags that an exception's frame holds, different only in those that nobody reads before they are overwritten.
bool are_saved_flags(std::uint64_t one, std::uint64_t two) {
  constexpr std::uint64_t kAllFlags = 0x3F'FFFF, kAlwaysSet = 2;
  return ((one ^ two) & ~rflags::kStatus) == 0 && (one & ~kAllFlags) == 0 && (one & kAlwaysSet) != 0;
}

std::string general_difference(const VcpuBlock& first, const VcpuBlock& second) {
  std::string text;
  if (first.rip != second.rip) text = fmt::format("; rip {:#x}, interpreted {:#x}", first.rip, second.rip);
  for (std::size_t i = 0; i < first.gpr.size(); ++i) {
    if (first.gpr[i] != second.gpr[i]) text += fmt::format("; register {} {:#x}, interpreted {:#x}", i, first.gpr[i], second.gpr[i]);
  }
  return text;
}

}  // namespace

Result<std::unique_ptr<Lockstep>> Lockstep::create(memory::GuestMemory& memory, const CpuidTable& cpuid, std::uint64_t wanted, const Log& log) {
  auto made = std::unique_ptr<Lockstep>(new Lockstep(memory, cpuid, wanted, log));
  for (const memory::Slot& slot : memory.slots()) BYGONE_CHECK(made->copy_.add_ram(slot.base, slot.size));
  made->physical_ = std::make_unique<PhysicalMemory>(made->copy_);
  made->pages_ = std::make_unique<CodePages>(made->physical_->ram_pages());
  BYGONE_ASSIGN(auto block, VcpuBlock::create());
  made->second_ = std::make_unique<Core>(
      VpIndex{0}, Shared{made->physical_.get(), made->pages_.get(), &made->cpuid_, nullptr, 1'000'000'000}, std::move(block));
  made->pages_->add_processor(made->second_->block());
  return made;
}

Lockstep::Lockstep(memory::GuestMemory& memory, const CpuidTable& cpuid, std::uint64_t wanted, const Log& log)
    : memory_(memory), cpuid_(cpuid), log_(log), wanted_(wanted) {}

void Lockstep::copy_memory() {
  for (const memory::Slot& slot : memory_.slots()) {
    std::byte* to = copy_.host_span(slot.base, slot.size).data();
    for (std::uint64_t at = 0; at < slot.size; at += memory::kPageSize) {
      if (std::memcmp(to + at, slot.host + at, memory::kPageSize) == 0) continue;
      std::memcpy(to + at, slot.host + at, memory::kPageSize);
      copy_.mark_dirty(slot.base + at, memory::kPageSize);
      (void)pages_->wrote(nullptr, physical_->find(slot.base.value + at).ram_page, 0, 4095);
    }
  }
}

void Lockstep::copy_processor(Core& core) {
  const VcpuBlock& from = core.block();
  VcpuBlock& to = second_->block();
  const bool other_paging = from.cr0 != to.cr0 || from.cr3 != to.cr3 || from.cr4 != to.cr4 || from.efer != to.efer;
  to.gpr = from.gpr;
  to.rip = from.rip;
  to.rflags = from.rflags;
  to.interrupt_shadow = from.interrupt_shadow;
  to.interrupt_held = 0;
  to.segments = from.segments;
  to.task = from.task;
  to.ldt = from.ldt;
  to.gdt = from.gdt;
  to.idt = from.idt;
  to.cr0 = from.cr0;
  to.cr2 = from.cr2;
  to.cr3 = from.cr3;
  to.cr4 = from.cr4;
  to.efer = from.efer;
  to.xcr0 = from.xcr0;
  to.tsc_offset = from.tsc_offset;
  to.cpl = from.cpl;
  to.nmi_masked = from.nmi_masked;
  to.activity = static_cast<std::uint8_t>(ActivityState::kRunning);
  to.debug = from.debug;
  to.msrs = from.msrs;
  to.vector = from.vector;
  to.attention = 0;
  if (other_paging) mmu::flush_all(to);
  mmu::update_mode(to);
  second_->forget_fetch();
}

void Lockstep::entered(Core& core) {
  if (!has_memory_) {
    copy_memory();
    mmu::flush_all(second_->block());
    has_memory_ = true;
  }
  copy_processor(core);
  start_ = core.block().rip;
}

void Lockstep::host_wrote(memory::Gpa address, std::uint64_t length) {
  host_writes_.fetch_add(1);
  if (!has_memory_) return;
  const auto from = memory_.host_span(address, length);
  const auto to = copy_.host_span(address, length);
  if (from.empty() || to.empty()) return;
  std::memcpy(to.data(), from.data(), length);
  for (std::uint64_t page = address.page(); page <= (address + (length - 1)).page(); ++page) {
    (void)pages_->wrote(nullptr, physical_->find(page * memory::kPageSize).ram_page, 0, 4095);
  }
}

bool Lockstep::finish_string(const VcpuBlock& first) {
  VcpuBlock& second = second_->block();
  if (first.rip != second.rip || second.gpr[kRcx] <= first.gpr[kRcx]) return false;
  for (unsigned i = 0; i < 16; ++i) {
    if (i != kRcx && i != kRsi && i != kRdi && first.gpr[i] != second.gpr[i]) return false;
  }
  second.gpr[kRcx] -= first.gpr[kRcx];
  if (second_->step() != StepResult::kDone) return false;
  second.rip = first.rip;
  second.gpr[kRcx] = first.gpr[kRcx];
  second_->forget_fetch();
  return has_equal_place(first, second);
}

void Lockstep::follow(Core& core, unsigned least_steps) {
  const VcpuBlock& first = core.block();
  const VcpuBlock& second = second_->block();
  const bool in_string = least_steps == 0 && first.rip == second.rip && !has_equal_place(first, second);
  if (in_string && finish_string(first)) return;
  std::string nearest;  // what differed when the interpreter first stood at the same instruction
  for (unsigned steps = 0; steps < kMostSteps; ++steps) {
    if (steps >= least_steps && has_equal_place(first, second)) return;
    if (steps >= least_steps && first.rip == second.rip && nearest.empty()) nearest = general_difference(first, second);
    if (least_steps == 0 && first.rip == second.rip && finish_string(first)) return;
    if (second_->step() != StepResult::kDone) break;
    ++instructions_;
  }
  differ(core, fmt::format("the interpreter does not come to where the translation left{}{}{}", nearest.empty() ? "" : ", and was there with", nearest.empty() ? "" : nearest.substr(1),
                           nearest.empty() ? "" : "; later"));
}

void Lockstep::compare(Core& core, const char* after) {
  const VcpuBlock& first = core.block();
  const VcpuBlock& second = second_->block();
  std::string how = has_equal_place(first, second) ? difference(first, second) : "general registers";
  if (!how.empty()) differ(core, fmt::format("{} after {}", how, after));
  host_writes_seen_ = host_writes_.load();
}

/// A host write may reach the two RAMs with an instruction between them: then both start equal again, and it is counted.
void Lockstep::differ(Core& core, const std::string& how) {
  if (!divergence_.empty()) return;
  if (host_writes_.load() != host_writes_seen_) {
    ++raced_;
    copy_memory();
    copy_processor(core);
    mmu::flush_all(second_->block());
    host_writes_seen_ = host_writes_.load();
    return;
  }
  divergence_ = fmt::format("lockstep: {}, block at {:#x}, after {} instructions{}", how, start_, instructions_,
                            general_difference(core.block(), second_->block()));
  for (std::size_t i = 0; i < history_.size(); ++i) {
    const Note& at = history_[(noted_ + i) % history_.size()];
    divergence_ += fmt::format("\n  {} {:#x}: flags {:#x}, interpreted {:#x}", at.what, at.start, at.first_flags, at.second_flags);
  }
  log_.error("{}", divergence_);
}

void Lockstep::note(char what, Core& core) {
  history_[noted_++ % history_.size()] = {what, start_, core.block().rflags, second_->block().rflags};
}

void Lockstep::ran_block(Core& core, bool whole) {
  ++blocks_;
  follow(core, whole ? 1 : 0);
  compare(core, "a translation");
  note(whole ? 'b' : 'p', core);
  start_ = core.block().rip;
  if (instructions_ >= wanted_ && !is_done_ && divergence_.empty()) {
    is_done_ = true;
    compare_memory();
  }
}

void Lockstep::will_fault(Core& core) {
  VcpuBlock& second = second_->block();
  second.rflags = (second.rflags & ~rflags::kStatus) | (core.block().rflags & rflags::kStatus);
}

void Lockstep::interpreted(Core& core, bool was_answered) {
  ++instructions_;
  note('i', core);
  start_ = core.block().rip;
  if (was_answered || asks_outside(core.last_mnemonic())) {
    ++copied_;
    copy_processor(core);
    return;
  }
  if (core.block().rip == second_->block().rip && finish_string(core.block())) {  // the first one was interrupted on the way
    compare(core, "a part of a string instruction");
    return;
  }
  if (second_->step() != StepResult::kDone) {  // it asks the machine for something, as the first one did
    second_->abandon_exit();
    ++copied_;
    copy_processor(core);
    return;
  }
  compare(core, "an interpreted instruction");
}

void Lockstep::will_deliver(Core& core) {
  follow(core, 0);
  will_fault(core);
}

void Lockstep::deliver(Core& core, Core::EventKind kind, std::uint8_t vector) {
  ++events_;
  note('e', core);
  second_->take_event(kind, vector);
  second_->block().nmi_masked = core.block().nmi_masked;
  compare(core, "an interrupt");
  start_ = core.block().rip;
}

void Lockstep::exit_faulted(Core& core) {
  copy_processor(core);
  second_->block().fault = core.block().fault;
  second_->deliver_fault();
}

void Lockstep::compare_memory() {
  constexpr std::uint64_t kAccessedOrDirty = 0x60;  // of a page table's entry
  std::uint64_t different = 0;
  std::uint64_t first_difference = 0;
  std::uint64_t saved_flags = 0;
  for (const memory::Slot& slot : memory_.slots()) {
    const std::byte* other = copy_.host_span(slot.base, slot.size).data();
    for (std::uint64_t at = 0; at < slot.size; at += memory::kPageSize) {
      if (std::memcmp(other + at, slot.host + at, memory::kPageSize) == 0) continue;
      for (std::uint64_t word = 0; word < memory::kPageSize; word += 8) {
        std::uint64_t one = 0;
        std::uint64_t two = 0;
        std::memcpy(&one, slot.host + at + word, 8);
        std::memcpy(&two, other + at + word, 8);
        if (((one ^ two) & ~kAccessedOrDirty) == 0) continue;
        if (are_saved_flags(one, two)) {
          ++saved_flags;
          continue;
        }
        if (different++ == 0) first_difference = slot.base.value + at + word;
      }
    }
  }
  if (different != 0) {
    divergence_ = fmt::format("lockstep: {} words of memory differ, the first at {:#x}, after {} instructions", different, first_difference, instructions_);
    log_.error("{}", divergence_);
    return;
  }
  log_.info("lockstep: {} instructions in {} translations and {} interrupts agree, and so does memory; {} instructions asked the machine, {} times the host wrote meanwhile, {} times an exception saved flags that nobody reads",
            instructions_, blocks_, events_, copied_, raced_, saved_flags);
}

}  // namespace bygone::cpu::translator
