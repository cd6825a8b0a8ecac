#include "cpu/translator/decoder.h"

#include <Zydis/Zydis.h>

#include <array>

#include "cpu/cpuid.h"
#include "cpu/translator/handlers.h"
#include "cpu/translator/state.h"
#include "cpu/translator/xsave.h"

namespace bygone::cpu::translator {
namespace {

using HandlerTable = std::array<Handler, ZYDIS_MNEMONIC_MAX_VALUE + 1>;

const HandlerTable& handler_table() {
  static const HandlerTable table = [] {
    HandlerTable made = {};
    for (const auto list : {integer_handlers(), control_handlers(), string_handlers(), system_handlers(), vector_handlers()}) {
      for (const HandlerEntry& entry : list) made[entry.mnemonic] = entry.handler;
    }
    return made;
  }();
  return table;
}

ZydisDecoder make_decoder(std::uint32_t width, bool real_mode) {
  ZydisDecoder decoder;
  if (width == kModeCode64) {
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  } else if (width == kModeCode32) {
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
  } else if (real_mode) {
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16);
  } else {
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
  }
  return decoder;
}

const ZydisDecoder& decoder_for(std::uint32_t width, bool real_mode) {
  static const std::array<ZydisDecoder, 4> decoders = {make_decoder(kModeCode16, false), make_decoder(kModeCode32, false),
                                                       make_decoder(kModeCode64, false), make_decoder(kModeCode16, true)};
  return decoders[width == kModeCode16 && real_mode ? 3 : width];
}

/// AVX-512's parts, as CPUID offers them.
bool host_carries_part(ZydisISASet set) {
  const auto is_between = [set](ZydisISASet first, ZydisISASet last) { return set >= first && set <= last; };
  if (!xsave::host_has_avx512()) return false;
  if (is_between(ZYDIS_ISA_SET_AVX512BW_128, ZYDIS_ISA_SET_AVX512DQ_SCALAR)) return true;  // BW, CD and DQ
  if (is_between(ZYDIS_ISA_SET_AVX512F_128, ZYDIS_ISA_SET_AVX512F_SCALAR)) return true;
  if (is_between(ZYDIS_ISA_SET_AVX512_IFMA_128, ZYDIS_ISA_SET_AVX512_IFMA_512)) return __builtin_cpu_supports("avx512ifma") != 0;
  if (is_between(ZYDIS_ISA_SET_AVX512_VBMI_128, ZYDIS_ISA_SET_AVX512_VBMI_512)) return __builtin_cpu_supports("avx512vbmi") != 0;
  if (is_between(ZYDIS_ISA_SET_AVX512_VBMI2_128, ZYDIS_ISA_SET_AVX512_VBMI2_512)) return __builtin_cpu_supports("avx512vbmi2") != 0;
  if (is_between(ZYDIS_ISA_SET_AVX512_VNNI_128, ZYDIS_ISA_SET_AVX512_VNNI_512)) return __builtin_cpu_supports("avx512vnni") != 0;
  if (is_between(ZYDIS_ISA_SET_AVX512_BITALG_128, ZYDIS_ISA_SET_AVX512_BITALG_512)) return __builtin_cpu_supports("avx512bitalg") != 0;
  if (is_between(ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_128, ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_512)) return __builtin_cpu_supports("avx512vpopcntdq") != 0;
  if (is_between(ZYDIS_ISA_SET_AVX512_GFNI_128, ZYDIS_ISA_SET_AVX512_GFNI_512)) return __builtin_cpu_supports("gfni") != 0;
  if (is_between(ZYDIS_ISA_SET_AVX512_VAES_128, ZYDIS_ISA_SET_AVX512_VAES_512)) return __builtin_cpu_supports("vaes") != 0;
  if (is_between(ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_128, ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_512)) return __builtin_cpu_supports("vpclmulqdq") != 0;
  return false;
}

}  // namespace

