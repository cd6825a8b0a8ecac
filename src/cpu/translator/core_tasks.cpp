// Hardware task switches: JMP and CALL to task-state segments and task gates, task gates in the IDT, IRET from a nested task
// (Intel SDM volume 3, chapter 8). Protected mode only; systems of the XP to 7 era take double faults and NMIs this way.
//
// Up to the point where the new task is loaded a fault belongs to the old task and leaves it as it was; from there on, while the
// new segments are checked, to the new one.
#include <array>

#include "cpu/translator/core.h"

namespace bygone::cpu::translator {
namespace {

constexpr unsigned kAvailable16 = 1, kBusy16 = 3, kAvailable32 = 9, kBusy32 = 11;
constexpr std::uint32_t kBusyBit = 2;
constexpr std::uint64_t kDebugTask = 1U << 15;  // DR6.BT

/// Where a task-state segment keeps things; registers are in the order of their numbers.
struct Layout {
  std::uint32_t limit, cr3, ip, flags, registers, selectors, ldt, trap;
  std::uint8_t size;            ///< bytes of a register
  std::uint8_t selector_count;  ///< ES CS SS DS, and FS GS
};
constexpr Layout kLayout16 = {0x2B, 0, 0x0E, 0x10, 0x12, 0x22, 0x2A, 0, 2, 4};
constexpr Layout kLayout32 = {0x67, 0x1C, 0x20, 0x24, 0x28, 0x48, 0x60, 0x64, 4, 6};

bool is_32_bits(unsigned type) { return type >= kAvailable32; }
const Layout& layout_of(unsigned type) { return is_32_bits(type) ? kLayout32 : kLayout16; }

}  // namespace

std::uint64_t Core::read_task_field(std::uint64_t at, std::uint8_t size) {
  return size == 2 ? read_system<std::uint16_t>(at) : read_system<std::uint32_t>(at);
}

void Core::write_task_field(std::uint64_t at, std::uint8_t size, std::uint64_t value) {
  if (size == 2) write_system<std::uint16_t>(at, static_cast<std::uint16_t>(value));
  else write_system<std::uint32_t>(at, static_cast<std::uint32_t>(value));
}

void Core::set_task_busy(const Descriptor& descriptor, bool busy) {
  const std::uint8_t old = read_system<std::uint8_t>(descriptor.table_address + 5);
  write_system<std::uint8_t>(descriptor.table_address + 5, static_cast<std::uint8_t>(busy ? old | kBusyBit : old & ~kBusyBit));
}

void Core::save_task(std::uint64_t rip, std::uint64_t flags) {
  const Layout& layout = layout_of(block_->task.attributes & 0xF);
  const std::uint64_t base = block_->task.base;
  write_task_field(base + layout.ip, layout.size, rip);
  write_task_field(base + layout.flags, layout.size, flags);
  for (unsigned i = 0; i < 8; ++i) write_task_field(base + layout.registers + std::uint64_t{i} * layout.size, layout.size, block_->gpr[i]);
  for (unsigned i = 0; i < layout.selector_count; ++i) {
    write_system<std::uint16_t>(base + layout.selectors + std::uint64_t{i} * layout.size, block_->segments[i].selector);
  }
}

Core::Descriptor Core::read_task(std::uint16_t selector, TaskSwitch kind, std::uint32_t external) {
  const std::uint8_t fault = kind == TaskSwitch::kReturn ? vector::kTs : vector::kGp;
  const std::uint32_t error = (selector & 0xFFFCU) | external;
  if ((selector & 0xFFFC) == 0 || (selector & 4) != 0) raise(fault, error);
  const Descriptor descriptor = read_descriptor(selector, fault);
  const unsigned type = descriptor.type();
  const bool wanted = kind == TaskSwitch::kReturn ? type == kBusy16 || type == kBusy32 : type == kAvailable16 || type == kAvailable32;
  if (!descriptor.is_system() || !wanted) raise(fault, error);
  if (!descriptor.present()) raise(vector::kNp, error);
  if (descriptor.limit < layout_of(type).limit) raise(vector::kTs, error);
  return descriptor;
}

void Core::switch_task(std::uint16_t selector, TaskSwitch kind, std::uint64_t rip, std::optional<std::uint32_t> error_code, std::uint32_t external) {
  const Descriptor target = read_task(selector, kind, external);
  const Layout& layout = layout_of(target.type());
  const std::uint16_t old_selector = block_->task.selector;
  const bool nests = kind == TaskSwitch::kCall || kind == TaskSwitch::kEvent;

  // Everything that can fault in the old task's name: both task-state segments, touched as they will be.
  const Layout& old_layout = layout_of(block_->task.attributes & 0xF);
  probe_write(block_->task.base + old_layout.ip, old_layout.ldt - old_layout.ip, kTlbSupervisor);
  std::array<std::uint8_t, 0x68> image = {};
  read_bytes(target.base, image.data(), layout.limit + 1, kTlbSupervisor);
  if (nests) probe_write(target.base, 2, kTlbSupervisor);
  const auto field = [&](std::uint32_t at, std::uint8_t size) {
    std::uint32_t value = 0;
    std::memcpy(&value, image.data() + at, size);
    return value;
  };
  Descriptor old_descriptor;
  const bool has_old = try_read_descriptor(old_selector, old_descriptor);

  std::uint64_t old_flags = block_->rflags;
  if (kind == TaskSwitch::kReturn) old_flags &= ~rflags::kNt;
  save_task(rip, old_flags);
  if (!nests && has_old) set_task_busy(old_descriptor, false);
  if (nests) write_system<std::uint16_t>(target.base, old_selector);
  if (kind != TaskSwitch::kReturn) set_task_busy(target, true);

  // The new task's state. Faults are its own from here on.
  block_->task = {target.base, target.limit, selector, target.attributes | kBusyBit};
  block_->cr0 |= cr0::kTs;
  if (is_32_bits(target.type()) && (block_->cr0 & cr0::kPg) != 0) write_cr3(field(layout.cr3, 4));
  for (unsigned i = 0; i < 8; ++i) {
    const std::uint64_t value = field(layout.registers + i * layout.size, layout.size);
    block_->gpr[i] = layout.size == 2 ? (block_->gpr[i] & 0xFFFF'0000) | value : value;
  }
  std::uint64_t flags = field(layout.flags, layout.size);
  if (nests) flags |= rflags::kNt;
  constexpr std::uint64_t kKnown = 0x003F'7FD5;
  block_->rflags = (flags & kKnown) | rflags::kFixed;
  block_->rip = field(layout.ip, layout.size);
  next_rip_ = block_->rip;
  block_->debug.dr7 &= ~std::uint64_t{0x155};  // local breakpoints are the old task's
  std::array<std::uint16_t, 6> selectors = {};
  for (unsigned i = 0; i < layout.selector_count; ++i) selectors[i] = static_cast<std::uint16_t>(field(layout.selectors + i * layout.size, 2));
  const auto ldt = static_cast<std::uint16_t>(field(layout.ldt, 2));
  // Until they are loaded the segments have their selectors and nothing behind them.
  block_->ldt = {0, 0, ldt, kSegmentUnusable};
  for (unsigned i = 0; i < 6; ++i) block_->segments[i] = {0, 0, selectors[i], kSegmentUnusable};
  load_task_segments(ldt, selectors);
  mmu::update_mode(*block_);
  forget_fetch();
  if (error_code) push(*error_code, layout.size);
  if (layout.trap != 0 && (field(layout.trap, 2) & 1) != 0) {
    block_->debug.dr6 |= kDebugTask;
    raise(vector::kDb);
  }
}

void Core::load_task_segments(std::uint16_t ldt, const std::array<std::uint16_t, 6>& selectors) {
  const auto selector_of = [&](SegmentName name) { return selectors[static_cast<std::size_t>(name)]; };
  try {
    load_local_descriptor_table(ldt);
    if (is_virtual_8086()) {
      block_->cpl = 3;
      for (unsigned i = 0; i < 6; ++i) load_segment(static_cast<SegmentName>(i), selectors[i]);
      return;
    }
    const std::uint16_t code_selector = selector_of(SegmentName::kCs);
    const unsigned level = code_selector & 3U;
    block_->cpl = static_cast<std::uint8_t>(level);
    if ((code_selector & 0xFFFC) == 0) raise(vector::kTs, 0);
    const Descriptor code = read_descriptor(code_selector, vector::kTs);
    if (!code.is_code() || (code.conforming() ? code.dpl() > level : code.dpl() != level)) raise(vector::kTs, code_selector & 0xFFFCU);
    if (!code.present()) raise(vector::kNp, code_selector & 0xFFFCU);
    load_code_segment(code_selector, code, level);
    load_stack_segment(selector_of(SegmentName::kSs), level, vector::kTs);
    for (const SegmentName name : {SegmentName::kEs, SegmentName::kDs, SegmentName::kFs, SegmentName::kGs}) load_segment(name, selector_of(name));
  } catch (const GuestFault&) {
    mmu::update_mode(*block_);
    if (block_->fault.vector == vector::kGp) block_->fault.vector = vector::kTs;
    throw;
  }
}

void Core::return_from_task() {
  const std::uint16_t link = read_system<std::uint16_t>(block_->task.base);
  switch_task(link, TaskSwitch::kReturn, next_rip_, std::nullopt, 0);
}

void Core::enter_task_gate(const Descriptor& gate, std::uint16_t selector, TaskSwitch kind) {
  if (gate.dpl() < block_->cpl || gate.dpl() < (selector & 3U)) raise_gp(selector & 0xFFFCU);
  if (!gate.present()) raise(vector::kNp, selector & 0xFFFCU);
  switch_task(static_cast<std::uint16_t>(gate.raw >> 16), kind, next_rip_, std::nullopt, 0);
}

}  // namespace bygone::cpu::translator
