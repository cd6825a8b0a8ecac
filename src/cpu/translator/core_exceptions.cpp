// Interrupts and exceptions: delivery through the IDT, double and triple faults, IRET (Intel SDM volume 3, chapter 6).
#include "cpu/translator/core.h"

namespace bygone::cpu::translator {
namespace {

constexpr std::uint32_t kExternal = 1;
constexpr std::uint32_t kInIdt = 2;

std::uint32_t idt_error(std::uint8_t vector, Core::EventKind kind) {
  return vector * 8U + kInIdt + (kind == Core::EventKind::kSoftware ? 0 : kExternal);
}

bool is_contributory(std::uint8_t vector) {
  return vector == vector::kDe || (vector >= vector::kTs && vector <= vector::kGp);
}

/// Faults push RF so that an instruction breakpoint does not hit again on return.
bool pushes_resume_flag(Core::EventKind kind, std::uint8_t vector) {
  return kind == Core::EventKind::kException && vector != vector::kDb && vector != vector::kBp && vector != vector::kOf &&
         vector != vector::kDf;
}

}  // namespace

void Core::deliver_fault() {
  commit_accesses();
  block_->interrupt_shadow = 0;
  FaultInfo first = block_->fault;
  for (;;) {
    if (first.vector == vector::kPf) block_->cr2 = first.address;
    try {
      deliver_event(EventKind::kException, first.vector, first.has_error_code, first.error_code, block_->rip);
      return;
    } catch (const GuestFault&) {
      const FaultInfo second = block_->fault;
      if (first.vector == vector::kDf) {
        shut_down();
        return;
      }
      const bool second_counts = is_contributory(second.vector);
      const bool second_is_page_fault = second.vector == vector::kPf;
      const bool doubles = (is_contributory(first.vector) && second_counts) ||
                           (first.vector == vector::kPf && (second_counts || second_is_page_fault));
      if (second_is_page_fault) block_->cr2 = second.address;
      first = doubles ? FaultInfo{vector::kDf, true, 0, 0} : second;
    } catch (const ExitPending&) {
      shut_down();
      return;
    }
  }
}

void Core::software_interrupt(std::uint8_t vector, bool is_int_n) {
  if (is_virtual_8086() && is_int_n && (block_->rflags & rflags::kIopl) != rflags::kIopl) raise_gp();
  deliver_event(EventKind::kSoftware, vector, false, 0, next_rip_);
  next_rip_ = block_->rip;
}

void Core::deliver_event(EventKind kind, std::uint8_t vector, bool has_error_code, std::uint32_t error_code, std::uint64_t rip) {
  constexpr std::uint64_t kGeneralDetect = 1U << 13;  // of DR7: the handler may look at the debug registers
  if (kind == EventKind::kException && vector == vector::kDb) block_->debug.dr7 &= ~kGeneralDetect;
  if (in_long_mode()) {
    deliver_event_long(kind, vector, has_error_code, error_code, rip);
  } else if (is_protected()) {
    deliver_event_protected(kind, vector, has_error_code, error_code, rip);
  } else {
    deliver_event_real(vector, rip);
  }
  forget_fetch();
}

void Core::deliver_event_real(std::uint8_t vector, std::uint64_t rip) {
  if (vector * 4U + 3 > block_->idt.limit) raise_gp();
  const std::uint64_t entry = block_->idt.base + vector * 4ULL;
  const std::uint16_t offset = read_system<std::uint16_t>(entry);
  const std::uint16_t selector = read_system<std::uint16_t>(entry + 2);
  push(block_->rflags & 0xFFFF, 2);
  push(segment(SegmentName::kCs).selector, 2);
  push(rip & 0xFFFF, 2);
  block_->rflags &= ~(rflags::kIf | rflags::kTf | rflags::kAc | rflags::kRf);
  Segment& code = segment(SegmentName::kCs);
  code.selector = selector;
  code.base = std::uint64_t{selector} << 4;
  block_->rip = offset;
  mmu::update_mode(*block_);
}

void Core::deliver_event_long(EventKind kind, std::uint8_t vector, bool has_error_code, std::uint32_t error_code,
                              std::uint64_t rip) {
  if (vector * 16U + 15 > block_->idt.limit) raise_gp(idt_error(vector, kind));
  const std::uint64_t low = read_system<std::uint64_t>(block_->idt.base + vector * 16ULL);
  const std::uint64_t high = read_system<std::uint64_t>(block_->idt.base + vector * 16ULL + 8);
  const unsigned type = (low >> 40) & 0x1F;
  if (type != 0xE && type != 0xF) raise_gp(idt_error(vector, kind));
  if (kind == EventKind::kSoftware && ((low >> 45) & 3) < block_->cpl) raise_gp(idt_error(vector, kind));
  if (((low >> 47) & 1) == 0) raise(vector::kNp, idt_error(vector, kind));
  const auto selector = static_cast<std::uint16_t>(low >> 16);
  const std::uint64_t target = (low & 0xFFFF) | ((low >> 32) & 0xFFFF'0000) | (high << 32);
  const unsigned ist = (low >> 32) & 7;

  const std::uint32_t external = kind == EventKind::kSoftware ? 0 : kExternal;
  if ((selector & 0xFFFC) == 0) raise_gp(external);
  const Descriptor code = read_descriptor(selector);
  if (!code.is_code() || code.dpl() > block_->cpl) raise_gp((selector & 0xFFFCU) | external);
  if (!code.present()) raise(vector::kNp, (selector & 0xFFFCU) | external);
  if ((code.attributes & kSegmentLong) == 0) raise_gp((selector & 0xFFFCU) | external);
  const unsigned cpl = code.conforming() ? block_->cpl : code.dpl();

  const Segment old_stack = segment(SegmentName::kSs);
  const std::uint64_t old_rsp = block_->gpr[4];
  std::uint64_t rsp = old_rsp;
  const bool changes_level = cpl < block_->cpl;
  if (ist != 0) {
    rsp = read_system<std::uint64_t>(block_->task.base + 0x24 + 8ULL * (ist - 1));
  } else if (changes_level) {
    rsp = read_system<std::uint64_t>(block_->task.base + 4 + 8ULL * cpl);
  }
  rsp &= ~std::uint64_t{15};
  const std::uint64_t pushed_flags =
      pushes_resume_flag(kind, vector) ? block_->rflags | rflags::kRf : block_->rflags;
  std::array<std::uint64_t, 6> frame = {error_code, rip, segment(SegmentName::kCs).selector, pushed_flags, old_rsp,
                                        old_stack.selector};
  const std::size_t skip = has_error_code ? 0 : 1;
  const auto bytes = static_cast<std::uint32_t>(8 * (frame.size() - skip));
  const std::uint32_t context = cpl == 3 ? kTlbUser : kTlbSupervisor;
  write_bytes(rsp - bytes, frame.data() + skip, bytes, context);

  // Nothing fails from here on.
  block_->gpr[4] = rsp - bytes;
  if (changes_level) segment(SegmentName::kSs) = {0, 0xFFFF'FFFF, static_cast<std::uint16_t>(cpl), kSegmentUnusable | (cpl << 5)};
  std::uint64_t cleared = rflags::kTf | rflags::kNt | rflags::kRf | rflags::kVm;
  if (type == 0xE) cleared |= rflags::kIf;
  block_->rflags &= ~cleared;
  Segment& place = segment(SegmentName::kCs);
  place = {code.base, code.limit, static_cast<std::uint16_t>((selector & 0xFFFC) | cpl), code.attributes | 1};
  set_cpl(cpl);
  block_->rip = target;
}

void Core::deliver_event_protected(EventKind kind, std::uint8_t vector, bool has_error_code, std::uint32_t error_code,
                                   std::uint64_t rip) {
  if (vector * 8U + 7 > block_->idt.limit) raise_gp(idt_error(vector, kind));
  const std::uint64_t gate = read_system<std::uint64_t>(block_->idt.base + vector * 8ULL);
  const unsigned type = (gate >> 40) & 0x1F;
  const bool is_32 = type == 0xE || type == 0xF;
  const bool is_task = type == 5;
  if (!is_task && !is_32 && type != 6 && type != 7) raise_gp(idt_error(vector, kind));
  if (kind == EventKind::kSoftware && ((gate >> 45) & 3) < block_->cpl) raise_gp(idt_error(vector, kind));
  if (((gate >> 47) & 1) == 0) raise(vector::kNp, idt_error(vector, kind));
  const auto selector = static_cast<std::uint16_t>(gate >> 16);
  const std::uint64_t target = (gate & 0xFFFF) | (is_32 ? (gate >> 32) & 0xFFFF'0000 : 0);
  const std::uint32_t external = kind == EventKind::kSoftware ? 0 : kExternal;
  if (is_task) {
    switch_task(selector, TaskSwitch::kEvent, rip, has_error_code ? std::optional(error_code) : std::nullopt, external);
    return;
  }
  if ((selector & 0xFFFC) == 0) raise_gp(external);
  const Descriptor code = read_descriptor(selector);
  if (!code.is_code() || code.dpl() > block_->cpl) raise_gp((selector & 0xFFFCU) | external);
  if (!code.present()) raise(vector::kNp, (selector & 0xFFFCU) | external);
  const unsigned cpl = code.conforming() ? block_->cpl : code.dpl();
  const bool from_8086 = is_virtual_8086();
  if (from_8086 && cpl != 0) raise_gp((selector & 0xFFFCU) | external);

  // A faulting delivery must leave everything as it was.
  const auto segments = block_->segments;
  const auto gprs = block_->gpr;
  const std::uint64_t flags = block_->rflags;
  const unsigned old_cpl = block_->cpl;
  const std::uint8_t size = is_32 ? 4 : 2;
  try {
    const bool changes_level = cpl < old_cpl;
    if (changes_level) {
      std::uint16_t stack_selector = 0;
      std::uint64_t stack = 0;
      task_stack(cpl, stack_selector, stack);
      block_->rflags &= ~rflags::kVm;
      block_->cpl = static_cast<std::uint8_t>(cpl);
      load_stack_segment(stack_selector, cpl, vector::kTs);
      set_stack_pointer(stack);
      if (from_8086) {
        for (const SegmentName name : {SegmentName::kGs, SegmentName::kFs, SegmentName::kDs, SegmentName::kEs}) {
          push(segment(name).selector, size);
          segment(name) = {0, 0, 0, kSegmentUnusable};
        }
      }
      push(segments[static_cast<std::size_t>(SegmentName::kSs)].selector, size);
      push(gprs[4], size);
    }
    push(pushes_resume_flag(kind, vector) ? flags | rflags::kRf : flags, size);
    push(segment(SegmentName::kCs).selector, size);
    push(rip, size);
    if (has_error_code) push(error_code, size);
    mark_accessed(code);
  } catch (...) {
    block_->segments = segments;
    block_->gpr = gprs;
    block_->rflags = flags;
    set_cpl(old_cpl);
    throw;
  }
  std::uint64_t cleared = rflags::kTf | rflags::kNt | rflags::kRf | rflags::kVm;
  if ((type & 1) == 0) cleared |= rflags::kIf;
  block_->rflags &= ~cleared;
  segment(SegmentName::kCs) = {code.base, code.limit, static_cast<std::uint16_t>((selector & 0xFFFC) | cpl), code.attributes | 1};
  set_cpl(cpl);
  block_->rip = target;
}

void Core::interrupt_return(std::uint8_t operand_size) {
  block_->nmi_masked = 0;
  if (block_->pending_nmis != 0) block_->interrupt_held = 1;
  if (in_long_mode()) {
    interrupt_return_long(operand_size);
  } else if (is_protected() && !is_virtual_8086()) {
    interrupt_return_protected(operand_size);
  } else {
    if (is_virtual_8086() && (block_->rflags & rflags::kIopl) != rflags::kIopl) raise_gp();
    const std::uint64_t target = peek(0, operand_size);
    const auto selector = static_cast<std::uint16_t>(peek(operand_size, operand_size));
    const std::uint64_t flags = peek(2ULL * operand_size, operand_size);
    set_stack_pointer(block_->gpr[4] + 3ULL * operand_size);
    Segment& code = segment(SegmentName::kCs);
    code.selector = selector;
    code.base = std::uint64_t{selector} << 4;
    std::uint64_t mask = rflags::kStatus | rflags::kTf | rflags::kIf | rflags::kDf | rflags::kNt;
    if (is_real()) mask |= rflags::kIopl;
    if (operand_size == 4) mask |= rflags::kRf | rflags::kAc | rflags::kId;
    write_rflags(flags, mask);
    next_rip_ = target & 0xFFFF;
  }
  forget_fetch();
}

namespace {

/// Which flags an IRET at `cpl` may change.
std::uint64_t return_flags(unsigned cpl, unsigned iopl, std::uint8_t operand_size) {
  std::uint64_t mask = rflags::kStatus | rflags::kTf | rflags::kDf | rflags::kNt;
  if (operand_size != 2) mask |= rflags::kRf | rflags::kAc | rflags::kId;
  if (cpl <= iopl) mask |= rflags::kIf;
  if (cpl == 0) mask |= rflags::kIopl;
  return mask;
}

}  // namespace

void Core::interrupt_return_long(std::uint8_t operand_size) {
  if ((block_->rflags & rflags::kNt) != 0) raise_gp();
  const std::uint8_t size = operand_size;
  const bool from_64 = is_64();
  const std::uint64_t target = peek(0, size);
  const auto selector = static_cast<std::uint16_t>(peek(size, size));
  const std::uint64_t flags = peek(2ULL * size, size);
  if ((selector & 0xFFFC) == 0) raise_gp();
  const Descriptor code = read_descriptor(selector);
  const unsigned level = selector & 3U;
  if (!code.is_code() || level < block_->cpl) raise_gp(selector & 0xFFFCU);
  if (code.conforming() ? code.dpl() > level : code.dpl() != level) raise_gp(selector & 0xFFFCU);
  if (!code.present()) raise(vector::kNp, selector & 0xFFFCU);
  const std::uint64_t mask = return_flags(block_->cpl, static_cast<unsigned>(block_->rflags >> 12) & 3, size);
  if (!from_64 && level == block_->cpl) {
    set_stack_pointer(block_->gpr[4] + 3ULL * size);
    load_code_segment(selector, code, level);
    write_rflags(flags, mask);
    next_rip_ = target;
    return;
  }
  const std::uint64_t stack = peek(3ULL * size, size);
  const auto stack_selector = static_cast<std::uint16_t>(peek(4ULL * size, size));
  const Segment old_code = segment(SegmentName::kCs);
  const unsigned old_cpl = block_->cpl;
  load_code_segment(selector, code, level);
  try {
    load_stack_segment(stack_selector, level, vector::kGp);
  } catch (...) {
    segment(SegmentName::kCs) = old_code;
    set_cpl(old_cpl);
    throw;
  }
  block_->gpr[4] = size == 8 ? stack : size == 4 ? stack & 0xFFFF'FFFF : (block_->gpr[4] & ~std::uint64_t{0xFFFF}) | stack;
  if (level != old_cpl) {
    for (const SegmentName name : {SegmentName::kEs, SegmentName::kDs, SegmentName::kFs, SegmentName::kGs}) {
      Segment& place = segment(name);
      const bool conforming_code = (place.attributes & 0xC) == 0xC;
      if ((place.attributes & kSegmentUnusable) == 0 && ((place.attributes >> 5) & 3) < level && !conforming_code) {
        place = {place.base, 0, 0, kSegmentUnusable};
      }
    }
  }
  write_rflags(flags, mask);
  next_rip_ = is_64() ? target : target & 0xFFFF'FFFF;
}

void Core::interrupt_return_protected(std::uint8_t operand_size) {
  if ((block_->rflags & rflags::kNt) != 0) {
    return_from_task();
    return;
  }
  const std::uint8_t size = operand_size;
  const std::uint64_t target = peek(0, size);
  const auto selector = static_cast<std::uint16_t>(peek(size, size));
  const std::uint64_t flags = peek(2ULL * size, size);
  const std::uint64_t mask = return_flags(block_->cpl, static_cast<unsigned>(block_->rflags >> 12) & 3, size);
  if (size == 4 && (flags & rflags::kVm) != 0 && block_->cpl == 0) {
    const std::uint64_t stack = peek(12, 4);
    std::array<std::uint16_t, 5> selectors;  // SS ES DS FS GS
    for (unsigned i = 0; i < selectors.size(); ++i) selectors[i] = static_cast<std::uint16_t>(peek(16 + 4 * i, 4));
    write_rflags(flags, mask | rflags::kVm | rflags::kIf | rflags::kIopl | rflags::kVif | rflags::kVip);
    block_->cpl = 3;
    load_segment(SegmentName::kCs, selector);
    load_segment(SegmentName::kSs, selectors[0]);
    load_segment(SegmentName::kEs, selectors[1]);
    load_segment(SegmentName::kDs, selectors[2]);
    load_segment(SegmentName::kFs, selectors[3]);
    load_segment(SegmentName::kGs, selectors[4]);
    block_->gpr[4] = stack & 0xFFFF'FFFF;
    mmu::update_mode(*block_);
    next_rip_ = target & 0xFFFF;
    return;
  }
  if ((selector & 0xFFFC) == 0) raise_gp();
  const Descriptor code = read_descriptor(selector);
  const unsigned level = selector & 3U;
  if (!code.is_code() || level < block_->cpl) raise_gp(selector & 0xFFFCU);
  if (code.conforming() ? code.dpl() > level : code.dpl() != level) raise_gp(selector & 0xFFFCU);
  if (!code.present()) raise(vector::kNp, selector & 0xFFFCU);
  if (level == block_->cpl) {
    set_stack_pointer(block_->gpr[4] + 3ULL * size);
    load_code_segment(selector, code, level);
    write_rflags(flags, mask);
    next_rip_ = target;
    return;
  }
  const std::uint64_t stack = peek(3ULL * size, size);
  const auto stack_selector = static_cast<std::uint16_t>(peek(4ULL * size, size));
  const Segment old_code = segment(SegmentName::kCs);
  const unsigned old_cpl = block_->cpl;
  load_code_segment(selector, code, level);
  try {
    load_stack_segment(stack_selector, level, vector::kGp);
  } catch (...) {
    segment(SegmentName::kCs) = old_code;
    set_cpl(old_cpl);
    throw;
  }
  set_stack_pointer(stack);
  for (const SegmentName name : {SegmentName::kEs, SegmentName::kDs, SegmentName::kFs, SegmentName::kGs}) {
    Segment& place = segment(name);
    const bool conforming_code = (place.attributes & 0xC) == 0xC;
    if ((place.attributes & kSegmentUnusable) == 0 && ((place.attributes >> 5) & 3) < level && !conforming_code) {
      place = {place.base, 0, 0, kSegmentUnusable};
    }
  }
  write_rflags(flags, mask);
  mmu::update_mode(*block_);
  next_rip_ = target;
}

}  // namespace bygone::cpu::translator
