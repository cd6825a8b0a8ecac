// From a trace to host code.
//
// Flags: native while they last. Between blocks, and around a TLB look-up, they are in Word::kFlags, put there only when the
// liveness of trace.h says that somebody may read them, and taken back only for an instruction that does.
//
// Registers r10 and r11 are free between instructions; the guest's are in the block. An instruction changes nothing before its
// last memory access has passed, so that a way out in the middle leaves the state as it was before the instruction.
//
// Threading: one vCPU's thread.
#pragma once

#include <vector>

#include "cpu/translator/jit/assembler.h"
#include "cpu/translator/jit/cache.h"
#include "cpu/translator/jit/trace.h"

namespace bygone::cpu::translator::jit {

class Emitter {
 public:
  Emitter(Cache& cache, const Trace& trace);
  /// Emits the whole block at cache.code_end(); `block` gets its entry and marks. Returns the end of the code.
  [[nodiscard]] std::uint32_t emit(Block& block);

 private:
  struct Cold {
    enum class Kind : std::uint8_t { kMiss, kSlotMiss, kGiveUpSlot, kPoll, kVectors, kSaveAndExit, kExit, kStub, kInterpret } kind;
    std::uint32_t from = 0;    // displacement to patch to here
    std::uint32_t site = 0;    // kMiss, kSlotMiss, kGiveUpSlot
    std::uint32_t back = 0;    // kVectors
    std::uint64_t target = 0;  // exits
    SlotSite slot_site = {};   // kSlotMiss, kGiveUpSlot
  };

  // emitter.cpp: the block around instructions, and flags
  void emit_entry();
  void emit_instruction(std::size_t index);
  void emit_end();
  void emit_cold();
  void mark(const Instruction& in);
  void save_flags();
  /// Takes the flags back from their word, by way of `scratch`.
  void reload_flags(const Xbyak::Reg64& scratch);
  /// Before anything that destroys native flags in instruction `index`.
  void give_up_flags();
  void require_flags_for_exit(std::uint32_t live);
  [[nodiscard]] bool needs_native_flags() const;
  void note_flags_written();

  // emit_memory.cpp
  void emit_plain();
  void emit_memory();
  void emit_absolute_move();
  void emit_bit_test();
  void emit_lea();
  /// r10 = the operand's linear address.
  void emit_address(const ZydisDecodedOperand& operand, bool with_segment);
  /// r11 + r10 = its host address, or out. Destroys native flags.
  /// With a page slot, tries that one first.
  void emit_look_up(unsigned size, bool write, bool masked = false, std::uint32_t slot = kNoSlot);
  [[nodiscard]] std::uint32_t page_slot_of(const ZydisDecodedOperand& operand) const;
  [[nodiscard]] std::uint32_t loop_slot_of(int base) const;
  void emit_slot_miss(const Cold& cold);
  void emit_loop_slot_miss(const Cold& cold);
  /// r11 = where the code at `offset` runs; returns the displacement that says so.
  std::uint32_t emit_address_of(std::uint32_t offset);
  static constexpr std::uint32_t kNoSlot = ~std::uint32_t{0};
  /// r11 = host address, r10 free.
  void fold_address();
  void load_slot(const Xbyak::Reg64& into, int number);
  void store_slot(int number, const Xbyak::Reg64& from);
  [[nodiscard]] unsigned free_low_register() const;

  // emit_stack.cpp
  void emit_push();
  void emit_pop();
  void emit_leave();
  void emit_push_flags();
  void emit_pop_flags();
  void look_up_push();
  void look_up_pop(const Xbyak::Reg64& pointer);
  void store_pushed_constant(std::uint64_t value);
  void move_stack_pointer(std::int32_t by);
  [[nodiscard]] unsigned width() const { return trace_.mode.is_64() ? 8 : 4; }

  // emit_control.cpp
  void emit_jump();
  void emit_conditional();
  void emit_loop();
  void emit_call();
  void emit_jump_indirect();
  void emit_call_indirect();
  void emit_return();
  /// A jump to another block. Flags that are alive there are in their word.
  void emit_exit(std::uint64_t target);
  void emit_exit_stub(std::uint32_t patch_at, std::uint64_t target);
  /// A jump to the guest address in r10.
  void emit_indirect_exit();
  void emit_leave_to(std::uint32_t thunk, std::uint64_t rip);
  [[nodiscard]] bool is_same_page(std::uint64_t target) const;

  // emit_system.cpp
  void emit_direction();
  void emit_clear_interrupt();
  void emit_set_interrupt();
  void emit_time_stamp();
  void emit_string();
  void emit_system();
  void emit_swap_gs();
  void emit_read_control();

  Cache& cache_;
  const Trace& trace_;
  Assembler code_;
  const Instruction* in_ = nullptr;
  const Liveness* live_ = nullptr;
  bool flags_native_ = false;
  bool flags_saved_ = true;
  bool terminated_ = false;
  std::uint32_t entry_ = 0;
  std::vector<Cold> cold_;
};

}  // namespace bygone::cpu::translator::jit
