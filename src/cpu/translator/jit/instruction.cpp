#include "cpu/translator/jit/instruction.h"

#include <algorithm>

#include "cpu/translator/decoder.h"

namespace bygone::cpu::translator::jit {
namespace {

enum class Unit : std::uint8_t { kRefused, kInteger, kX87, kSse, kAvx, kAvx512 };

/// The instruction set extensions that may be executed as they are. What is not listed goes to the interpreter.
Unit unit_of(const ZydisDecodedInstruction& instruction) {
  // FCOMI and its kin came with the Pentium Pro; fences, MOVNTI and CRC32 with SSE, but have nothing to do with vectors.
  if (instruction.meta.category == ZYDIS_CATEGORY_X87_ALU || instruction.meta.category == ZYDIS_CATEGORY_FCMOV) return Unit::kX87;
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_LFENCE: case ZYDIS_MNEMONIC_MFENCE: case ZYDIS_MNEMONIC_SFENCE: case ZYDIS_MNEMONIC_MOVNTI:
    case ZYDIS_MNEMONIC_CRC32:
      return Unit::kInteger;
    default:
      break;
  }
  const ZydisISASet set = instruction.meta.isa_set;
  switch (set) {
    case ZYDIS_ISA_SET_I86: case ZYDIS_ISA_SET_I186: case ZYDIS_ISA_SET_I386: case ZYDIS_ISA_SET_I486REAL:
    case ZYDIS_ISA_SET_I486: case ZYDIS_ISA_SET_PENTIUMREAL: case ZYDIS_ISA_SET_PPRO: case ZYDIS_ISA_SET_CMOV:
    case ZYDIS_ISA_SET_LONGMODE: case ZYDIS_ISA_SET_LAHF: case ZYDIS_ISA_SET_BMI1: case ZYDIS_ISA_SET_BMI2:
    case ZYDIS_ISA_SET_LZCNT: case ZYDIS_ISA_SET_POPCNT: case ZYDIS_ISA_SET_ADOX_ADCX: case ZYDIS_ISA_SET_MOVBE:
    case ZYDIS_ISA_SET_CMPXCHG16B: case ZYDIS_ISA_SET_FAT_NOP: case ZYDIS_ISA_SET_PREFETCH_NOP:
    case ZYDIS_ISA_SET_SSE_PREFETCH: case ZYDIS_ISA_SET_PREFETCHWT1: case ZYDIS_ISA_SET_PAUSE: case ZYDIS_ISA_SET_RDRAND:
    case ZYDIS_ISA_SET_RDSEED: case ZYDIS_ISA_SET_CET:
      return Unit::kInteger;
    case ZYDIS_ISA_SET_X87: case ZYDIS_ISA_SET_SSE3X87: case ZYDIS_ISA_SET_FCMOV: case ZYDIS_ISA_SET_PENTIUMMMX:
    case ZYDIS_ISA_SET_SSE2MMX: case ZYDIS_ISA_SET_SSSE3MMX:
      return Unit::kX87;
    case ZYDIS_ISA_SET_SSE: case ZYDIS_ISA_SET_SSE2: case ZYDIS_ISA_SET_SSE3: case ZYDIS_ISA_SET_SSSE3:
    case ZYDIS_ISA_SET_SSE4: case ZYDIS_ISA_SET_SSE42: case ZYDIS_ISA_SET_SSEMXCSR: case ZYDIS_ISA_SET_AES:
    case ZYDIS_ISA_SET_PCLMULQDQ:
      return Unit::kSse;
    case ZYDIS_ISA_SET_AVX: case ZYDIS_ISA_SET_AVX2: case ZYDIS_ISA_SET_FMA: case ZYDIS_ISA_SET_F16C: case ZYDIS_ISA_SET_AVXAES:
      return Unit::kAvx;
    default:
      break;
  }
  if (!host_carries(instruction.meta.isa_ext, set)) return Unit::kRefused;
  switch (set) {
    case ZYDIS_ISA_SET_SHA: case ZYDIS_ISA_SET_GFNI: return Unit::kSse;
    case ZYDIS_ISA_SET_VAES: case ZYDIS_ISA_SET_VPCLMULQDQ: case ZYDIS_ISA_SET_AVX_GFNI: return Unit::kAvx;
    default: break;
  }
  if (set >= ZYDIS_ISA_SET_AVX512BW_128 && set <= ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_512) return Unit::kAvx512;
  return Unit::kRefused;
}

bool unit_allowed(Unit unit, ModeKey mode) {
  switch (unit) {
    case Unit::kInteger: return true;
    case Unit::kX87: return !mode.has(kModeFpuTrap);
    case Unit::kSse: return !mode.has(kModeFpuTrap) && mode.has(kModeSse);
    case Unit::kAvx: return !mode.has(kModeFpuTrap) && mode.has(kModeSse | kModeAvx);
    case Unit::kAvx512: return !mode.has(kModeFpuTrap) && mode.has(kModeSse | kModeAvx | kModeAvx512);
    case Unit::kRefused: break;
  }
  return false;
}

bool is_legacy_prefix(std::uint8_t byte) {
  switch (byte) {
    case 0x26: case 0x2E: case 0x36: case 0x3E: case 0x64: case 0x65: case 0x66: case 0x67: case 0xF0: case 0xF2: case 0xF3:
      return true;
    default:
      return false;
  }
}

/// Shifts and rotates whose count may be zero leave all flags alone then.
bool writes_flags_perhaps(const Instruction& in) {
  switch (in.zydis.mnemonic) {
    case ZYDIS_MNEMONIC_SHL: case ZYDIS_MNEMONIC_SHR: case ZYDIS_MNEMONIC_SAR: case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR: case ZYDIS_MNEMONIC_RCL: case ZYDIS_MNEMONIC_RCR: case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
      break;
    default:
      return false;
  }
  const std::uint64_t limit = in.zydis.operand_width == 64 ? 63 : 31;
  for (std::uint8_t i = 0; i < in.zydis.operand_count; ++i) {
    const ZydisDecodedOperand& operand = in.operands[i];
    if (operand.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) return (operand.imm.value.u & limit) == 0;
  }
  return true;
}

Kind kind_of_flag_operation(ZydisMnemonic mnemonic, ModeKey mode) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_CLC: case ZYDIS_MNEMONIC_STC: case ZYDIS_MNEMONIC_CMC: case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_SAHF:
      return Kind::kPlain;
    case ZYDIS_MNEMONIC_CLD: case ZYDIS_MNEMONIC_STD: return Kind::kDirection;
    case ZYDIS_MNEMONIC_CLI: return mode.has(kModePrivileged) ? Kind::kClearInterrupt : Kind::kFallback;
    case ZYDIS_MNEMONIC_STI: return mode.has(kModePrivileged) ? Kind::kSetInterrupt : Kind::kFallback;
    default: return Kind::kFallback;
  }
}

