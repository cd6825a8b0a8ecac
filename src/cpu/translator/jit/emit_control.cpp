// Jumps, calls, returns and the ways out of a block.
#include "cpu/translator/jit/emitter.h"

namespace bygone::cpu::translator::jit {

using namespace Xbyak::util;

bool Emitter::is_same_page(std::uint64_t target) const {
  return ((target ^ trace_.address) >> 12) == 0 && !(trace_.is_cut && target == trace_.end);
}

void Emitter::emit_exit_stub(std::uint32_t patch_at, std::uint64_t target) {
  const std::uint32_t link = cache_.add_link({.target = target, .patch_at = patch_at, .stub = code_.here(), .mode = trace_.mode});
  code_.patch_here(patch_at);
  code_.store_constant32(Word::kLink, link);
  code_.jump_to(cache_.thunks().link);
}

void Emitter::emit_exit(std::uint64_t target) {
  if (!cache_.is_linked()) {
    emit_leave_to(cache_.thunks().leave_lookup, target);
  } else if (target == trace_.address) {
    code_.jump_to(entry_);
  } else if (is_same_page(target)) {
    emit_exit_stub(code_.jump_later(), target);
  } else {
    const std::uint32_t slot = cache_.add_slot(0);
    code_.jmp(ptr[at(static_cast<std::size_t>(cache_.slot_address(slot)))]);
    const std::uint32_t stub = code_.here();
    const std::uint32_t link = cache_.add_link({.target = target, .slot = slot + 1, .stub = stub, .mode = trace_.mode});
    cache_.set_slot(slot, reinterpret_cast<std::uint64_t>(cache_.pc(stub)));
    code_.store_constant32(Word::kLink, link);
    code_.jump_to(cache_.thunks().link);
  }
}

void Emitter::emit_indirect_exit() {
  if (!cache_.is_linked()) {
    code_.store(static_cast<std::uint32_t>(offset::kRip), r10);
    code_.jump_to(cache_.thunks().leave_lookup);
    return;
  }
  const std::uint32_t table = cache_.jump_table_address(trace_.mode);
  code_.movzx(r11d, r10w);
  code_.add(r11d, r11d);
  code_.cmp(r10, ptr[r11 * 8 + std::size_t{table}]);
  const std::uint32_t miss = code_.jump_later_if(5);
  code_.jmp(ptr[r11 * 8 + std::size_t{table + 8}]);
  Assembler::patch(code_.memory(), miss, cache_.thunks().find);
}

void Emitter::emit_jump() {
  require_flags_for_exit(live_->at_target);
  emit_exit(in_->target);
}

void Emitter::emit_conditional() {
  if (!flags_native_) reload_flags(r11);
  const auto condition = static_cast<std::uint8_t>(in_->zydis.opcode & 0x0F);
  if (live_->at_target != 0 && !flags_saved_) {
    cold_.push_back({.kind = Cold::Kind::kSaveAndExit, .from = code_.jump_later_if(condition), .target = in_->target});
    return;
  }
  const std::uint32_t from = code_.jump_later_if(condition);
  if (!cache_.is_linked()) cold_.push_back({.kind = Cold::Kind::kExit, .from = from, .target = in_->target});
  else if (in_->target == trace_.address) Assembler::patch(code_.memory(), from, entry_);
  else cold_.push_back({.kind = is_same_page(in_->target) ? Cold::Kind::kStub : Cold::Kind::kExit, .from = from, .target = in_->target});
}

void Emitter::emit_loop() {
  if (live_->before != 0) save_flags();
  if (in_->flags_read != 0 && !flags_native_) reload_flags(r11);
  if (!trace_.mode.is_64()) code_.db(0x67);
  code_.db(in_->zydis.opcode);
  code_.db(5);  // over the jump for the way on
  const std::uint32_t not_taken = code_.jump_later();
  emit_exit(in_->target);
  cold_.push_back({.kind = Cold::Kind::kExit, .from = not_taken, .target = in_->next()});
}

void Emitter::emit_call() {
  give_up_flags();
  look_up_push();
  store_pushed_constant(in_->next());
  move_stack_pointer(-static_cast<std::int32_t>(width()));
  emit_exit(in_->target);
}

void Emitter::emit_jump_indirect() {
  const ZydisDecodedOperand& operand = in_->operands[0];
  give_up_flags();
  if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
    emit_address(operand, true);
    emit_look_up(width(), false, false, page_slot_of(operand));
    if (trace_.mode.is_64()) code_.mov(r10, ptr[r11 + r10]);
    else code_.mov(r10d, ptr[r11 + r10]);
  } else {
    const int number = gpr_number(operand.reg.value);
    if (number == 10 || number == 11) load_slot(r10, number);
    else if (trace_.mode.is_64()) code_.mov(r10, Xbyak::Reg64(number));
    else code_.mov(r10d, Xbyak::Reg32(number));
  }
  emit_indirect_exit();
}

void Emitter::emit_call_indirect() {
  const ZydisDecodedOperand& operand = in_->operands[0];
  give_up_flags();
  if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
    emit_address(operand, true);
    emit_look_up(width(), false, false, page_slot_of(operand));
    if (trace_.mode.is_64()) code_.mov(r10, ptr[r11 + r10]);
    else code_.mov(r10d, ptr[r11 + r10]);
    code_.store(Word::kTarget, r10);
  }
  look_up_push();
  store_pushed_constant(in_->next());
  move_stack_pointer(-static_cast<std::int32_t>(width()));
  if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
    code_.load(r10, Word::kTarget);
  } else {
    const int number = gpr_number(operand.reg.value);
    if (number == 10 || number == 11) load_slot(r10, number);
    else if (trace_.mode.is_64()) code_.mov(r10, Xbyak::Reg64(number));
    else code_.mov(r10d, Xbyak::Reg32(number));
  }
  emit_indirect_exit();
}

void Emitter::emit_return() {
  give_up_flags();
  look_up_pop(rsp);
  if (trace_.mode.is_64()) code_.mov(r10, ptr[r11 + r10]);
  else code_.mov(r10d, ptr[r11 + r10]);
  std::uint32_t extra = 0;
  if (in_->operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && in_->zydis.raw.imm[0].size != 0) {
    extra = static_cast<std::uint32_t>(in_->operands[0].imm.value.u & 0xFFFF);
  }
  move_stack_pointer(static_cast<std::int32_t>(width() + extra));
  emit_indirect_exit();
}

}  // namespace bygone::cpu::translator::jit
