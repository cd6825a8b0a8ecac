// Segment registers, descriptor tables and far control transfers (Intel SDM volume 3, chapters 3 and 5).
#include "cpu/translator/core.h"

namespace bygone::cpu::translator {
namespace {

constexpr unsigned kTypeTssAvailable16 = 1, kTypeLdt = 2, kTypeTssBusy16 = 3, kTypeCallGate16 = 4, kTypeTaskGate = 5, kTypeTssAvailable = 9;
constexpr unsigned kTypeCallGate = 12;
constexpr std::uint32_t kRealData = 0x93 | kSegmentPresent;

std::uint32_t selector_error(std::uint16_t selector) { return selector & 0xFFFCU; }
bool is_null(std::uint16_t selector) { return (selector & 0xFFFC) == 0; }
unsigned rpl(std::uint16_t selector) { return selector & 3U; }

Segment from_descriptor(std::uint16_t selector, const Core::Descriptor& descriptor) {
  return {descriptor.base, descriptor.limit, selector, descriptor.attributes};
}

}  // namespace

bool Core::try_read_descriptor(std::uint16_t selector, Descriptor& descriptor) {
  std::uint64_t base = block_->gdt.base;
  std::uint32_t limit = block_->gdt.limit;
  if ((selector & 4) != 0) {
    if ((block_->ldt.attributes & kSegmentUnusable) != 0) return false;
    base = block_->ldt.base;
    limit = block_->ldt.limit;
  }
  const std::uint32_t index = selector & 0xFFF8U;
  if (index + 7 > limit) return false;
  const std::uint64_t raw = read_system<std::uint64_t>(base + index);
  descriptor.raw = raw;
  descriptor.table_address = base + index;
  descriptor.base = ((raw >> 16) & 0xFF'FFFF) | ((raw >> 32) & 0xFF00'0000);
  descriptor.attributes = static_cast<std::uint32_t>(raw >> 40) & 0xF0FF;
  descriptor.limit = static_cast<std::uint32_t>((raw & 0xFFFF) | ((raw >> 32) & 0xF'0000));
  if ((descriptor.attributes & 0x8000) != 0) descriptor.limit = (descriptor.limit << 12) | 0xFFF;
  if (in_long_mode() && descriptor.is_system()) {
    if (index + 15 > limit) return false;
    descriptor.high = read_system<std::uint32_t>(base + index + 8);
  }
  return true;
}

Core::Descriptor Core::read_descriptor(std::uint16_t selector, std::uint8_t vector) {
  Descriptor descriptor;
  if (!try_read_descriptor(selector, descriptor)) raise(vector, selector_error(selector));
  return descriptor;
}

void Core::mark_accessed(const Descriptor& descriptor) {
  if (descriptor.is_system() || (descriptor.attributes & 1) != 0) return;
  const auto byte = static_cast<std::uint8_t>(descriptor.raw >> 40);
  write_system<std::uint8_t>(descriptor.table_address + 5, byte | 1);
}

void Core::set_cpl(unsigned cpl) {
  block_->cpl = static_cast<std::uint8_t>(cpl);
  mmu::update_mode(*block_);
}

void Core::load_segment(SegmentName which, std::uint16_t selector) {
  Segment& place = segment(which);
  if (is_real() || is_virtual_8086()) {
    place.selector = selector;
    place.base = std::uint64_t{selector} << 4;
    if (is_virtual_8086()) {
      place.limit = 0xFFFF;
      place.attributes = 0xF3;
    } else if ((place.attributes & kSegmentUnusable) != 0) {
      place.limit = 0xFFFF;
      place.attributes = kRealData;
    }
    mmu::update_mode(*block_);
    return;
  }
  if (which == SegmentName::kSs) {
    load_stack_segment(selector, block_->cpl, vector::kGp);
    return;
  }
  if (is_null(selector)) {
    place = {0, 0, selector, kSegmentUnusable};
    mmu::update_mode(*block_);
    return;
  }
  Descriptor descriptor = read_descriptor(selector);
  const bool readable = !descriptor.is_system() && (!descriptor.is_code() || (descriptor.attributes & 2) != 0);
  const bool needs_privilege = !descriptor.is_code() || !descriptor.conforming();
  if (!readable || (needs_privilege && (rpl(selector) > descriptor.dpl() || block_->cpl > descriptor.dpl()))) {
    raise_gp(selector_error(selector));
  }
  if (!descriptor.present()) raise(vector::kNp, selector_error(selector));
  mark_accessed(descriptor);
  descriptor.attributes |= 1;
  place = from_descriptor(selector, descriptor);
  mmu::update_mode(*block_);
}

void Core::load_stack_segment(std::uint16_t selector, unsigned cpl, std::uint8_t vector) {
  Segment& place = segment(SegmentName::kSs);
  if (is_null(selector)) {
    // A null SS is fine for 64-bit code that is not the user's.
    const bool target_is_64 = in_long_mode() && (segment(SegmentName::kCs).attributes & kSegmentLong) != 0;
    if (!target_is_64 || cpl == 3 || rpl(selector) != cpl) raise(vector, 0);
    place = {0, 0xFFFF'FFFF, selector, kSegmentUnusable | (cpl << 5)};
    mmu::update_mode(*block_);
    return;
  }
  Descriptor descriptor = read_descriptor(selector, vector);
  if (rpl(selector) != cpl || !descriptor.writable_data() || descriptor.dpl() != cpl) raise(vector, selector_error(selector));
  if (!descriptor.present()) raise(vector::kSs, selector_error(selector));
  mark_accessed(descriptor);
  descriptor.attributes |= 1;
  place = from_descriptor(selector, descriptor);
  mmu::update_mode(*block_);
}

void Core::load_code_segment(std::uint16_t selector, const Descriptor& descriptor, unsigned cpl) {
  mark_accessed(descriptor);
  Segment& place = segment(SegmentName::kCs);
  place = from_descriptor(static_cast<std::uint16_t>((selector & 0xFFFC) | cpl), descriptor);
  place.attributes |= 1;
  set_cpl(cpl);
}

void Core::load_task(std::uint16_t selector) {
  if (is_null(selector) || (selector & 4) != 0) raise_gp(selector_error(selector));
  const Descriptor descriptor = read_descriptor(selector);
  const unsigned type = descriptor.type();
  if (!descriptor.is_system() || (type != kTypeTssAvailable && (type != kTypeTssAvailable16 || in_long_mode()))) {
    raise_gp(selector_error(selector));
  }
  if (!descriptor.present()) raise(vector::kNp, selector_error(selector));
  write_system<std::uint8_t>(descriptor.table_address + 5, static_cast<std::uint8_t>((descriptor.raw >> 40) | 2));
  block_->task = from_descriptor(selector, descriptor);
  block_->task.attributes |= 2;
  if (in_long_mode()) block_->task.base |= std::uint64_t{descriptor.high} << 32;
}

void Core::load_local_descriptor_table(std::uint16_t selector) {
  if (is_null(selector)) {
    block_->ldt = {0, 0, selector, kSegmentUnusable};
    return;
  }
  if ((selector & 4) != 0) raise_gp(selector_error(selector));
  const Descriptor descriptor = read_descriptor(selector);
  if (!descriptor.is_system() || descriptor.type() != kTypeLdt) raise_gp(selector_error(selector));
  if (!descriptor.present()) raise(vector::kNp, selector_error(selector));
  block_->ldt = from_descriptor(selector, descriptor);
  if (in_long_mode()) block_->ldt.base |= std::uint64_t{descriptor.high} << 32;
}

void Core::task_stack(unsigned cpl, std::uint16_t& selector, std::uint64_t& pointer) {
  const Segment& task = block_->task;
  const bool is_16 = (task.attributes & 0xF) == kTypeTssBusy16 || (task.attributes & 0xF) == kTypeTssAvailable16;
  const std::uint32_t where = is_16 ? 2 + 4 * cpl : 4 + 8 * cpl;
  if ((task.attributes & kSegmentUnusable) != 0 || where + (is_16 ? 3 : 5) > task.limit) {
    raise(vector::kTs, selector_error(task.selector));
  }
  if (is_16) {
    pointer = read_system<std::uint16_t>(task.base + where);
    selector = read_system<std::uint16_t>(task.base + where + 2);
  } else {
    pointer = read_system<std::uint32_t>(task.base + where);
    selector = read_system<std::uint16_t>(task.base + where + 4);
  }
}

void Core::far_jump(std::uint16_t selector, std::uint64_t offset, std::uint8_t operand_size, bool is_call) {
  const std::uint16_t old_selector = segment(SegmentName::kCs).selector;
  const std::uint64_t return_rip = next_rip_;
  if (is_real() || is_virtual_8086()) {
    if (is_call) {
      const std::uint64_t old_rsp = block_->gpr[4];
      push(old_selector, operand_size);
      try {
        push(return_rip, operand_size);
      } catch (...) {
        block_->gpr[4] = old_rsp;
        throw;
      }
    }
    Segment& code = segment(SegmentName::kCs);
    code.selector = selector;
    code.base = std::uint64_t{selector} << 4;
    next_rip_ = offset & (operand_size == 2 ? 0xFFFF : 0xFFFF'FFFF);
    mmu::update_mode(*block_);
    return;
  }
  if (is_null(selector)) raise_gp();
  Descriptor descriptor = read_descriptor(selector);
  if (!descriptor.is_system()) {
    if (!descriptor.is_code()) raise_gp(selector_error(selector));
    const bool reachable = descriptor.conforming() ? descriptor.dpl() <= block_->cpl
                                                   : rpl(selector) <= block_->cpl && descriptor.dpl() == block_->cpl;
    if (!reachable) raise_gp(selector_error(selector));
    if (!descriptor.present()) raise(vector::kNp, selector_error(selector));
    const bool long_code = in_long_mode() && (descriptor.attributes & kSegmentLong) != 0;
    if (long_code && (descriptor.attributes & kSegmentDefaultBig) != 0) raise_gp(selector_error(selector));
    if (operand_size == 2) offset &= 0xFFFF;
    if (operand_size == 4) offset &= 0xFFFF'FFFF;
    if (!long_code && offset > descriptor.limit) raise_gp();
    if (is_call) {
      probe_write(linear_address(2, (block_->gpr[4] - 2ULL * operand_size) & stack_mask(), 2U * operand_size, Access::kWrite),
                  2U * operand_size, block_->tlb_context);
      push(old_selector, operand_size);
      push(return_rip, operand_size);
    }
    load_code_segment(selector, descriptor, block_->cpl);
    next_rip_ = offset;
    return;
  }
  const unsigned type = descriptor.type();
  if (!in_long_mode() && (type == kTypeTaskGate || type == kTypeTssAvailable || type == kTypeTssAvailable16)) {
    const TaskSwitch kind = is_call ? TaskSwitch::kCall : TaskSwitch::kJump;
    if (type == kTypeTaskGate) {
      enter_task_gate(descriptor, selector, kind);
    } else {
      if (descriptor.dpl() < block_->cpl || descriptor.dpl() < rpl(selector)) raise_gp(selector_error(selector));
      switch_task(selector, kind, return_rip, std::nullopt, 0);
    }
    return;
  }
  // A call gate (SDM volume 3, 5.8.3).
  if (type != kTypeCallGate && (type != kTypeCallGate16 || in_long_mode())) raise_gp(selector_error(selector));
  if (descriptor.dpl() < block_->cpl || descriptor.dpl() < rpl(selector)) raise_gp(selector_error(selector));
  if (!descriptor.present()) raise(vector::kNp, selector_error(selector));
  const std::uint8_t gate_size = in_long_mode() ? 8 : type == kTypeCallGate ? 4 : 2;
  const auto target_selector = static_cast<std::uint16_t>(descriptor.raw >> 16);
  std::uint64_t target = (descriptor.raw & 0xFFFF) | (gate_size == 2 ? 0 : (descriptor.raw >> 32) & 0xFFFF'0000);
  if (gate_size == 8) target |= std::uint64_t{descriptor.high} << 32;
  const unsigned parameters = gate_size == 8 ? 0 : (descriptor.raw >> 32) & 0x1F;
  if (is_null(target_selector)) raise_gp();
  const Descriptor code = read_descriptor(target_selector);
  if (!code.is_code() || code.dpl() > block_->cpl) raise_gp(selector_error(target_selector));
  if (!code.present()) raise(vector::kNp, selector_error(target_selector));
  const bool changes_level = is_call && !code.conforming() && code.dpl() < block_->cpl;
  if (!is_call && !code.conforming() && code.dpl() != block_->cpl) raise_gp(selector_error(target_selector));
  if (!changes_level) {
    if (is_call) {
      push(old_selector, gate_size);
      push(return_rip, gate_size);
    }
    load_code_segment(target_selector, code, code.conforming() ? block_->cpl : code.dpl());
    next_rip_ = target;
    return;
  }
  const unsigned cpl = code.dpl();
  const std::uint16_t old_ss = segment(SegmentName::kSs).selector;
  const std::uint64_t old_rsp = block_->gpr[4];
  std::array<std::uint64_t, 32> copied = {};
  for (unsigned i = 0; i < parameters; ++i) copied[i] = peek(std::uint64_t{gate_size} * i, gate_size);
  if (in_long_mode()) {
    const std::uint64_t stack = read_system<std::uint64_t>(block_->task.base + 4 + 8ULL * cpl);
    load_code_segment(target_selector, code, cpl);
    segment(SegmentName::kSs) = {0, 0xFFFF'FFFF, static_cast<std::uint16_t>(cpl), kSegmentUnusable};
    block_->gpr[4] = stack;
  } else {
    std::uint16_t stack_selector = 0;
    std::uint64_t stack = 0;
    task_stack(cpl, stack_selector, stack);
    load_stack_segment(stack_selector, cpl, vector::kTs);
    load_code_segment(target_selector, code, cpl);
    set_stack_pointer(stack);
  }
  push(old_ss, gate_size);
  push(old_rsp, gate_size);
  for (unsigned i = parameters; i > 0; --i) push(copied[i - 1], gate_size);
  push(old_selector, gate_size);
  push(return_rip, gate_size);
  next_rip_ = target;
}

void Core::far_return(std::uint8_t operand_size, std::uint16_t release) {
  const std::uint64_t target = peek(0, operand_size);
  const auto selector = static_cast<std::uint16_t>(peek(operand_size, operand_size));
  if (is_real() || is_virtual_8086()) {
    set_stack_pointer(block_->gpr[4] + 2ULL * operand_size + release);
    Segment& code = segment(SegmentName::kCs);
    code.selector = selector;
    code.base = std::uint64_t{selector} << 4;
    next_rip_ = target;
    mmu::update_mode(*block_);
    return;
  }
  if (is_null(selector)) raise_gp();
  const Descriptor descriptor = read_descriptor(selector);
  const unsigned level = rpl(selector);
  if (!descriptor.is_code() || level < block_->cpl) raise_gp(selector_error(selector));
  if (descriptor.conforming() ? descriptor.dpl() > level : descriptor.dpl() != level) raise_gp(selector_error(selector));
  if (!descriptor.present()) raise(vector::kNp, selector_error(selector));
  if (level == block_->cpl) {
    set_stack_pointer(block_->gpr[4] + 2ULL * operand_size + release);
    load_code_segment(selector, descriptor, level);
    next_rip_ = target;
    return;
  }
  const std::uint64_t stack = peek(2U * operand_size + release, operand_size);
  const auto stack_selector = static_cast<std::uint16_t>(peek(3U * operand_size + release, operand_size));
  const Segment old_code = segment(SegmentName::kCs);
  const unsigned old_cpl = block_->cpl;
  load_code_segment(selector, descriptor, level);
  try {
    load_stack_segment(stack_selector, level, vector::kGp);
  } catch (...) {
    segment(SegmentName::kCs) = old_code;
    set_cpl(old_cpl);
    throw;
  }
  set_stack_pointer(stack + release);
  next_rip_ = target;
  for (const SegmentName name : {SegmentName::kEs, SegmentName::kDs, SegmentName::kFs, SegmentName::kGs}) {
    Segment& place = segment(name);
    const bool conforming_code = (place.attributes & 0xC) == 0xC;
    if ((place.attributes & kSegmentUnusable) == 0 && ((place.attributes >> 5) & 3) < level && !conforming_code) {
      place = {place.base, 0, 0, kSegmentUnusable};
    }
  }
  mmu::update_mode(*block_);
}

}  // namespace bygone::cpu::translator