Kind kind_of_branch(const Instruction& in, ModeKey mode) {
  if (in.zydis.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) return Kind::kFallback;
  const unsigned width = mode.is_64() ? 64 : 32;
  if (in.zydis.operand_width == 16) return Kind::kFallback;
  const bool is_call = in.zydis.meta.category == ZYDIS_CATEGORY_CALL;
  switch (in.zydis.mnemonic) {
    case ZYDIS_MNEMONIC_JMP: case ZYDIS_MNEMONIC_CALL: {
      const ZydisDecodedOperand& to = in.operands[0];
      if (to.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) return is_call ? Kind::kCall : Kind::kJump;
      if (to.size != width) return Kind::kFallback;
      if (to.type == ZYDIS_OPERAND_TYPE_REGISTER && is_call && gpr_number(to.reg.value) == 4) return Kind::kFallback;
      return is_call ? Kind::kCallIndirect : Kind::kJumpIndirect;
    }
    case ZYDIS_MNEMONIC_LOOP: case ZYDIS_MNEMONIC_LOOPE: case ZYDIS_MNEMONIC_LOOPNE: case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ: case ZYDIS_MNEMONIC_JRCXZ:
      return in.zydis.address_width == width ? Kind::kLoop : Kind::kFallback;
    default:
      break;
  }
  return in.zydis.meta.category == ZYDIS_CATEGORY_COND_BR && in.operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE
             ? Kind::kConditional
             : Kind::kFallback;
}

