// Jumps, calls, returns, interrupts and the fast system calls.
#include "cpu/translator/handlers.h"

namespace bygone::cpu::translator {
namespace {

bool is_canonical(std::uint64_t linear) {
  const auto top = static_cast<std::int64_t>(linear) >> 47;
  return top == 0 || top == -1;
}

void jump_relative(Core& core, const Decoded& decoded) { core.jump_near(core.next_rip() + decoded.immediate, decoded.operand_size); }

void jump_conditional(Core& core, const Decoded& decoded) {
  if (core.condition(decoded.condition)) jump_relative(core, decoded);
}

std::uint64_t near_target(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  if (decoded.operands == kShapeM) return core.read_sized(core.memory_operand(decoded, size, Access::kRead), size);
  if (decoded.operands == kShapeR) return core.read_register(decoded.reg, size);
  return core.next_rip() + decoded.immediate;
}

/// The far pointer of an immediate or memory operand.
void far_transfer(Core& core, const Decoded& decoded, bool is_call) {
  std::uint64_t offset = decoded.immediate;
  auto selector = static_cast<std::uint16_t>(decoded.displacement);
  std::uint8_t size = decoded.operand_size;
  if (decoded.operands != kShapeFar) {
    const std::uint64_t linear = core.memory_operand(decoded, size + 2U, Access::kRead);
    offset = core.read_sized(linear, size);
    selector = core.read<std::uint16_t>(linear + size);
  }
  core.far_jump(selector, offset, size, is_call);
}

void jump(Core& core, const Decoded& decoded) {
  if (decoded.is_far != 0) {
    far_transfer(core, decoded, false);
  } else {
    core.jump_near(near_target(core, decoded), decoded.operand_size);
  }
}

void call(Core& core, const Decoded& decoded) {
  if (decoded.is_far != 0) {
    far_transfer(core, decoded, true);
    return;
  }
  const std::uint64_t target = near_target(core, decoded);
  const std::uint64_t back = core.next_rip();
  core.jump_near(target, decoded.operand_size);  // faults before the push is made
  core.push(back, decoded.operand_size);
}

void return_near_or_far(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  const auto release = static_cast<std::uint16_t>(decoded.immediate);
  if (decoded.is_far != 0) {
    core.far_return(size, release);
    return;
  }
  core.jump_near(core.peek(0, size), size);
  core.set_stack_pointer(core.gpr(Gpr::kRsp) + size + release);
}

void loop(Core& core, const Decoded& decoded) {
  const std::uint64_t count = core.read_register(1, decoded.address_size) - 1;
  const bool zero = (core.block().rflags & rflags::kZf) != 0;
  const std::uint64_t mask = decoded.address_size == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * decoded.address_size)) - 1;
  bool taken = (count & mask) != 0;
  if (decoded.mnemonic == ZYDIS_MNEMONIC_LOOPE) taken = taken && zero;
  if (decoded.mnemonic == ZYDIS_MNEMONIC_LOOPNE) taken = taken && !zero;
  if (taken) jump_relative(core, decoded);
  core.write_register(1, decoded.address_size, count);
}

void jump_when_count_is_zero(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.mnemonic == ZYDIS_MNEMONIC_JRCXZ ? 8 : decoded.mnemonic == ZYDIS_MNEMONIC_JECXZ ? 4 : 2;
  if (core.read_register(1, size) == 0) jump_relative(core, decoded);
}

void interrupt(Core& core, const Decoded& decoded) { core.software_interrupt(static_cast<std::uint8_t>(decoded.immediate), true); }
void breakpoint(Core& core, const Decoded&) { core.software_interrupt(vector::kBp, false); }
void debug_trap(Core& core, const Decoded&) { core.raise(vector::kDb); }
void interrupt_on_overflow(Core& core, const Decoded&) {
  if (core.is_64()) core.raise_ud();
  if ((core.block().rflags & rflags::kOf) != 0) core.software_interrupt(vector::kOf, false);
}

void interrupt_return(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.mnemonic == ZYDIS_MNEMONIC_IRETQ ? 8 : decoded.mnemonic == ZYDIS_MNEMONIC_IRETD ? 4 : 2;
  core.interrupt_return(size);
}

