// The few system instructions that are too frequent for the interpreter, and string instructions.
#include "cpu/translator/jit/emitter.h"
#include "cpu/translator/jit/string_operation.h"
#include "cpu/translator/jit/system_operation.h"

namespace bygone::cpu::translator::jit {

using namespace Xbyak::util;

namespace {
constexpr std::uint32_t kInterruptFlag = 1U << 9, kDirectionFlag = 1U << 10;
}

/// The direction flag is only ever in the block; natively it is clear.
void Emitter::emit_direction() {
  give_up_flags();
  code_.gs_form();
  if (in_->zydis.mnemonic == ZYDIS_MNEMONIC_STD) code_.or_(dword[at(offset::kRflags)], kDirectionFlag);
  else code_.and_(dword[at(offset::kRflags)], ~kDirectionFlag);
}

void Emitter::emit_clear_interrupt() {
  give_up_flags();
  code_.gs_form();
  code_.and_(dword[at(offset::kRflags)], ~kInterruptFlag);
}

void Emitter::emit_set_interrupt() {
  give_up_flags();
  code_.gs_form();
  code_.cmp(dword[at(offsetof(VcpuBlock, interrupt_held))], 0);
  cold_.push_back({.kind = Cold::Kind::kInterpret, .from = code_.jump_later_if(5), .target = in_->rip});
  code_.gs_form();
  code_.or_(dword[at(offset::kRflags)], kInterruptFlag);
}

void Emitter::emit_time_stamp() {
  give_up_flags();
  code_.rdtsc();
  code_.shl(rdx, 32);
  code_.or_(rax, rdx);
  code_.gs_form();
  code_.add(rax, ptr[at(offset::kTscOffset)]);
  code_.mov(rdx, rax);
  code_.shr(rdx, 32);
  code_.mov(eax, eax);
}

void Emitter::emit_swap_gs() {
  constexpr auto kBase = static_cast<std::uint32_t>(offset::segment_base(SegmentName::kGs));
  constexpr auto kKernelBase = static_cast<std::uint32_t>(offsetof(VcpuBlock, msrs) + offsetof(MsrFile, kernel_gs_base));
  code_.load(r10, kBase);
  code_.load(r11, kKernelBase);
  code_.store(kKernelBase, r10);
  code_.store(kBase, r11);
}

/// Leaves the flags alone, as processors do.
void Emitter::emit_read_control() {
  std::size_t place = offsetof(VcpuBlock, cr0);
  switch (in_->operands[1].reg.value) {
    case ZYDIS_REGISTER_CR2: place = offsetof(VcpuBlock, cr2); break;
    case ZYDIS_REGISTER_CR3: place = offsetof(VcpuBlock, cr3); break;
    case ZYDIS_REGISTER_CR4: place = offsetof(VcpuBlock, cr4); break;
    default: break;
  }
  const int number = gpr_number(in_->operands[0].reg.value);
  const bool is_slot = number == 10 || number == 11;
  const Xbyak::Reg64 target(is_slot ? 10 : number);
  code_.load(target, static_cast<std::uint32_t>(place));
  if (is_slot) store_slot(number, target);
}

void Emitter::emit_system() {
  give_up_flags();
  SystemOperation operation = SystemOperation::kInterruptReturn;
  if (in_->zydis.mnemonic == ZYDIS_MNEMONIC_SYSCALL) operation = SystemOperation::kSystemCall;
  if (in_->zydis.mnemonic == ZYDIS_MNEMONIC_SYSRET) operation = SystemOperation::kSystemReturn;
  if (in_->zydis.mnemonic == ZYDIS_MNEMONIC_STAC) operation = SystemOperation::kSetAccessCheck;
  if (in_->zydis.mnemonic == ZYDIS_MNEMONIC_CLAC) operation = SystemOperation::kClearAccessCheck;
  const std::uint32_t site =
      cache_.add_site({.tag = in_->zydis.length, .access = static_cast<std::uint32_t>(operation), .rip = in_->rip});
  code_.store_constant32(Word::kSite, site);
  code_.jump_to(cache_.thunks().system);
}

void Emitter::emit_string() {
  give_up_flags();
  StringOperation operation;
  for (std::uint8_t i = 0; i < in_->opcode_at; ++i) operation.repeat |= (in_->bytes[i] & 0xFE) == 0xF2;
  operation.is_32 = in_->zydis.address_width == 32;
  switch (in_->zydis.mnemonic) {
    case ZYDIS_MNEMONIC_MOVSB: operation.is_move = true; [[fallthrough]];
    case ZYDIS_MNEMONIC_STOSB: operation.shift = 0; break;
    case ZYDIS_MNEMONIC_MOVSW: operation.is_move = true; [[fallthrough]];
    case ZYDIS_MNEMONIC_STOSW: operation.shift = 1; break;
    case ZYDIS_MNEMONIC_MOVSD: operation.is_move = true; [[fallthrough]];
    case ZYDIS_MNEMONIC_STOSD: operation.shift = 2; break;
    case ZYDIS_MNEMONIC_MOVSQ: operation.is_move = true; [[fallthrough]];
    default: operation.shift = 3; break;
  }
  const std::uint32_t site = cache_.add_site({.access = operation.pack(), .rip = in_->rip});
  code_.store_constant32(Word::kSite, site);
  const std::uint32_t behind = emit_address_of(0);
  code_.jump_to(cache_.thunks().string);
  code_.patch_here(behind);
}

}  // namespace bygone::cpu::translator::jit