Kind kind_of_stack_operation(const Instruction& in, ModeKey mode) {
  const unsigned width = mode.is_64() ? 64 : 32;
  switch (in.zydis.mnemonic) {
    case ZYDIS_MNEMONIC_PUSHFQ: case ZYDIS_MNEMONIC_PUSHFD:
      return in.zydis.operand_width == width ? Kind::kPushFlags : Kind::kFallback;
    case ZYDIS_MNEMONIC_POPFQ: case ZYDIS_MNEMONIC_POPFD:
      return in.zydis.operand_width == width && mode.has(kModePrivileged) ? Kind::kPopFlags : Kind::kFallback;
    case ZYDIS_MNEMONIC_PUSH: case ZYDIS_MNEMONIC_POP: break;
    default: return Kind::kFallback;
  }
  if (in.zydis.operand_width != width) return Kind::kFallback;
  const bool is_push = in.zydis.mnemonic == ZYDIS_MNEMONIC_PUSH;
  const ZydisDecodedOperand& operand = in.operands[0];
  if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER) {
    if (gpr_number(operand.reg.value) < 0) return Kind::kFallback;
  } else if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY && !is_push) {
    return Kind::kFallback;  // its address is computed with the new stack pointer
  }
  return is_push ? Kind::kPush : Kind::kPop;
}

Kind kind_of_string(const Instruction& in, ModeKey mode) {
  const unsigned width = mode.is_64() ? 64 : 32;
  if (in.zydis.address_width != width && in.zydis.address_width != 32) return Kind::kFallback;
  switch (in.zydis.mnemonic) {
    case ZYDIS_MNEMONIC_MOVSB: case ZYDIS_MNEMONIC_MOVSW: case ZYDIS_MNEMONIC_MOVSD: case ZYDIS_MNEMONIC_MOVSQ:
    case ZYDIS_MNEMONIC_STOSB: case ZYDIS_MNEMONIC_STOSW: case ZYDIS_MNEMONIC_STOSD: case ZYDIS_MNEMONIC_STOSQ:
      break;
    default: return Kind::kFallback;
  }
  for (std::uint8_t i = 0; i < in.zydis.operand_count; ++i) {
    const ZydisDecodedOperand& operand = in.operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
    if (operand.mem.segment == ZYDIS_REGISTER_FS || operand.mem.segment == ZYDIS_REGISTER_GS) return Kind::kFallback;
  }
  return Kind::kString;
}

/// Ring changes of 64-bit code, which the run time carries out; others are the interpreter's.
Kind kind_of_system_operation(const Instruction& in, ModeKey mode) {
  if (!mode.is_64()) return Kind::kFallback;
  switch (in.zydis.mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL: return mode.is_user() ? Kind::kSystem : Kind::kFallback;
    case ZYDIS_MNEMONIC_SYSRET: case ZYDIS_MNEMONIC_IRETQ:
      return mode.has(kModePrivileged) && in.zydis.operand_width == 64 ? Kind::kSystem : Kind::kFallback;
    case ZYDIS_MNEMONIC_STAC: case ZYDIS_MNEMONIC_CLAC: return mode.has(kModePrivileged) ? Kind::kSystem : Kind::kFallback;
    case ZYDIS_MNEMONIC_SWAPGS: return mode.has(kModePrivileged) ? Kind::kSwapGs : Kind::kFallback;
    default: return Kind::kFallback;
  }
}

