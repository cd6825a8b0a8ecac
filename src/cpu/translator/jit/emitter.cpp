#include "cpu/translator/jit/emitter.h"

namespace bygone::cpu::translator::jit {

using namespace Xbyak::util;

namespace {
constexpr std::size_t kSpace = 60000;
}

Emitter::Emitter(Cache& cache, const Trace& trace)
    : cache_(cache), trace_(trace), code_(cache.code(), cache.code_end(), kSpace) {
  cold_.reserve(128);
}

std::uint32_t Emitter::emit(Block& block) {
  block.first_mark = cache_.mark_end();
  entry_ = block.entry = code_.here();
  if (trace_.count == 0) {
    block.interpret = true;
    emit_leave_to(cache_.thunks().leave_interpret, trace_.address);
  } else {
    emit_entry();
    for (std::size_t i = 0; i < trace_.count && !terminated_; ++i) emit_instruction(i);
    if (!terminated_) emit_end();
    emit_cold();
  }
  block.mark_count = static_cast<std::uint16_t>(cache_.mark_end() - block.first_mark);
  return code_.here();
}

void Emitter::emit_entry() {
  // Interrupts and kicks: every block asks, so no loop goes on for long. Flags are in their word.
  code_.gs_form();
  code_.cmp(dword[at(offset::kAttention)], 0);
  cold_.push_back({.kind = Cold::Kind::kPoll, .from = code_.jump_later_if(5)});
  if (trace_.needs_vectors) {
    code_.gs_form();
    code_.cmp(dword[at(word_offset(Word::kVectorsHome))], 0);
    const std::uint32_t from = code_.jump_later_if(5);
    cold_.push_back({.kind = Cold::Kind::kVectors, .from = from, .back = code_.here()});
  }
}

void Emitter::emit_end() {
  require_flags_for_exit(trace_.flags_at_end);
  if (trace_.ends_with_fallback) emit_leave_to(cache_.thunks().leave_interpret, trace_.end);
  else emit_exit(trace_.end);
}

void Emitter::emit_instruction(std::size_t index) {
  in_ = &trace_.instructions[index];
  live_ = &trace_.liveness[index];
  switch (in_->kind) {
    case Kind::kFallback:  // never in a trace
    case Kind::kNothing: break;
    case Kind::kPlain: emit_plain(); break;
    case Kind::kMemory: emit_memory(); break;
    case Kind::kAbsoluteMove: emit_absolute_move(); break;
    case Kind::kBitTest: emit_bit_test(); break;
    case Kind::kLea: emit_lea(); break;
    case Kind::kPush: emit_push(); break;
    case Kind::kPop: emit_pop(); break;
    case Kind::kLeave: emit_leave(); break;
    case Kind::kPushFlags: emit_push_flags(); break;
    case Kind::kPopFlags: emit_pop_flags(); break;
    case Kind::kDirection: emit_direction(); break;
    case Kind::kClearInterrupt: emit_clear_interrupt(); break;
    case Kind::kSetInterrupt: emit_set_interrupt(); break;
    case Kind::kString: emit_string(); break;
    case Kind::kTimeStamp: emit_time_stamp(); break;
    case Kind::kSwapGs: emit_swap_gs(); break;
    case Kind::kReadControl: emit_read_control(); break;
    case Kind::kSystem: emit_system(); break;
    case Kind::kJump: emit_jump(); break;
    case Kind::kConditional: emit_conditional(); break;
    case Kind::kLoop: emit_loop(); break;
    case Kind::kCall: emit_call(); break;
    case Kind::kJumpIndirect: emit_jump_indirect(); break;
    case Kind::kCallIndirect: emit_call_indirect(); break;
    case Kind::kReturn: emit_return(); break;
  }
  if (in_->ends_block()) terminated_ = true;
}

void Emitter::mark(const Instruction& in) {
  static_assert(kSpace <= 0xFFFF && Tracer::kMaximumInstructions * 15 <= 0x7FFF);
  cache_.add_mark({.code = static_cast<std::uint16_t>(code_.here() - entry_),
                   .guest = static_cast<std::uint16_t>((in.rip - trace_.address) & 0x7FFF),
                   .flags_in_hardware = flags_native_ ? std::uint16_t{1} : std::uint16_t{0}});
}

void Emitter::save_flags() {
  if (flags_saved_) return;
  code_.mov(r11, rax);
  code_.lahf();
  code_.seto(al);
  code_.store(word_offset(Word::kFlags), eax);
  code_.mov(rax, r11);
  flags_saved_ = true;
}

void Emitter::reload_flags(const Xbyak::Reg64& scratch) {
  code_.mov(scratch, rax);
  code_.load(eax, word_offset(Word::kFlags));
  code_.add(al, 0x7F);  // OF from bit 0
  code_.sahf();
  code_.mov(rax, scratch);
  flags_native_ = true;
}

void Emitter::give_up_flags() {
  if (live_->before != 0) save_flags();
  flags_native_ = false;
}

void Emitter::require_flags_for_exit(std::uint32_t live) {
  if (live != 0) save_flags();
}

bool Emitter::needs_native_flags() const {
  return in_->flags_read != 0 || (in_->flags_touched != 0 && (live_->after & ~in_->flags_written) != 0);
}

void Emitter::note_flags_written() {
  if (in_->flags_touched == 0) return;
  flags_native_ = true;
  flags_saved_ = false;
}

std::uint32_t Emitter::emit_address_of(std::uint32_t offset) {
  code_.bytes(std::array<std::uint8_t, 3>{0x4C, 0x8D, 0x1D});  // lea r11, [rip + displacement]
  code_.dd(0);
  const std::uint32_t displacement = code_.here() - 4;
  Assembler::patch(code_.memory(), displacement, offset);
  return displacement;
}

void Emitter::emit_leave_to(std::uint32_t thunk, std::uint64_t rip) {
  code_.constant(r10, rip);
  code_.store(static_cast<std::uint32_t>(offset::kRip), r10);
  code_.jump_to(thunk);
}

void Emitter::emit_cold() {
  for (std::size_t i = 0; i < cold_.size(); ++i) {
    const Cold cold = cold_[i];
    if (cold.kind == Cold::Kind::kStub) {
      emit_exit_stub(cold.from, cold.target);
      continue;
    }
    code_.patch_here(cold.from);
    switch (cold.kind) {
      case Cold::Kind::kMiss:
      case Cold::Kind::kGiveUpSlot: {
        const Site& site = cache_.site(cold.site);
        // The subtraction is undone: r11 still is the entry.
        code_.add(r10, ptr[r11 + std::size_t{site.tag}]);
        code_.store_constant32(Word::kSite, cold.site);
        if (cold.kind == Cold::Kind::kGiveUpSlot) {
          code_.store_constant32(Word::kSlotTest, cold.slot_site.test);
          code_.store_constant32(Word::kNoSlot, cold.slot_site.no_slot);
          code_.store_constant32(Word::kFillJump, cold.slot_site.fill_jump);
        }
        code_.jump_to(cold.kind == Cold::Kind::kMiss ? cache_.thunks().fill : cache_.thunks().give_up_slot);
        break;
      }
      case Cold::Kind::kSlotMiss: emit_slot_miss(cold); break;
      case Cold::Kind::kPoll: emit_leave_to(cache_.thunks().leave_attention, trace_.address); break;
      case Cold::Kind::kVectors:
        emit_address_of(cold.back);
        code_.jump_to(cache_.thunks().load_vectors);
        break;
      case Cold::Kind::kSaveAndExit:
        flags_saved_ = false;
        save_flags();
        emit_exit(cold.target);
        break;
      case Cold::Kind::kExit: emit_exit(cold.target); break;
      case Cold::Kind::kInterpret: emit_leave_to(cache_.thunks().leave_interpret, cold.target); break;
      case Cold::Kind::kStub: break;
    }
  }
}

}  // namespace bygone::cpu::translator::jit