void check_bounds(Core& core, const Decoded& decoded) {
  const std::uint8_t size = decoded.operand_size;
  const std::uint64_t linear = core.memory_operand(decoded, 2U * size, Access::kRead);
  const unsigned shift = 64 - 8U * size;
  const auto extend = [&](std::uint64_t value) { return static_cast<std::int64_t>(value << shift) >> shift; };
  const std::int64_t index = extend(core.read_register(decoded.reg, size));
  if (index < extend(core.read_sized(linear, size)) || index > extend(core.read_sized(linear + size, size))) core.raise(vector::kBr);
}

// ---- SYSCALL and its kin (AMD64 APM volume 3; Intel SDM volume 2) ----

constexpr std::uint32_t kCode64 = 0xA09B, kCode32 = 0xC09B, kData = 0xC093;

Segment flat(std::uint64_t selector, std::uint32_t attributes, std::uint32_t dpl) {
  return {0, 0xFFFF'FFFF, static_cast<std::uint16_t>(selector), attributes | (dpl << 5)};
}

void system_call(Core& core, const Decoded&) {
  VcpuBlock& block = core.block();
  if ((block.efer & efer::kSce) == 0 || !core.in_long_mode()) core.raise_ud();
  const bool from_64 = core.is_64();
  core.gpr(Gpr::kRcx) = core.next_rip();
  core.gpr(Gpr::kR11) = block.rflags & ~rflags::kRf;
  const std::uint64_t selector = (block.msrs.star >> 32) & 0xFFFC;
  core.segment(SegmentName::kCs) = flat(selector, kCode64, 0);
  core.segment(SegmentName::kSs) = flat(selector + 8, kData, 0);
  block.rflags = (block.rflags & ~block.msrs.sfmask & ~rflags::kRf) | rflags::kFixed;
  core.set_cpl(0);
  core.set_next_rip(from_64 ? block.msrs.lstar : block.msrs.cstar);
}

void system_return(Core& core, const Decoded& decoded) {
  VcpuBlock& block = core.block();
  if ((block.efer & efer::kSce) == 0 || !core.in_long_mode()) core.raise_ud();
  if (block.cpl != 0) core.raise_gp();
  const bool to_64 = decoded.operand_size == 8;
  const std::uint64_t target = core.gpr(Gpr::kRcx);
  if (to_64 && !is_canonical(target)) core.raise_gp();
  const std::uint64_t selector = block.msrs.star >> 48;
  core.segment(SegmentName::kCs) = flat((selector + (to_64 ? 16 : 0)) | 3, to_64 ? kCode64 : kCode32, 3);
  core.segment(SegmentName::kSs) = flat((selector + 8) | 3, kData, 3);
  constexpr std::uint64_t kRestored = 0x3C'7FD7;
  block.rflags = (core.gpr(Gpr::kR11) & kRestored) | rflags::kFixed;
  core.set_cpl(3);
  core.set_next_rip(to_64 ? target : target & 0xFFFF'FFFF);
}

void system_enter(Core& core, const Decoded&) {
  VcpuBlock& block = core.block();
  const std::uint64_t selector = block.msrs.sysenter_cs & 0xFFFC;
  if (!core.is_protected() || selector == 0) core.raise_gp();
  const bool wide = core.in_long_mode();
  core.segment(SegmentName::kCs) = flat(selector, wide ? kCode64 : kCode32, 0);
  core.segment(SegmentName::kSs) = flat(selector + 8, kData, 0);
  block.rflags &= ~(rflags::kVm | rflags::kIf | rflags::kRf);
  core.gpr(Gpr::kRsp) = wide ? block.msrs.sysenter_esp : block.msrs.sysenter_esp & 0xFFFF'FFFF;
  core.set_cpl(0);
  core.set_next_rip(wide ? block.msrs.sysenter_eip : block.msrs.sysenter_eip & 0xFFFF'FFFF);
}

void system_exit(Core& core, const Decoded& decoded) {
  VcpuBlock& block = core.block();
  const std::uint64_t selector = block.msrs.sysenter_cs & 0xFFFC;
  if (!core.is_protected() || selector == 0 || block.cpl != 0) core.raise_gp();
  const bool to_64 = decoded.operand_size == 8;
  const std::uint64_t target = core.gpr(Gpr::kRdx);
  if (to_64 && !is_canonical(target)) core.raise_gp();
  core.segment(SegmentName::kCs) = flat((selector + (to_64 ? 32 : 16)) | 3, to_64 ? kCode64 : kCode32, 3);
  core.segment(SegmentName::kSs) = flat((selector + (to_64 ? 40 : 24)) | 3, kData, 3);
  core.gpr(Gpr::kRsp) = to_64 ? core.gpr(Gpr::kRcx) : core.gpr(Gpr::kRcx) & 0xFFFF'FFFF;
  core.set_cpl(3);
  core.set_next_rip(to_64 ? target : target & 0xFFFF'FFFF);
}

constexpr HandlerEntry kHandlers[] = {
    {ZYDIS_MNEMONIC_JMP, jump},
    {ZYDIS_MNEMONIC_CALL, call},
    {ZYDIS_MNEMONIC_RET, return_near_or_far},
    {ZYDIS_MNEMONIC_JB, jump_conditional},
    {ZYDIS_MNEMONIC_JBE, jump_conditional},
    {ZYDIS_MNEMONIC_JL, jump_conditional},
    {ZYDIS_MNEMONIC_JLE, jump_conditional},
    {ZYDIS_MNEMONIC_JNB, jump_conditional},
    {ZYDIS_MNEMONIC_JNBE, jump_conditional},
    {ZYDIS_MNEMONIC_JNL, jump_conditional},
    {ZYDIS_MNEMONIC_JNLE, jump_conditional},
    {ZYDIS_MNEMONIC_JNO, jump_conditional},
    {ZYDIS_MNEMONIC_JNP, jump_conditional},
    {ZYDIS_MNEMONIC_JNS, jump_conditional},
    {ZYDIS_MNEMONIC_JNZ, jump_conditional},
    {ZYDIS_MNEMONIC_JO, jump_conditional},
    {ZYDIS_MNEMONIC_JP, jump_conditional},
    {ZYDIS_MNEMONIC_JS, jump_conditional},
    {ZYDIS_MNEMONIC_JZ, jump_conditional},
    {ZYDIS_MNEMONIC_JCXZ, jump_when_count_is_zero},
    {ZYDIS_MNEMONIC_JECXZ, jump_when_count_is_zero},
    {ZYDIS_MNEMONIC_JRCXZ, jump_when_count_is_zero},
    {ZYDIS_MNEMONIC_LOOP, loop},
    {ZYDIS_MNEMONIC_LOOPE, loop},
    {ZYDIS_MNEMONIC_LOOPNE, loop},
    {ZYDIS_MNEMONIC_INT, interrupt},
    {ZYDIS_MNEMONIC_INT3, breakpoint},
    {ZYDIS_MNEMONIC_INT1, debug_trap},
    {ZYDIS_MNEMONIC_INTO, interrupt_on_overflow},
    {ZYDIS_MNEMONIC_IRET, interrupt_return},
    {ZYDIS_MNEMONIC_IRETD, interrupt_return},
    {ZYDIS_MNEMONIC_IRETQ, interrupt_return},
    {ZYDIS_MNEMONIC_BOUND, check_bounds},
    {ZYDIS_MNEMONIC_SYSCALL, system_call},
    {ZYDIS_MNEMONIC_SYSRET, system_return},
    {ZYDIS_MNEMONIC_SYSENTER, system_enter},
    {ZYDIS_MNEMONIC_SYSEXIT, system_exit},
    {ZYDIS_MNEMONIC_UD0, raise_undefined},
    {ZYDIS_MNEMONIC_UD1, raise_undefined},
    {ZYDIS_MNEMONIC_UD2, raise_undefined},
};

}  // namespace

std::span<const HandlerEntry> control_handlers() { return kHandlers; }

}  // namespace bygone::cpu::translator