Kind kind_by_category(const Instruction& in, ModeKey mode) {
  if (const Kind kind = kind_of_system_operation(in, mode); kind != Kind::kFallback) return kind;
  switch (in.zydis.meta.category) {
    case ZYDIS_CATEGORY_CALL: case ZYDIS_CATEGORY_UNCOND_BR: case ZYDIS_CATEGORY_COND_BR:
      return kind_of_branch(in, mode);
    case ZYDIS_CATEGORY_RET:
      return in.zydis.mnemonic == ZYDIS_MNEMONIC_RET && in.zydis.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR &&
                     in.zydis.operand_width == (mode.is_64() ? 64 : 32)
                 ? Kind::kReturn
                 : Kind::kFallback;
    case ZYDIS_CATEGORY_PUSH: case ZYDIS_CATEGORY_POP:
      return kind_of_stack_operation(in, mode);
    case ZYDIS_CATEGORY_FLAGOP:
      return kind_of_flag_operation(in.zydis.mnemonic, mode);
    case ZYDIS_CATEGORY_STRINGOP:
      return kind_of_string(in, mode);
    case ZYDIS_CATEGORY_PREFETCH: case ZYDIS_CATEGORY_NOP: case ZYDIS_CATEGORY_WIDENOP:
      return Kind::kNothing;
    case ZYDIS_CATEGORY_SYSTEM: case ZYDIS_CATEGORY_INTERRUPT: case ZYDIS_CATEGORY_IO: case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_SEGOP: case ZYDIS_CATEGORY_SYSCALL: case ZYDIS_CATEGORY_SYSRET: case ZYDIS_CATEGORY_DECIMAL:
    case ZYDIS_CATEGORY_GATHER: case ZYDIS_CATEGORY_SCATTER: case ZYDIS_CATEGORY_AVX2GATHER: case ZYDIS_CATEGORY_XSAVE:
    case ZYDIS_CATEGORY_XSAVEOPT: case ZYDIS_CATEGORY_SMAP:
      return in.zydis.mnemonic == ZYDIS_MNEMONIC_RDTSC && !mode.has(ModeKey::kTimeStampRefused) ? Kind::kTimeStamp : Kind::kFallback;
    default:
      break;
  }
  switch (in.zydis.mnemonic) {
    case ZYDIS_MNEMONIC_LEA: return Kind::kLea;
    case ZYDIS_MNEMONIC_NOP: case ZYDIS_MNEMONIC_ENDBR32: case ZYDIS_MNEMONIC_ENDBR64: return Kind::kNothing;
    case ZYDIS_MNEMONIC_LEAVE:
      return in.zydis.operand_width == (mode.is_64() ? 64 : 32) ? Kind::kLeave : Kind::kFallback;
    case ZYDIS_MNEMONIC_CPUID: case ZYDIS_MNEMONIC_ENTER: case ZYDIS_MNEMONIC_BOUND: case ZYDIS_MNEMONIC_XLAT:
    case ZYDIS_MNEMONIC_UD0: case ZYDIS_MNEMONIC_UD1: case ZYDIS_MNEMONIC_UD2: case ZYDIS_MNEMONIC_SALC:
    case ZYDIS_MNEMONIC_FNSTENV: case ZYDIS_MNEMONIC_FLDENV: case ZYDIS_MNEMONIC_FNSAVE: case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_RSM: case ZYDIS_MNEMONIC_WBINVD: case ZYDIS_MNEMONIC_INVD: case ZYDIS_MNEMONIC_HLT:
    case ZYDIS_MNEMONIC_ARPL: case ZYDIS_MNEMONIC_MASKMOVQ: case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
      return Kind::kFallback;
    default:
      break;
  }
  if (in.zydis.meta.isa_set == ZYDIS_ISA_SET_CET) return Kind::kFallback;
  return Kind::kPlain;
}

bool is_ordinary_register_class(ZydisRegisterClass of) {
  switch (of) {
    case ZYDIS_REGCLASS_GPR8: case ZYDIS_REGCLASS_GPR16: case ZYDIS_REGCLASS_GPR32: case ZYDIS_REGCLASS_GPR64:
    case ZYDIS_REGCLASS_X87: case ZYDIS_REGCLASS_MMX: case ZYDIS_REGCLASS_XMM: case ZYDIS_REGCLASS_YMM: case ZYDIS_REGCLASS_ZMM:
    case ZYDIS_REGCLASS_MASK: case ZYDIS_REGCLASS_FLAGS:
      return true;
    default:
      return false;
  }
}