/// Extensions whose instructions may run natively when the host has them.
bool host_carries(ZydisISAExt extension, ZydisISASet set) {
  switch (extension) {
    case ZYDIS_ISA_EXT_BASE:
    case ZYDIS_ISA_EXT_LONGMODE:
    case ZYDIS_ISA_EXT_MMX:
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_X87: return true;
    case ZYDIS_ISA_EXT_SSSE3: return __builtin_cpu_supports("ssse3") != 0;
    case ZYDIS_ISA_EXT_SSE4: return __builtin_cpu_supports("sse4.2") != 0;
    case ZYDIS_ISA_EXT_AES: return __builtin_cpu_supports("aes") != 0;
    case ZYDIS_ISA_EXT_PCLMULQDQ: return __builtin_cpu_supports("pclmul") != 0;
    case ZYDIS_ISA_EXT_AVX: return __builtin_cpu_supports("avx") != 0;
    case ZYDIS_ISA_EXT_AVX2: return __builtin_cpu_supports("avx2") != 0;
    case ZYDIS_ISA_EXT_AVXAES: return __builtin_cpu_supports("avx") != 0 && __builtin_cpu_supports("aes") != 0;
    case ZYDIS_ISA_EXT_FMA: return __builtin_cpu_supports("fma") != 0;
    case ZYDIS_ISA_EXT_BMI1: return __builtin_cpu_supports("bmi") != 0;
    case ZYDIS_ISA_EXT_BMI2: return __builtin_cpu_supports("bmi2") != 0;
    case ZYDIS_ISA_EXT_LZCNT: return __builtin_cpu_supports("lzcnt") != 0;
    case ZYDIS_ISA_EXT_F16C: return __builtin_cpu_supports("f16c") != 0;
    case ZYDIS_ISA_EXT_SHA: {
      static const bool has = (host_cpuid(7, 0).ebx & (1U << 29)) != 0;
      return has;
    }
    case ZYDIS_ISA_EXT_GFNI:
      return __builtin_cpu_supports("gfni") != 0 && (set == ZYDIS_ISA_SET_GFNI || __builtin_cpu_supports("avx") != 0);
    case ZYDIS_ISA_EXT_VAES: return __builtin_cpu_supports("vaes") != 0;
    case ZYDIS_ISA_EXT_VPCLMULQDQ: return __builtin_cpu_supports("vpclmulqdq") != 0;
    case ZYDIS_ISA_EXT_AVX512EVEX:
    case ZYDIS_ISA_EXT_AVX512VEX: return host_carries_part(set);
    case ZYDIS_ISA_EXT_MOVBE:
    case ZYDIS_ISA_EXT_ADOX_ADCX:
    case ZYDIS_ISA_EXT_RDRAND:
    case ZYDIS_ISA_EXT_RDSEED: return __builtin_cpu_supports("avx2") != 0;  // Haswell and Zen carry them together
    default: return false;
  }
}

namespace {

/// Categories that never run natively: what is not in the handler table there does not exist for a guest.
bool may_run_natively(const ZydisDecodedInstruction& instruction) {
  if ((instruction.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) != 0) return false;
  if (instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY && instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_VEX &&
      instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX) {
    return false;
  }
  if (!host_carries(instruction.meta.isa_ext, instruction.meta.isa_set)) return false;
  switch (instruction.meta.category) {
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_COND_BR:
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_STRINGOP:
    case ZYDIS_CATEGORY_PUSH:
    case ZYDIS_CATEGORY_POP:
    case ZYDIS_CATEGORY_SEGOP:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_DECIMAL:
    case ZYDIS_CATEGORY_VTX:
    case ZYDIS_CATEGORY_XSAVE:
    case ZYDIS_CATEGORY_XSAVEOPT: return false;
    default: return true;
  }
}

bool is_x87_control(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_FNINIT:
    case ZYDIS_MNEMONIC_FNCLEX:
    case ZYDIS_MNEMONIC_FLDCW:
    case ZYDIS_MNEMONIC_FNSTCW:
    case ZYDIS_MNEMONIC_FNSTSW:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FRSTOR: return true;
    default: return false;
  }
}

bool never_waits(ZydisMnemonic mnemonic) {
  const bool is_8087 = mnemonic == ZYDIS_MNEMONIC_FENI8087_NOP || mnemonic == ZYDIS_MNEMONIC_FDISI8087_NOP || mnemonic == ZYDIS_MNEMONIC_FSETPM287_NOP;
  if (is_8087) return true;  // they do nothing since the 80387
  return is_x87_control(mnemonic) && mnemonic != ZYDIS_MNEMONIC_FLDCW && mnemonic != ZYDIS_MNEMONIC_FLDENV && mnemonic != ZYDIS_MNEMONIC_FRSTOR;
}

