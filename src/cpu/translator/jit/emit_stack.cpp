// Instructions on the stack. The stack pointer moves only after the access has passed.
#include "cpu/translator/jit/emitter.h"

namespace bygone::cpu::translator::jit {

using namespace Xbyak::util;

namespace {
constexpr std::uint32_t kFlagWordReadable = 0x00FC'FFFF;  // RF and VM read as zero
}

void Emitter::look_up_push() {
  if (trace_.mode.is_64()) code_.lea(r10, ptr[rsp - 8]);
  else code_.lea(r10d, ptr[rsp - 4]);
  emit_look_up(width(), true, false, kStackSlot);
}

void Emitter::look_up_pop(const Xbyak::Reg64& pointer) {
  if (trace_.mode.is_64()) code_.mov(r10, pointer);
  else code_.mov(r10d, Xbyak::Reg32(pointer.getIdx()));
  emit_look_up(width(), false, false, pointer.getIdx() == 4 ? kStackSlot : kFrameSlot);
}

void Emitter::move_stack_pointer(std::int32_t by) {
  const auto displacement = static_cast<std::size_t>(by);  // the assembler's type for it
  if (trace_.mode.is_64()) code_.lea(rsp, ptr[rsp + displacement]);
  else code_.lea(esp, ptr[rsp + displacement]);
}

void Emitter::store_pushed_constant(std::uint64_t value) {
  const auto narrow = static_cast<std::int64_t>(static_cast<std::int32_t>(value));
  if (!trace_.mode.is_64()) {
    code_.mov(dword[r11 + r10], static_cast<std::uint32_t>(value));
  } else if (static_cast<std::uint64_t>(narrow) == value) {
    code_.mov(qword[r11 + r10], value);
  } else {
    fold_address();
    code_.constant(r10, value);
    code_.mov(qword[r11], r10);
  }
}

void Emitter::emit_push() {
  const ZydisDecodedOperand& operand = in_->operands[0];
  give_up_flags();
  if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
    emit_address(operand, true);
    emit_look_up(width(), false, false, page_slot_of(operand));
    if (trace_.mode.is_64()) code_.mov(r10, ptr[r11 + r10]);
    else code_.mov(r10d, ptr[r11 + r10]);
    code_.store(Word::kTarget, r10);
    look_up_push();
    fold_address();
    code_.load(r10, Word::kTarget);
    if (trace_.mode.is_64()) code_.mov(ptr[r11], r10);
    else code_.mov(ptr[r11], r10d);
  } else {
    look_up_push();
    if (operand.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
      store_pushed_constant(operand.imm.value.u);
    } else {
      const int number = gpr_number(operand.reg.value);
      if (number == 10 || number == 11) {
        fold_address();
        load_slot(r10, number);
        code_.mov(ptr[r11], r10);
      } else if (trace_.mode.is_64()) {
        code_.mov(ptr[r11 + r10], Xbyak::Reg64(number));
      } else {
        code_.mov(ptr[r11 + r10], Xbyak::Reg32(number));
      }
    }
  }
  move_stack_pointer(-static_cast<std::int32_t>(width()));
}

void Emitter::emit_pop() {
  give_up_flags();
  look_up_pop(rsp);
  const int number = gpr_number(in_->operands[0].reg.value);
  if (number == 10 || number == 11) {
    code_.mov(r10, ptr[r11 + r10]);
    store_slot(number, r10);
  } else if (trace_.mode.is_64()) {
    code_.mov(Xbyak::Reg64(number), ptr[r11 + r10]);
  } else {
    code_.mov(Xbyak::Reg32(number), ptr[r11 + r10]);
  }
  if (number != 4) move_stack_pointer(static_cast<std::int32_t>(width()));
}

void Emitter::emit_leave() {
  give_up_flags();
  look_up_pop(rbp);
  if (trace_.mode.is_64()) {
    code_.mov(r10, ptr[r11 + r10]);
    code_.lea(rsp, ptr[rbp + 8]);
    code_.mov(rbp, r10);
  } else {
    code_.mov(r10d, ptr[r11 + r10]);
    code_.lea(esp, ptr[rbp + 4]);
    code_.mov(ebp, r10d);
  }
}

void Emitter::emit_push_flags() {
  save_flags();  // it reads all of them, so they are alive
  flags_native_ = false;
  look_up_push();
  fold_address();
  // rflags' arithmetic bits come from their word: AH is CF PF AF ZF SF, AL is OF.
  code_.load(r10d, static_cast<std::uint32_t>(offset::kRflags));
  code_.and_(r10d, static_cast<std::int32_t>(kFlagWordReadable & ~kArithmeticFlags));
  code_.store(Word::kTemporary, rax);
  code_.load(eax, word_offset(Word::kFlags));
  code_.store(Word::kTarget, rcx);
  code_.movzx(ecx, ah);
  code_.and_(ecx, static_cast<std::int32_t>(kArithmeticFlags & 0xFF));
  code_.or_(r10d, ecx);
  code_.movzx(eax, al);
  code_.and_(eax, 1);
  code_.shl(eax, 11);
  code_.or_(r10d, eax);
  code_.load(rcx, Word::kTarget);
  code_.load(rax, Word::kTemporary);
  if (trace_.mode.is_64()) code_.mov(ptr[r11], r10);
  else code_.mov(ptr[r11], r10d);
  move_stack_pointer(-static_cast<std::int32_t>(width()));
}

void Emitter::emit_pop_flags() {
  // Changes of anything but the arithmetic flags, DF and IF, or an interrupt that waits for IF, are the interpreter's.
  constexpr std::uint32_t kSimple = kArithmeticFlags | 1U << 9 | 1U << 10;
  give_up_flags();
  look_up_pop(rsp);
  code_.mov(r10d, ptr[r11 + r10]);
  code_.load(r11d, static_cast<std::uint32_t>(offset::kRflags));
  code_.xor_(r11d, r10d);
  code_.test(r11d, static_cast<std::int32_t>(~kSimple & 0x003F'7FD5U));
  const std::uint32_t not_simple = code_.jump_later_if(5);
  code_.gs_form();
  code_.cmp(dword[at(offsetof(VcpuBlock, interrupt_held))], 0);
  const std::uint32_t held = code_.jump_later_if(5);
  // Take IF and DF, then the arithmetic flags into their word.
  code_.and_(r11d, 3U << 9);
  code_.gs_form();
  code_.xor_(dword[at(offset::kRflags)], r11d);
  code_.store(Word::kTemporary, rax);
  code_.mov(eax, r10d);
  code_.shl(eax, 8);
  code_.bt(r10d, 11);
  code_.setc(al);
  code_.store(word_offset(Word::kFlags), eax);
  code_.load(rax, Word::kTemporary);
  move_stack_pointer(static_cast<std::int32_t>(width()));
  flags_saved_ = true;
  flags_native_ = false;
  cold_.push_back({.kind = Cold::Kind::kInterpret, .from = not_simple, .target = in_->rip});
  cold_.push_back({.kind = Cold::Kind::kInterpret, .from = held, .target = in_->rip});
}

}  // namespace bygone::cpu::translator::jit