bool is_ordinary_register(ZydisRegister reg) {
  if (is_ordinary_register_class(ZydisRegisterGetClass(reg))) return true;
  switch (reg) {
    case ZYDIS_REGISTER_X87CONTROL: case ZYDIS_REGISTER_X87STATUS: case ZYDIS_REGISTER_X87TAG: case ZYDIS_REGISTER_MXCSR:
    case ZYDIS_REGISTER_RIP: case ZYDIS_REGISTER_EIP:
      return true;
    default:
      return false;
  }
}

/// Operand by operand: memory, slots, registers that need care. False: the interpreter's.
bool collect_operands(Instruction& in, ModeKey mode) {
  for (std::uint8_t i = 0; i < in.zydis.operand_count; ++i) {
    const ZydisDecodedOperand& operand = in.operands[i];
    if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
      if (operand.visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN || in.kind == Kind::kString) {
        if (in.kind == Kind::kPlain) return false;
        continue;  // the stack, or a string's
      }
      if (operand.mem.type == ZYDIS_MEMOP_TYPE_AGEN) {
        if (in.kind != Kind::kLea) return false;
      } else if (operand.mem.type != ZYDIS_MEMOP_TYPE_MEM) {
        return false;
      }
      in.memory = i;
      in.memory_size = static_cast<std::uint8_t>(operand.size / 8);
      in.memory_write = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
      if (in.kind != Kind::kLea && (operand.size == 0 || operand.size > 512)) return false;
      if (in.zydis.address_width == 16) return false;
      if (operand.mem.segment == ZYDIS_REGISTER_FS && mode.has(ModeKey::kFsUnusable)) return false;
      if (operand.mem.segment == ZYDIS_REGISTER_GS && mode.has(ModeKey::kGsUnusable)) return false;
    } else if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER) {
      if (!is_ordinary_register(operand.reg.value)) return false;
      if (operand.reg.value >= ZYDIS_REGISTER_AH && operand.reg.value <= ZYDIS_REGISTER_BH) in.high_byte = true;
      const int number = gpr_number(operand.reg.value);
      if (number == 10 || number == 11) {
        const auto bit = static_cast<std::uint8_t>(1U << (number - 10));
        in.slots_used |= bit;
        if ((operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0) in.slots_written |= bit;
      }
      if (ZydisRegisterGetClass(operand.reg.value) == ZYDIS_REGCLASS_MASK && operand.encoding == ZYDIS_OPERAND_ENCODING_MASK &&
          operand.reg.value != ZYDIS_REGISTER_K0) {
        in.masked = true;
      }
    } else if (operand.type == ZYDIS_OPERAND_TYPE_POINTER) {
      return false;
    }
  }
  return true;
}

void collect_flags(Instruction& in) {
  if (in.zydis.cpu_flags == nullptr) return;
  const ZydisAccessedFlags& flags = *in.zydis.cpu_flags;
  in.flags_read = flags.tested & kArithmeticFlags;
  in.flags_touched = (flags.modified | flags.set_0 | flags.set_1 | flags.undefined) & kArithmeticFlags;
  in.flags_written = writes_flags_perhaps(in) ? 0 : in.flags_touched;
  if (in.kind == Kind::kString) {
    in.flags_written = 0;
    in.flags_read = kArithmeticFlags;
  }
  // The architecture leaves them undefined; processors leave them alone, and a guest that saves its flags afterwards sees which it is.
  if (in.zydis.mnemonic == ZYDIS_MNEMONIC_DIV || in.zydis.mnemonic == ZYDIS_MNEMONIC_IDIV) in.flags_written = 0;
  if (in.kind == Kind::kPushFlags || in.zydis.mnemonic == ZYDIS_MNEMONIC_LAHF) in.flags_read = kArithmeticFlags;
  if (in.kind == Kind::kPopFlags) in.flags_written = in.flags_touched = kArithmeticFlags;
}