/// Legacy SSE aligns 16-byte operands, with these exceptions; VEX aligns only what says so in its name.
bool wants_alignment(const ZydisDecodedInstruction& instruction, std::uint16_t native, std::uint16_t size) {
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM: return false;
    case ZYDIS_MNEMONIC_CMPXCHG16B:
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVDQA32:
    case ZYDIS_MNEMONIC_VMOVDQA64:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQA: return true;
    default: break;
  }
  // Intel's processors want the SHA instructions' operands aligned, AMD's do not (Zen, measured), and translated code is the host's.
  if (instruction.meta.isa_ext == ZYDIS_ISA_EXT_SHA && __builtin_cpu_is("amd") != 0) return false;
  return (native & kNativeSse) != 0 && size == 16;
}

bool is_vector_conversion(const ZydisDecodedInstruction& instruction) {
  const ZydisISAExt extension = instruction.meta.isa_ext;
  return instruction.meta.category == ZYDIS_CATEGORY_CONVERT &&
         (extension == ZYDIS_ISA_EXT_SSE || extension == ZYDIS_ISA_EXT_SSE2 || extension == ZYDIS_ISA_EXT_AVX ||
          extension == ZYDIS_ISA_EXT_AVX512EVEX);
}

std::uint16_t native_flags(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands) {
  std::uint16_t native = 0;
  bool vector = false;
  for (unsigned i = 0; i < instruction.operand_count; ++i) {
    const ZydisDecodedOperand& operand = operands[i];
    if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
      if ((operand.actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0) native |= kNativeReads;
      if ((operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0) native |= kNativeWrites;
    } else if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER) {
      const ZydisRegisterClass kind = ZydisRegisterGetClass(operand.reg.value);
      if (kind == ZYDIS_REGCLASS_XMM || kind == ZYDIS_REGCLASS_YMM || kind == ZYDIS_REGCLASS_ZMM) vector = true;
      if (kind == ZYDIS_REGCLASS_MMX) native |= kNativeMmx;
      if (kind == ZYDIS_REGCLASS_X87) native |= kNativeX87;
    }
  }
  const bool vex = instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY;
  const ZydisISAExt extension = instruction.meta.isa_ext;
  if (extension == ZYDIS_ISA_EXT_AVX512EVEX || extension == ZYDIS_ISA_EXT_AVX512VEX) native |= kNativeAvx512 | kNativeAvx;
  // FISTTP came with SSE3 and is counted there.
  if (instruction.meta.isa_ext == ZYDIS_ISA_EXT_X87 || instruction.mnemonic == ZYDIS_MNEMONIC_FISTTP) {
    native |= kNativeX87;
    if (!never_waits(instruction.mnemonic)) native |= kNativeX87Waits;
    if (!is_x87_control(instruction.mnemonic)) native |= kNativeX87Data;
  }
  if (instruction.mnemonic == ZYDIS_MNEMONIC_EMMS) native |= kNativeMmx;
  if (vector) native |= vex ? kNativeAvx : kNativeSse;
  const ZydisInstructionCategory category = instruction.meta.category;
  // A conversion from memory to a general or MMX register has no vector operand and yet rounds as MXCSR says.
  if (is_vector_conversion(instruction)) native |= kNativeFloat | (vex ? kNativeAvx : kNativeSse);
  if (vector && category != ZYDIS_CATEGORY_DATAXFER && category != ZYDIS_CATEGORY_LOGICAL && category != ZYDIS_CATEGORY_LOGICAL_FP) {
    native |= kNativeFloat;
  }
  return native;
}

std::uint8_t general_register(ZydisRegister name) {
  const auto id = static_cast<std::uint8_t>(ZydisRegisterGetId(name));
  if (ZydisRegisterGetClass(name) != ZYDIS_REGCLASS_GPR8) return id;
  if (id < 4) return id;
  return static_cast<std::uint8_t>(id < 8 ? (id - 4) | kHighByte : id - 4);
}

