#include "cpu/translator/jit/instruction.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <vector>

namespace bygone::cpu::translator::jit {
namespace {

constexpr ModeKey k32{kModeCode32 | kModeUser | kModeStack32 | kModeFlat | kModeSse | kModeAvx};

Kind kind_of(ModeKey mode, std::initializer_list<std::uint8_t> bytes) {
  const std::vector<std::uint8_t> code(bytes);
  Instruction instruction;
  EXPECT_TRUE(Decoder().decode(mode, code, 0x1000, instruction));
  return instruction.kind;
}

// Bits that name registers 8 to 15 are ignored by 32-bit code, but the translation runs in 64-bit mode.

TEST(Instruction32, vex_with_the_bit_of_high_registers_is_not_copied) {
  EXPECT_EQ(kind_of(k32, {0xC4, 0xE2, 0x75, 0x2B, 0xF7}), Kind::kPlain);     // vpackusdw ymm6, ymm1, ymm7
  EXPECT_EQ(kind_of(k32, {0xC4, 0xC2, 0x75, 0x2B, 0xF7}), Kind::kFallback);  // the same with VEX.B
}

TEST(Instruction32, vex_with_a_high_second_source_is_not_copied) {
  EXPECT_EQ(kind_of(k32, {0xC4, 0xE1, 0x35, 0xDD, 0xC0}), Kind::kFallback);  // vpaddusw ymm0, ymm9, ymm0
}

TEST(Instruction32, register_in_an_immediate_with_its_top_bit_is_not_copied) {
  EXPECT_EQ(kind_of(k32, {0xC4, 0xE3, 0x75, 0x4A, 0xC3, 0x40}), Kind::kPlain);     // vblendvps ymm0, ymm1, ymm3, ymm4
  EXPECT_EQ(kind_of(k32, {0xC4, 0xE3, 0x75, 0x4A, 0xC3, 0xC0}), Kind::kFallback);
}

TEST(Instruction32, vzeroupper_is_not_copied_since_it_would_clear_sixteen_registers) {
  EXPECT_EQ(kind_of(k32, {0xC5, 0xF8, 0x77}), Kind::kFallback);
}

TEST(Instruction32, vex_w_that_would_widen_a_general_operand_in_memory_is_not_copied) {
  EXPECT_EQ(kind_of(k32, {0xC4, 0xE3, 0x59, 0x22, 0x2F, 0xF7}), Kind::kMemory);    // vpinsrd xmm5, xmm4, [edi], 0xF7
  EXPECT_EQ(kind_of(k32, {0xC4, 0xE3, 0xD9, 0x22, 0x2F, 0xF7}), Kind::kFallback);  // in 64-bit mode vpinsrq
}

}  // namespace
}  // namespace bygone::cpu::translator::jit