bool find_opcode(Instruction& in, ModeKey mode) {
  std::uint8_t at = 0;
  while (at < in.zydis.length && is_legacy_prefix(in.bytes[at])) ++at;
  if (mode.is_64() && (in.bytes[at] & 0xF0) == 0x40) in.rex = in.bytes[at++];
  in.opcode_at = at;
  // A REX prefix that is not the last one is void; nobody writes that.
  return !mode.is_64() || (!is_legacy_prefix(in.bytes[at]) && (in.bytes[at] & 0xF0) != 0x40);
}

/// VEX and EVEX bits that name registers 8 to 31 in 64-bit mode and that other modes ignore.
bool names_high_registers(const Instruction& in) {
  for (std::uint8_t i = 0; i < in.zydis.operand_count; ++i) {
    if (in.operands[i].encoding == ZYDIS_OPERAND_ENCODING_IS4 && (in.bytes[in.zydis.length - 1U] & 0x80) != 0) return true;
  }
  const std::uint8_t first = in.bytes[in.opcode_at], second = in.bytes[in.opcode_at + 1U], third = in.bytes[in.opcode_at + 2U];
  if (first == 0xC5) return (second & 0x40) == 0;
  if (first == 0xC4) return (second & 0x20) == 0 || (third & 0x40) == 0;
  return (second & 0x30) != 0x30 || (third & 0x40) == 0 || (in.bytes[in.opcode_at + 3U] & 0x08) == 0;
}

/// Encodings that mean something else in 64-bit mode, where the translation runs.
bool differs_in_64_bit_mode(const Instruction& in) {
  if (in.zydis.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX || in.zydis.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) {
    const ZydisMnemonic mnemonic = in.zydis.mnemonic;
    if (mnemonic == ZYDIS_MNEMONIC_VZEROUPPER || mnemonic == ZYDIS_MNEMONIC_VZEROALL) return true;  // eight registers, not sixteen
    if (names_high_registers(in)) return true;
    const bool wide = in.zydis.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX || in.bytes[in.opcode_at] == 0xC4
                          ? (in.bytes[in.opcode_at + 2U] & 0x80) != 0
                          : false;
    if (wide && in.zydis.raw.modrm.mod != 3 && has_general_width(mnemonic)) return true;
    for (std::uint8_t i = 0; i < in.zydis.operand_count; ++i) {  // W is ignored for general registers outside 64-bit mode
      if (in.operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER && gpr_number(in.operands[i].reg.value) >= 0) {
        const std::uint8_t w = in.zydis.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX
                                   ? in.bytes[in.opcode_at + 2U]
                                   : (in.bytes[in.opcode_at] == 0xC4 ? in.bytes[in.opcode_at + 2U] : std::uint8_t{0});
        if ((w & 0x80) != 0) return true;
      }
    }
    return false;
  }
  if (in.zydis.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT) return false;
  switch (in.zydis.opcode) {
    case 0x06: case 0x07: case 0x0E: case 0x16: case 0x17: case 0x1E: case 0x1F: case 0x27: case 0x2F: case 0x37: case 0x3F:
    case 0x60: case 0x61: case 0x62: case 0x63: case 0x82: case 0x9A: case 0xC4: case 0xC5: case 0xCE: case 0xD4: case 0xD5:
    case 0xD6: case 0xEA:
      return true;
    default:
      return false;
  }
}

bool is_absolute_move(const Instruction& in) {
  return in.zydis.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && in.zydis.opcode >= 0xA0 && in.zydis.opcode <= 0xA3 &&
         in.zydis.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
}

bool is_bit_test(const Instruction& in) {
  switch (in.zydis.mnemonic) {
    case ZYDIS_MNEMONIC_BT: case ZYDIS_MNEMONIC_BTS: case ZYDIS_MNEMONIC_BTR: case ZYDIS_MNEMONIC_BTC:
      return in.operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
    default:
      return false;
  }
}

/// What page fault handlers begin with.
bool reads_control_register(const Instruction& in, ModeKey mode) {
  if (in.zydis.mnemonic != ZYDIS_MNEMONIC_MOV || !mode.is_64() || !mode.has(kModePrivileged)) return false;
  switch (in.operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER ? in.operands[1].reg.value : ZYDIS_REGISTER_NONE) {
    case ZYDIS_REGISTER_CR0: case ZYDIS_REGISTER_CR2: case ZYDIS_REGISTER_CR3: case ZYDIS_REGISTER_CR4: return true;
    default: return false;
  }
}

}  // namespace