void take_memory(Decoded& decoded, const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand& operand) {
  decoded.is_memory = 1;
  decoded.memory_size = operand.size / 8;
  decoded.address_size = instruction.address_width / 8;
  decoded.segment = static_cast<std::uint8_t>(ZydisRegisterGetId(operand.mem.segment));
  if (operand.mem.segment == ZYDIS_REGISTER_NONE) decoded.segment = static_cast<std::uint8_t>(SegmentName::kDs);
  decoded.displacement = operand.mem.disp.has_displacement ? operand.mem.disp.value : 0;
  if (operand.mem.base == ZYDIS_REGISTER_RIP || operand.mem.base == ZYDIS_REGISTER_EIP) {
    decoded.base = kBaseRip;
  } else if (operand.mem.base != ZYDIS_REGISTER_NONE) {
    decoded.base = general_register(operand.mem.base);
  }
  if (operand.mem.index != ZYDIS_REGISTER_NONE) {
    const ZydisRegisterClass kind = ZydisRegisterGetClass(operand.mem.index);
    if (kind == ZYDIS_REGCLASS_GPR16 || kind == ZYDIS_REGCLASS_GPR32 || kind == ZYDIS_REGCLASS_GPR64) {
      decoded.index = general_register(operand.mem.index);
      decoded.scale = operand.mem.scale;
    }
  }
}

bool is_string(const ZydisDecodedInstruction& instruction) {
  return instruction.meta.category == ZYDIS_CATEGORY_STRINGOP || instruction.meta.category == ZYDIS_CATEGORY_IOSTRINGOP;
}

/// The element of a string instruction, from the last bits of its opcode: even ones are bytes.
std::uint8_t element_size(const ZydisDecodedInstruction& instruction) {
  if ((instruction.opcode & 1) == 0) return 1;
  const auto size = static_cast<std::uint8_t>(instruction.operand_width / 8);
  return instruction.meta.category == ZYDIS_CATEGORY_IOSTRINGOP && size == 8 ? 4 : size;
}

SegmentName source_segment(const ZydisDecodedInstruction& instruction) {
  const ZydisInstructionAttributes attributes = instruction.attributes;
  if ((attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS) != 0) return SegmentName::kFs;
  if ((attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS) != 0) return SegmentName::kGs;
  if ((attributes & ZYDIS_ATTRIB_HAS_SEGMENT_ES) != 0) return SegmentName::kEs;
  if ((attributes & ZYDIS_ATTRIB_HAS_SEGMENT_CS) != 0) return SegmentName::kCs;
  if ((attributes & ZYDIS_ATTRIB_HAS_SEGMENT_SS) != 0) return SegmentName::kSs;
  return SegmentName::kDs;
}

OperandShape shape_of(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands) {
  const unsigned count = instruction.operand_count_visible;
  if (count == 0) return kShapeNone;
  const auto kind = [&](unsigned i) { return operands[i].type; };
  if (kind(0) == ZYDIS_OPERAND_TYPE_POINTER) return kShapeFar;
  if (count == 1) {
    if (kind(0) == ZYDIS_OPERAND_TYPE_REGISTER) return kShapeR;
    return kind(0) == ZYDIS_OPERAND_TYPE_MEMORY ? kShapeM : kShapeI;
  }
  if (kind(0) == ZYDIS_OPERAND_TYPE_REGISTER) {
    if (kind(1) == ZYDIS_OPERAND_TYPE_REGISTER) return kShapeRR;
    return kind(1) == ZYDIS_OPERAND_TYPE_MEMORY ? kShapeRM : kShapeRI;
  }
  if (kind(0) == ZYDIS_OPERAND_TYPE_MEMORY) return kind(1) == ZYDIS_OPERAND_TYPE_REGISTER ? kShapeMR : kShapeMI;
  return kShapeOther;
}

/// Stack and near-branch instructions are 64 bits wide in 64-bit code without a prefix.
bool is_64_by_default(const ZydisDecodedInstruction& instruction) {
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_LEAVE:
    case ZYDIS_MNEMONIC_ENTER: return true;
    default: return false;
  }
}

