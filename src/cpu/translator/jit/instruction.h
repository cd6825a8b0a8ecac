// One guest instruction, decoded and sorted into what the translator does with it.
//
// Threading: plain data.
#pragma once

#include <Zydis/Zydis.h>

#include <array>
#include <cstdint>
#include <span>

#include "cpu/translator/state.h"

namespace bygone::cpu::translator::jit {

/// The arithmetic flags, as RFLAGS has them.
inline constexpr std::uint32_t kFlagCarry = 1U << 0, kFlagParity = 1U << 2, kFlagAuxiliary = 1U << 4, kFlagZero = 1U << 6,
                               kFlagSign = 1U << 7, kFlagOverflow = 1U << 11;
inline constexpr std::uint32_t kArithmeticFlags =
    kFlagCarry | kFlagParity | kFlagAuxiliary | kFlagZero | kFlagSign | kFlagOverflow;

/// What makes a translation differ for equal bytes: VcpuBlock::mode, and above it the TLB context and the translator's own bits.
struct ModeKey {
  std::uint32_t value = 0;
  static constexpr unsigned kContextShift = 16;
  static constexpr std::uint32_t kFsUnusable = 1U << 20;  ///< 32-bit code: FS holds a null selector
  static constexpr std::uint32_t kGsUnusable = 1U << 21;
  static constexpr std::uint32_t kTimeStampRefused = 1U << 22;  ///< user code under CR4.TSD
  [[nodiscard]] constexpr bool has(std::uint32_t bits) const { return (value & bits) == bits; }
  [[nodiscard]] constexpr bool is_64() const { return (value & kModeCodeWidthMask) == kModeCode64; }
  [[nodiscard]] constexpr bool is_user() const { return has(kModeUser); }
  [[nodiscard]] constexpr std::uint32_t context() const { return (value >> kContextShift) & 3; }
  /// The TLB table that instruction fetches use.
  [[nodiscard]] constexpr std::uint32_t exec_context() const { return is_user() ? kTlbUser : kTlbSupervisor; }
  friend constexpr bool operator==(ModeKey, ModeKey) = default;
};

enum class Kind : std::uint8_t {
  kFallback,      ///< the interpreter's
  kPlain,         ///< registers only: copied
  kNothing,       ///< no-operation, hints, prefetches
  kMemory,        ///< one explicit memory operand: redirected
  kAbsoluteMove,  ///< MOV between the accumulator and an absolute address
  kBitTest,       ///< BT, BTS, BTR, BTC with a memory operand and a register index
  kLea,
  kPush,
  kPop,
  kLeave,
  kPushFlags,
  kPopFlags,
  kDirection,  ///< CLD, STD
  kClearInterrupt,
  kSetInterrupt,
  kString,
  kTimeStamp,
  kSwapGs,
  kReadControl,   ///< MOV from CR0, CR2, CR3 or CR4
  kJump,          ///< direct
  kConditional,   ///< Jcc
  kLoop,          ///< LOOP, LOOPE, LOOPNE, JCXZ…
  kCall,          ///< direct
  kJumpIndirect,
  kCallIndirect,
  kReturn,
  kSystem,        ///< SYSCALL, SYSRET, IRETQ, STAC, CLAC: the run time's
};

struct Instruction {
  ZydisDecodedInstruction zydis;
  std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
  std::array<std::uint8_t, 15> bytes = {};
  std::uint64_t rip = 0;
  Kind kind = Kind::kFallback;
  std::uint8_t memory = 0xFF;       ///< index of the explicit memory operand
  std::uint8_t memory_size = 0;     ///< bytes
  bool memory_write = false;
  bool masked = false;              ///< elements that a mask leaves out raise no fault
  bool needs_vectors = false;       ///< touches x87, MMX or vector registers
  bool high_byte = false;           ///< names AH, CH, DH or BH
  std::uint8_t slots_used = 0;      ///< bit 0: guest r10, bit 1: guest r11, outside of memory operands
  std::uint8_t slots_written = 0;
  std::uint8_t opcode_at = 0;       ///< offset of the opcode, or of the VEX or EVEX prefix
  std::uint8_t rex = 0;
  std::uint32_t flags_read = 0;
  std::uint32_t flags_written = 0;  ///< surely overwritten
  std::uint32_t flags_touched = 0;  ///< overwritten perhaps
  std::uint64_t target = 0;         ///< of direct branches

  [[nodiscard]] std::uint64_t next() const { return rip + zydis.length; }
  [[nodiscard]] const ZydisDecodedOperand& memory_operand() const { return operands[memory]; }
  [[nodiscard]] bool ends_block() const { return kind >= Kind::kJump && kind != Kind::kConditional; }
};

class Decoder {
 public:
  Decoder();
  /// Decodes the instruction at the start of `bytes`. False when it is cut off or invalid.
  [[nodiscard]] bool decode(ModeKey mode, std::span<const std::uint8_t> bytes, std::uint64_t rip, Instruction& out) const;

 private:
  ZydisDecoder decoder64_;
  ZydisDecoder decoder32_;
};

/// Number of a general register's whole (0-15), or -1.
[[nodiscard]] int gpr_number(ZydisRegister reg);

}  // namespace bygone::cpu::translator::jit
