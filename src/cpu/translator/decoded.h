// A decoded instruction as the interpreter runs it.
#pragma once

#include <Zydis/Zydis.h>

#include <cstdint>

namespace bygone::cpu::translator {

class Core;
struct Decoded;
struct VcpuBlock;

using Handler = void (*)(Core&, const Decoded&);
/// A generated piece of code that runs one guest instruction natively on the block's registers and a host memory operand. Not 0: the
/// host took a floating-point exception that the guest has not masked; nothing but MXCSR has changed.
using Thunk = std::uint32_t (*)(VcpuBlock* block, void* memory);

inline constexpr std::uint8_t kNoRegister = 0xFF;
inline constexpr std::uint8_t kBaseRip = 16;
inline constexpr std::uint8_t kHighByte = 0x10;  ///< added to a register number: AH, CH, DH, BH

/// What a native instruction does with its memory operand and which registers it needs.
enum NativeFlags : std::uint16_t {
  kNativeReads = 1U << 0,
  kNativeWrites = 1U << 1,
  kNativeX87 = 1U << 2,       ///< x87 state is loaded and stored; may raise #MF of an earlier instruction
  kNativeX87Waits = 1U << 3,  ///< checks for pending x87 exceptions first
  kNativeMmx = 1U << 4,
  kNativeSse = 1U << 5,
  kNativeAvx = 1U << 6,
  kNativeFloat = 1U << 7,     ///< may set MXCSR status and raise #XM
  kNativeAligned = 1U << 8,   ///< the memory operand must be aligned to its size
  kNativeBitString = 1U << 9,  ///< BT family with a register offset: the address moves with the register
  kNativeX87Data = 1U << 10,  ///< updates the x87 instruction pointer
  kNativeMasked = 1U << 11,   ///< a masked memory operand: elements that the opmask leaves out are not touched
  kNativeAvx512 = 1U << 12,   ///< EVEX, or works on opmask registers
};

/// Instructions whose VEX or EVEX bit W chooses the width of a general register or of as much memory. Outside 64-bit mode, where
/// there is one width, it is ignored.
[[nodiscard]] constexpr bool has_general_width(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_VMOVD: case ZYDIS_MNEMONIC_VMOVQ: case ZYDIS_MNEMONIC_VPINSRD: case ZYDIS_MNEMONIC_VPINSRQ:
    case ZYDIS_MNEMONIC_VPEXTRD: case ZYDIS_MNEMONIC_VPEXTRQ: case ZYDIS_MNEMONIC_VCVTSI2SD: case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTUSI2SD: case ZYDIS_MNEMONIC_VCVTUSI2SS: case ZYDIS_MNEMONIC_VCVTSD2SI: case ZYDIS_MNEMONIC_VCVTSS2SI:
    case ZYDIS_MNEMONIC_VCVTTSD2SI: case ZYDIS_MNEMONIC_VCVTTSS2SI: case ZYDIS_MNEMONIC_VCVTSD2USI: case ZYDIS_MNEMONIC_VCVTSS2USI:
    case ZYDIS_MNEMONIC_VCVTTSD2USI: case ZYDIS_MNEMONIC_VCVTTSS2USI: case ZYDIS_MNEMONIC_VPBROADCASTD: case ZYDIS_MNEMONIC_VPBROADCASTQ:
      return true;
    default: return false;
  }
}

struct Decoded {
  Handler handler = nullptr;
  Thunk thunk = nullptr;
  std::int64_t displacement = 0;
  std::uint64_t immediate = 0;
  std::uint8_t length = 0;
  std::uint8_t operand_size = 4;  ///< bytes
  std::uint8_t address_size = 8;  ///< bytes
  std::uint8_t segment = 3;       ///< SegmentName of the memory operand
  std::uint8_t base = kNoRegister, index = kNoRegister, scale = 1;
  std::uint8_t reg = 0;           ///< first register of interest (destination, or ModRM.reg); | kHighByte
  std::uint8_t rm = 0;            ///< second register
  std::uint8_t condition = 0;     ///< low nibble of Jcc and friends
  std::uint8_t rep = 0;           ///< 0, 0xF2 or 0xF3
  std::uint8_t lock = 0;
  std::uint16_t native = 0;       ///< NativeFlags
  std::uint16_t memory_size = 0;  ///< bytes
  std::uint16_t mnemonic = 0;     ///< ZydisMnemonic
  std::uint8_t operands = 0;      ///< small per-handler selector
  std::uint8_t is_memory = 0;     ///< has a memory operand
  std::uint8_t is_far = 0;        ///< a far jump, call or return
  std::uint8_t mask = 0;          ///< opmask register of an EVEX instruction, 0: none
  std::uint8_t mask_element = 0;  ///< bytes of an element in memory
  std::uint8_t mask_lanes = 0;    ///< elements of the vector that the opmask's bits stand for
  std::uint8_t is_packed = 0;     ///< compressed or expanded: only as many elements in memory as mask bits are set
};

}  // namespace bygone::cpu::translator