std::uint8_t operand_bytes(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands, std::uint32_t width) {
  if (is_64_by_default(instruction)) {
    const bool narrow = (instruction.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) != 0;
    // REX.W takes precedence over the prefix.
    if (width == kModeCode64) return narrow && instruction.operand_width == 16 ? 2 : 8;
    return (width == kModeCode32) != narrow ? 4 : 2;
  }
  const ZydisInstructionCategory category = instruction.meta.category;
  const bool branch = category == ZYDIS_CATEGORY_CALL || category == ZYDIS_CATEGORY_RET || category == ZYDIS_CATEGORY_COND_BR ||
                      category == ZYDIS_CATEGORY_UNCOND_BR;
  if (branch && width == kModeCode64 && instruction.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR && category != ZYDIS_CATEGORY_RET) return 8;
  if (branch || instruction.operand_count_visible == 0) return instruction.operand_width / 8;
  return static_cast<std::uint8_t>(operands[0].size / 8);
}

bool is_segment_stack(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands) {
  return (instruction.mnemonic == ZYDIS_MNEMONIC_PUSH || instruction.mnemonic == ZYDIS_MNEMONIC_POP) &&
         operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
         ZydisRegisterGetClass(operands[0].reg.value) == ZYDIS_REGCLASS_SEGMENT;
}

Decoded from_instruction(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands, std::uint32_t width) {
  Decoded decoded;
  decoded.length = instruction.length;
  decoded.mnemonic = static_cast<std::uint16_t>(instruction.mnemonic);
  decoded.address_size = instruction.address_width / 8;
  decoded.operand_size = operand_bytes(instruction, operands, width);
  decoded.condition = instruction.opcode & 15;
  decoded.lock = (instruction.attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0 ? 1 : 0;
  if ((instruction.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE)) != 0) decoded.rep = 0xF3;
  if ((instruction.attributes & ZYDIS_ATTRIB_HAS_REPNE) != 0) decoded.rep = 0xF2;
  decoded.operands = shape_of(instruction, operands);
  decoded.is_far = instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? 1 : 0;
  if (is_string(instruction)) {
    decoded.operand_size = element_size(instruction);
    decoded.segment = static_cast<std::uint8_t>(source_segment(instruction));
    const auto repeats = ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPZ;
    if ((instruction.attributes & repeats) != 0) decoded.rep = 0xF3;
    if ((instruction.attributes & (ZYDIS_ATTRIB_HAS_REPNE | ZYDIS_ATTRIB_HAS_REPNZ)) != 0) decoded.rep = 0xF2;
    return decoded;
  }
  bool first = true;
  for (unsigned i = 0; i < instruction.operand_count; ++i) {
    const ZydisDecodedOperand& operand = operands[i];
    if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
      // The visible one, or the source of a string instruction, whose segment may be overridden.
      if (i < instruction.operand_count_visible || operand.mem.segment != ZYDIS_REGISTER_ES) {
        // A far call's push is not an operand, and its displacement would take the selector's place.
        if (decoded.is_memory == 0 && decoded.operands != kShapeFar) take_memory(decoded, instruction, operand);
      }
      continue;
    }
    if (i >= instruction.operand_count_visible) continue;
    if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER) {
      (first ? decoded.reg : decoded.rm) = general_register(operand.reg.value);
      if (!first && decoded.is_memory == 0) decoded.memory_size = operand.size / 8;  // of the source, for MOVZX and its like
      if (instruction.mnemonic == ZYDIS_MNEMONIC_OUT) decoded.memory_size = operand.size / 8;
      first = false;
    } else if (operand.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
      decoded.immediate = decoded.immediate << 16 | operand.imm.value.u;  // ENTER has two
      if (instruction.mnemonic != ZYDIS_MNEMONIC_ENTER) decoded.immediate = operand.imm.value.u;
    } else if (operand.type == ZYDIS_OPERAND_TYPE_POINTER) {
      decoded.immediate = operand.ptr.offset;
      decoded.displacement = operand.ptr.segment;
    }
  }
  return decoded;
}

