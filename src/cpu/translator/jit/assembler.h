// Xbyak with the few forms that translations use: the vCPU block through gs, tables below 2 GiB, and jumps over long distances
// that are filled in later. Flags are native; rsp is the guest's, so nothing here may push.
//
//   gs    the vCPU block            rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r12-r15   the guest's own
//   r10   address, scratch          r11   TLB entry, host page, scratch             guest r10, r11: in the block
//
// Threading: one vCPU's thread.
#pragma once

#include <xbyak/xbyak.h>

#include <cstdint>
#include <span>

#include "cpu/translator/jit/assembler_words.h"
#include "cpu/translator/jit/code_memory.h"
#include "cpu/translator/jit/instruction.h"
#include "cpu/translator/state.h"

namespace bygone::cpu::translator::jit {

/// An address without a register: in the vCPU block, or below 2 GiB.
[[nodiscard]] inline Xbyak::RegExp at(std::size_t displacement) { return Xbyak::RegExp(displacement); }

class Assembler : public Xbyak::CodeGenerator {
 public:
  /// Emits at `offset` of `memory`; throws Xbyak::Error when `space` is too small.
  Assembler(const CodeMemory& memory, std::uint32_t offset, std::size_t space)
      : CodeGenerator(space, memory.writable(offset)), memory_(memory), start_(offset) {}

  /// Offset in the code memory of the next byte.
  [[nodiscard]] std::uint32_t here() const { return start_ + static_cast<std::uint32_t>(getSize()); }

  void load(const Xbyak::Reg& reg, std::uint32_t block_offset) { gs_form(), mov(reg, ptr[at(block_offset)]); }
  void store(std::uint32_t block_offset, const Xbyak::Reg& reg) { gs_form(), mov(ptr[at(block_offset)], reg); }
  void load(const Xbyak::Reg& reg, Word which) { load(reg, word_offset(which)); }
  void store(Word which, const Xbyak::Reg& reg) { store(word_offset(which), reg); }
  void store_constant32(Word which, std::uint32_t value) { gs_form(), mov(dword[at(word_offset(which))], value); }
  void gs_form() { putSeg(Xbyak::util::gs); }

  /// FXSAVE64 into the vCPU block.
  void save_x87(std::size_t block_offset) {
    for (const int each : {0x65, 0x48, 0x0F, 0xAE, 0x04, 0x25}) db(each);
    dd(static_cast<std::uint32_t>(block_offset));
  }

  /// The shortest way to put a constant into a register without touching flags.
  void constant(const Xbyak::Reg64& reg, std::uint64_t value) {
    if (value <= 0xFFFF'FFFF) {
      mov(Xbyak::Reg32(reg.getIdx()), static_cast<std::uint32_t>(value));
    } else {
      mov(reg, value);
    }
  }

  void bytes(std::span<const std::uint8_t> code) {
    for (const std::uint8_t each : code) db(each);
  }

  /// jmp or jcc rel32 to be filled by patch(): returns where the displacement is.
  [[nodiscard]] std::uint32_t jump_later() {
    db(0xE9);
    dd(0);
    return here() - 4;
  }
  [[nodiscard]] std::uint32_t jump_later_if(std::uint8_t condition) {
    db(0x0F);
    db(0x80 | condition);
    dd(0);
    return here() - 4;
  }
  void jump_to(std::uint32_t target) { patch(memory_, jump_later(), target); }
  void patch_here(std::uint32_t at) { patch(memory_, at, here()); }
  /// Lets the displacement at `at` lead to `target`, both offsets in the code memory.
  static void patch(const CodeMemory& memory, std::uint32_t at, std::uint32_t target) {
    const std::uint32_t displacement = target - (at + 4);
    __builtin_memcpy(memory.writable(at), &displacement, sizeof displacement);
  }

  [[nodiscard]] const CodeMemory& memory() const { return memory_; }

 private:
  const CodeMemory& memory_;
  std::uint32_t start_;
};

/// How an instruction's memory operand is rewritten.
enum class MemoryForm : std::uint8_t {
  kBaseIndex,  ///< [r11 + r10]
  kBase,       ///< [r11]
  kLow,        ///< [low register], without a REX prefix
};

/// Emits `in` with its memory operand as `form` says; register fields that name guest r10 or r11 name `slot` instead.
void emit_redirected(Assembler& code, const Instruction& in, MemoryForm form, unsigned low_register, int slot);

}  // namespace bygone::cpu::translator::jit