int gpr_number(ZydisRegister reg) {
  switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8: {
      if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH) return reg - ZYDIS_REGISTER_AH;
      if (reg <= ZYDIS_REGISTER_BL) return reg - ZYDIS_REGISTER_AL;
      return reg - ZYDIS_REGISTER_SPL + 4;
    }
    case ZYDIS_REGCLASS_GPR16: return reg - ZYDIS_REGISTER_AX;
    case ZYDIS_REGCLASS_GPR32: return reg - ZYDIS_REGISTER_EAX;
    case ZYDIS_REGCLASS_GPR64: return reg - ZYDIS_REGISTER_RAX;
    default: return -1;
  }
}

Decoder::Decoder() {
  ZydisDecoderInit(&decoder64_, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  ZydisDecoderInit(&decoder32_, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
}

bool Decoder::decode(ModeKey mode, std::span<const std::uint8_t> bytes, std::uint64_t rip, Instruction& in) const {
  const ZydisDecoder& decoder = mode.is_64() ? decoder64_ : decoder32_;
  const std::size_t length = std::min<std::size_t>(bytes.size(), 15);
  if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes.data(), length, &in.zydis, in.operands.data()))) return false;
  std::copy_n(bytes.begin(), in.zydis.length, in.bytes.begin());
  in.rip = rip;
  in.memory = 0xFF;
  in.memory_size = 0;
  in.memory_write = in.masked = in.high_byte = false;
  in.slots_used = in.slots_written = in.rex = 0;
  in.flags_read = in.flags_written = in.flags_touched = 0;
  in.target = 0;

  const Unit unit = unit_of(in.zydis);
  in.needs_vectors = unit > Unit::kInteger;
  in.kind = unit_allowed(unit, mode) ? kind_by_category(in, mode) : Kind::kFallback;
  if (!find_opcode(in, mode)) in.kind = Kind::kFallback;
  if (in.kind != Kind::kFallback && !mode.is_64() && differs_in_64_bit_mode(in)) in.kind = Kind::kFallback;
  if (in.kind == Kind::kNothing) {
    in.needs_vectors = false;
    return true;
  }
  if (in.kind == Kind::kPlain && reads_control_register(in, mode)) in.kind = Kind::kReadControl;
  if (in.kind == Kind::kSystem || in.kind == Kind::kSwapGs || in.kind == Kind::kReadControl) return true;
  if (in.kind != Kind::kFallback && !collect_operands(in, mode)) in.kind = Kind::kFallback;
  if (in.kind == Kind::kFallback) return true;
  collect_flags(in);
  if (in.kind == Kind::kPlain && in.memory != 0xFF) {
    in.kind = is_absolute_move(in) ? Kind::kAbsoluteMove : is_bit_test(in) ? Kind::kBitTest : Kind::kMemory;
    if (in.zydis.mnemonic == ZYDIS_MNEMONIC_VMASKMOVPS || in.zydis.mnemonic == ZYDIS_MNEMONIC_VMASKMOVPD ||
        in.zydis.mnemonic == ZYDIS_MNEMONIC_VPMASKMOVD || in.zydis.mnemonic == ZYDIS_MNEMONIC_VPMASKMOVQ) {
      in.masked = true;
    }
    // One scratch register is left for slots beside the address.
    if (in.slots_used == 3) in.kind = Kind::kFallback;
    if (in.slots_used != 0 && in.zydis.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) in.kind = Kind::kFallback;
  }
  if (in.kind == Kind::kJump || in.kind == Kind::kConditional || in.kind == Kind::kLoop || in.kind == Kind::kCall) {
    in.target = in.next() + static_cast<std::uint64_t>(in.operands[0].imm.value.s);
    if (!mode.is_64()) in.target &= 0xFFFF'FFFF;
  }
  return true;
}

}  // namespace bygone::cpu::translator::jit