/// How an opmask works on an operand in memory. Instructions whose exception class says so touch all of it, whatever the mask.
void take_mask(Decoded& decoded, const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands) {
  decoded.mask = static_cast<std::uint8_t>(instruction.avx.mask.reg == ZYDIS_REGISTER_NONE ? 0 : ZydisRegisterGetId(instruction.avx.mask.reg));
  if (decoded.mask == 0 || instruction.mnemonic == ZYDIS_MNEMONIC_VDBPSADBW) return;  // whose results need its neighbours' bytes
  switch (instruction.meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_E1NF: case ZYDIS_EXCEPTION_CLASS_E2NF: case ZYDIS_EXCEPTION_CLASS_E3NF:
    case ZYDIS_EXCEPTION_CLASS_E4NF: case ZYDIS_EXCEPTION_CLASS_E5NF: case ZYDIS_EXCEPTION_CLASS_E6NF:
    case ZYDIS_EXCEPTION_CLASS_E9NF: case ZYDIS_EXCEPTION_CLASS_E10NF: case ZYDIS_EXCEPTION_CLASS_E11NF:
      // What a store leaves alone has to be in the copy that it works on where it cannot work in place.
      if ((decoded.native & kNativeWrites) != 0) decoded.native |= kNativeReads;
      return;
    default: break;
  }
  unsigned lanes = 0;
  unsigned in_memory = 0;
  unsigned bytes = 0;
  bool gives_mask = false;
  for (unsigned i = 0; i < instruction.operand_count_visible; ++i) {
    const ZydisDecodedOperand& operand = operands[i];
    if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
      decoded.mask_element = static_cast<std::uint8_t>(operand.element_size / 8);
      in_memory = operand.element_count;
      bytes = operand.size / 8;
      if (i == 0) lanes = operand.element_count;
    } else if (i == 0 && operand.type == ZYDIS_OPERAND_TYPE_REGISTER) {
      lanes = operand.element_count;
      // A comparison's destination is an opmask, of whatever size: its lanes are the source's.
      gives_mask = ZydisRegisterGetClass(operand.reg.value) == ZYDIS_REGCLASS_MASK;
      if (gives_mask) lanes = 0;
    }
  }
  for (unsigned i = 1; lanes == 0 && i < instruction.operand_count_visible; ++i) {
    if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(operands[i].reg.value) != ZYDIS_REGCLASS_MASK) {
      lanes = operands[i].element_count;
    }
  }
  if (in_memory == 0 || decoded.mask_element == 0) return;
  if (lanes == 0) lanes = instruction.avx.vector_length / 8U / decoded.mask_element;  // VFPCLASSPS has no other vector
  if (lanes == 0) lanes = in_memory;
  if (instruction.avx.broadcast.mode == ZYDIS_BROADCAST_MODE_INVALID) {
    const bool converts = instruction.meta.category == ZYDIS_CATEGORY_CONVERT;
    if (lanes > in_memory && !converts && !gives_mask && operands[0].size / 8 == bytes) return;  // a lane is less than an element: all is read
    if (lanes < in_memory) decoded.mask_element = static_cast<std::uint8_t>(bytes / lanes);  // a lane is several elements
    else lanes = in_memory;
  }
  decoded.native |= kNativeMasked;
  decoded.is_packed = instruction.meta.category == ZYDIS_CATEGORY_COMPRESS || instruction.meta.category == ZYDIS_CATEGORY_EXPAND ? 1 : 0;
  decoded.mask_lanes = static_cast<std::uint8_t>(lanes);
}

/// The index of a gather is a vector register; how many elements there are depends on the vectors' length.
void take_gather(Decoded& decoded, const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands) {
  for (unsigned i = 0; i < instruction.operand_count; ++i) {
    if (operands[i].type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
    decoded.condition = static_cast<std::uint8_t>(ZydisRegisterGetId(operands[i].mem.index));
    decoded.scale = operands[i].mem.scale;
    decoded.memory_size = static_cast<std::uint16_t>(instruction.avx.vector_length / 8);
  }
  if (instruction.meta.category != ZYDIS_CATEGORY_SCATTER) return;
  for (unsigned i = 0; i < instruction.operand_count_visible; ++i) {  // the opmask stands before the source
    if (operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER || ZydisRegisterGetClass(operands[i].reg.value) == ZYDIS_REGCLASS_MASK) continue;
    decoded.reg = static_cast<std::uint8_t>(ZydisRegisterGetId(operands[i].reg.value));
  }
}

}  // namespace

DecodeStatus decode_instruction(std::span<const std::uint8_t> bytes, std::uint32_t width, bool real_mode, Thunks& thunks, Decoded& decoded) {
  ZydisDecodedInstruction instruction;
  std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
  const ZyanStatus status = ZydisDecoderDecodeFull(&decoder_for(width, real_mode), bytes.data(), bytes.size(), &instruction,
                                                   operands.data());
  decoded = {};
  decoded.length = 1;
  decoded.handler = raise_undefined;
  if (status == ZYDIS_STATUS_NO_MORE_DATA) return DecodeStatus::kNeedsMore;
  if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG) decoded.handler = raise_too_long;
  if (!ZYAN_SUCCESS(status)) return DecodeStatus::kDone;

  decoded = from_instruction(instruction, operands.data(), width);
  decoded.native = native_flags(instruction, operands.data());
  const bool table_load = instruction.mnemonic == ZYDIS_MNEMONIC_LGDT || instruction.mnemonic == ZYDIS_MNEMONIC_LIDT;
  if (table_load) decoded.native = instruction.operand_width / 8;
  if (instruction.mnemonic == ZYDIS_MNEMONIC_MOV) decoded.handler = move_handler(decoded.operands, decoded.operand_size);
  const bool special_register = instruction.mnemonic == ZYDIS_MNEMONIC_MOV && (instruction.attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0 &&
                                instruction.opcode_map == ZYDIS_OPCODE_MAP_0F;
  const bool segment_register = instruction.mnemonic == ZYDIS_MNEMONIC_MOV && instruction.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT &&
                                (instruction.opcode == 0x8C || instruction.opcode == 0x8E);
  if (decoded.handler != nullptr && !special_register && !segment_register) return DecodeStatus::kDone;
  decoded.condition = special_register ? instruction.opcode : segment_register ? instruction.opcode : decoded.condition;
  // MOVSD and CMPSD are also the names of SSE2 instructions.
  const bool other_of_the_name =
      (instruction.mnemonic == ZYDIS_MNEMONIC_MOVSD || instruction.mnemonic == ZYDIS_MNEMONIC_CMPSD) && !is_string(instruction);
  const bool evex = instruction.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
  if (evex) take_mask(decoded, instruction, operands.data());
  switch (instruction.meta.category) {
    case ZYDIS_CATEGORY_AVX2GATHER: case ZYDIS_CATEGORY_GATHER: case ZYDIS_CATEGORY_SCATTER:
      take_gather(decoded, instruction, operands.data());
      if (!evex) break;
      decoded.handler = may_run_natively(instruction) ? sparse_handler(instruction.meta.category == ZYDIS_CATEGORY_SCATTER) : raise_undefined;
      return DecodeStatus::kDone;
    default: break;
  }
  if (const Handler handler = handler_table()[instruction.mnemonic]; handler != nullptr && !other_of_the_name && !evex) {
    // Bit strings in memory whose offset is a register walk; every other form runs natively.
    decoded.handler = handler;
    if (is_segment_stack(instruction, operands.data())) {
      decoded.handler = instruction.mnemonic == ZYDIS_MNEMONIC_PUSH ? push_segment_register : pop_segment_register;
    }
    const bool bit_test = instruction.mnemonic == ZYDIS_MNEMONIC_BT || instruction.mnemonic == ZYDIS_MNEMONIC_BTS ||
                          instruction.mnemonic == ZYDIS_MNEMONIC_BTR || instruction.mnemonic == ZYDIS_MNEMONIC_BTC;
    if (!bit_test || decoded.operands == kShapeMR) return DecodeStatus::kDone;
  }
  decoded.handler = raise_undefined;
  if (!may_run_natively(instruction)) return DecodeStatus::kDone;
  if (wants_alignment(instruction, decoded.native, decoded.memory_size)) decoded.native |= kNativeAligned;
  decoded.thunk = thunks.get(instruction, operands.data(), bytes, decoded.native);
  if (decoded.thunk != nullptr) decoded.handler = native_handler(decoded);
  return DecodeStatus::kDone;
}

}  // namespace bygone::cpu::translator
