// For the differential test: random instructions whose effect is the same natively and in a guest.
//
// Memory operands go through registers that hold addresses of the data (or the stack) and are never written; an index register
// is small. Instructions that depend on anything but the state compared (time, random numbers, descriptor tables, the
// operating system's settings) are left out.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cpu/translator/decoder.h"
#include "cpu/translator/jit/differential_native.h"
#include "cpu/translator/jit/instruction.h"

namespace bygone::cpu::translator::jit {

inline constexpr std::uint32_t kPointers = 1U << 3 | 1U << 6 | 1U << 7 | 1U << 11 | 1U << 13;  // rbx rsi rdi r11 r13
inline constexpr unsigned kIndex = 14;    ///< of 64-bit code
inline constexpr unsigned kIndex32 = 5;

struct Sequence {
  std::vector<std::uint8_t> code;
  std::vector<std::uint32_t> ends;
  std::vector<std::uint32_t> unclear;  ///< flags without a meaning behind each instruction
  std::string text;
  std::vector<bool> hidden;            ///< instructions that the guest's CPUID does not offer
  std::vector<bool> any_order;         ///< of whose faults processors differ in which one comes first
  bool repeats = false;                ///< the first instruction counts in (r)cx
  int gather_index = -1;               ///< the first instruction gathers by this vector register

  [[nodiscard]] std::uint32_t unclear_at(std::uint64_t stop) const {
    for (std::size_t i = ends.size(); i-- > 0;) {
      if (ends[i] <= stop) return unclear[i];
    }
    return 0;
  }
};

class SequenceMaker {
 public:
  SequenceMaker(std::uint64_t seed, ModeKey mode, bool flat) : random_(seed), mode_(mode), flat_(flat) {}

  std::uint64_t word() { return random_(); }
  std::uint32_t below(std::uint32_t bound) { return static_cast<std::uint32_t>(random_() % bound); }
  [[nodiscard]] unsigned index_register() const { return mode_.is_64() ? kIndex : kIndex32; }

  Sequence make() {
    Sequence made;
    const std::uint32_t count = 1 + below(8);
    for (std::uint32_t i = 0; i < count; ++i) append(made);
    return made;
  }

 private:
  void append(Sequence& to) {
    const bool is_first = to.ends.empty();
    const std::uint32_t undefined = is_first ? 0 : to.unclear.back();
    for (;;) {
      const std::array<std::uint8_t, 16> bytes = candidate();
      if (!decoder_.decode(mode_, bytes, kNativeCode + to.code.size(), in_)) continue;
      const bool repeats = (in_.zydis.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) != 0;
      const bool gathers = in_.zydis.meta.category == ZYDIS_CATEGORY_AVX2GATHER || in_.zydis.meta.category == ZYDIS_CATEGORY_GATHER ||
                           in_.zydis.meta.category == ZYDIS_CATEGORY_SCATTER;
      if ((repeats || gathers) && !is_first) continue;
      if (!is_fit() || (flags_read() & undefined) != 0) continue;
      to.code.insert(to.code.end(), bytes.begin(), bytes.begin() + in_.zydis.length);
      to.ends.push_back(static_cast<std::uint32_t>(to.code.size()));
      to.unclear.push_back((undefined & ~in_.flags_written) | flags_undefined());
      to.hidden.push_back(is_hidden());
      to.any_order.push_back(in_.zydis.mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH);
      to.text += fmt::format("{:02x} ({})\n", fmt::join(std::span(in_.bytes).first(in_.zydis.length), " "),
                             ZydisMnemonicGetString(in_.zydis.mnemonic));
      to.repeats |= repeats;
      if (gathers) to.gather_index = static_cast<std::uint8_t>(ZydisRegisterGetId(memory()->mem.index));
      return;
    }
  }

  [[nodiscard]] std::uint32_t flags_read() const {
    if (in_.zydis.mnemonic == ZYDIS_MNEMONIC_LAHF) return kArithmeticFlags;
    return in_.zydis.cpu_flags == nullptr ? 0 : in_.zydis.cpu_flags->tested & kArithmeticFlags;
  }
  [[nodiscard]] std::uint32_t flags_undefined() const {
    return in_.zydis.cpu_flags == nullptr ? 0 : in_.zydis.cpu_flags->undefined & kArithmeticFlags;
  }
  [[nodiscard]] bool is_hidden() const {
    const ZydisISAExt extension = in_.zydis.meta.isa_ext;
    if (extension == ZYDIS_ISA_EXT_AVX512EVEX || extension == ZYDIS_ISA_EXT_AVX512VEX) return !host_carries(extension, in_.zydis.meta.isa_set);
    switch (extension) {  // AMD's own
      case ZYDIS_ISA_EXT_SSE4A: case ZYDIS_ISA_EXT_AMD3DNOW: case ZYDIS_ISA_EXT_XOP: case ZYDIS_ISA_EXT_FMA4: case ZYDIS_ISA_EXT_TBM:
      case ZYDIS_ISA_EXT_CLZERO: return true;
      default: break;
    }
    switch (in_.zydis.meta.isa_set) {
      case ZYDIS_ISA_SET_AVX_VNNI: case ZYDIS_ISA_SET_RTM: case ZYDIS_ISA_SET_PREFETCHWT1: return true;
      default: return false;
    }
  }
  [[nodiscard]] const ZydisDecodedOperand* memory() const {
    for (std::uint8_t i = 0; i < in_.zydis.operand_count; ++i) {
      if (in_.operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY) return &in_.operands[i];
    }
    return nullptr;
  }

  std::array<std::uint8_t, 16> candidate() {
    std::array<std::uint8_t, 16> bytes;
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random_());
    std::size_t at = 0;
    const std::uint32_t shape = below(11);
    if (shape < 6) {
      if (below(4) == 0) bytes[at++] = std::array<std::uint8_t, 4>{0x66, 0xF2, 0xF3, 0xF0}[below(4)];
      if (mode_.is_64() && below(2) == 0) bytes[at++] = static_cast<std::uint8_t>(0x40 | below(16));
      if (shape < 3) {
        ++at;  // a one-byte opcode
      } else {
        bytes[at++] = 0x0F;
        if (shape == 5) bytes[at++] = below(2) == 0 ? 0x38 : 0x3A;
        ++at;
      }
    } else if (shape < 9) {
      bytes[at++] = 0xC4;
      bytes[at] = static_cast<std::uint8_t>((bytes[at] & 0xE0) | (1 + below(3)));
      if (!mode_.is_64()) bytes[at] |= 0xC0;
      at += 3;
    } else if (shape == 9) {
      bytes[at++] = 0x62;
      bytes[at] = static_cast<std::uint8_t>((bytes[at] & 0xF0) | (1 + below(3)));
      if (!mode_.is_64()) bytes[at] |= 0xC0;
      bytes[at + 1] |= 4;
      at += 4;
    } else {  // a short jump to the next instruction: what follows is another block
      bytes[at++] = static_cast<std::uint8_t>(below(4) == 0 ? std::array<std::uint8_t, 3>{0xEB, 0xE2, 0xE3}[below(3)] : 0x70 | below(16));
      bytes[at] = 0;
      return bytes;
    }
    // ModRM, SIB and a short displacement.
    if (below(2) == 0) {
      bytes[at] |= 0xC0;
    } else {
      bytes[at] = static_cast<std::uint8_t>((bytes[at] & 0x3F) | (below(2) << 6));
    }
    return bytes;
  }

  [[nodiscard]] bool is_branch_fit() const {
    return in_.zydis.raw.imm[0].size == 8 && in_.zydis.raw.imm[0].value.u == 0 && in_.zydis.length == 2;
  }

  /// Guests have Intel's ways wherever the host runs on; AMD's processors have others here.
  [[nodiscard]] bool is_otherwise_on_this_host() const {
    if (__builtin_cpu_is("amd") == 0) return false;
    const auto& raw = in_.zydis.raw;
    switch (in_.zydis.mnemonic) {
      case ZYDIS_MNEMONIC_PAUSE: return raw.rex.B != 0;  // exchanges R8
      case ZYDIS_MNEMONIC_VPINSRD: case ZYDIS_MNEMONIC_VPEXTRD: return !mode_.is_64() && (raw.vex.W != 0 || raw.evex.W != 0);  // undefined
      case ZYDIS_MNEMONIC_FIST: case ZYDIS_MNEMONIC_FISTP: case ZYDIS_MNEMONIC_FISTTP: return !flat_;  // limits bind sooner
      default: return in_.zydis.opcode_map == ZYDIS_OPCODE_MAP_0F && in_.zydis.opcode == 0x0D && raw.modrm.mod == 3;  // undefined, not a NOP
    }
  }

  [[nodiscard]] bool is_excluded() const {
    switch (in_.zydis.meta.category) {
      case ZYDIS_CATEGORY_SYSTEM: case ZYDIS_CATEGORY_INTERRUPT: case ZYDIS_CATEGORY_IO: case ZYDIS_CATEGORY_IOSTRINGOP:
      case ZYDIS_CATEGORY_SEGOP: case ZYDIS_CATEGORY_SYSCALL: case ZYDIS_CATEGORY_SYSRET: case ZYDIS_CATEGORY_XSAVE:
      case ZYDIS_CATEGORY_XSAVEOPT: case ZYDIS_CATEGORY_VTX: case ZYDIS_CATEGORY_RDRAND: case ZYDIS_CATEGORY_RDSEED:
      case ZYDIS_CATEGORY_RDWRFSGS: case ZYDIS_CATEGORY_SMAP: case ZYDIS_CATEGORY_CALL: case ZYDIS_CATEGORY_RET:
      case ZYDIS_CATEGORY_CET: case ZYDIS_CATEGORY_CLDEMOTE: case ZYDIS_CATEGORY_WAITPKG:
      case ZYDIS_CATEGORY_ENQCMD: case ZYDIS_CATEGORY_CLFLUSHOPT: case ZYDIS_CATEGORY_CLWB:
      case ZYDIS_CATEGORY_SGX: case ZYDIS_CATEGORY_RDPID: case ZYDIS_CATEGORY_PKU: case ZYDIS_CATEGORY_UINTR:
      case ZYDIS_CATEGORY_MPX:
        return true;
      default: break;
    }
    if ((in_.zydis.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) != 0) return true;
    if (is_otherwise_on_this_host()) return true;
    switch (in_.zydis.mnemonic) {
      case ZYDIS_MNEMONIC_STD: case ZYDIS_MNEMONIC_PUSHF: case ZYDIS_MNEMONIC_PUSHFD: case ZYDIS_MNEMONIC_PUSHFQ:
      case ZYDIS_MNEMONIC_POPF: case ZYDIS_MNEMONIC_POPFD: case ZYDIS_MNEMONIC_POPFQ: case ZYDIS_MNEMONIC_STI:
      case ZYDIS_MNEMONIC_CLI: case ZYDIS_MNEMONIC_CPUID: case ZYDIS_MNEMONIC_ENTER: case ZYDIS_MNEMONIC_LEAVE:
      case ZYDIS_MNEMONIC_BOUND: case ZYDIS_MNEMONIC_XLAT: case ZYDIS_MNEMONIC_SALC: case ZYDIS_MNEMONIC_UD0:
      case ZYDIS_MNEMONIC_UD1: case ZYDIS_MNEMONIC_UD2: case ZYDIS_MNEMONIC_FNSTENV: case ZYDIS_MNEMONIC_FLDENV:
      case ZYDIS_MNEMONIC_FNSAVE: case ZYDIS_MNEMONIC_FRSTOR: case ZYDIS_MNEMONIC_FXSAVE: case ZYDIS_MNEMONIC_FXRSTOR:
      case ZYDIS_MNEMONIC_FXSAVE64: case ZYDIS_MNEMONIC_FXRSTOR64: case ZYDIS_MNEMONIC_MASKMOVQ:
      case ZYDIS_MNEMONIC_XBEGIN: case ZYDIS_MNEMONIC_XEND: case ZYDIS_MNEMONIC_XABORT: case ZYDIS_MNEMONIC_XTEST:
      case ZYDIS_MNEMONIC_HLT: case ZYDIS_MNEMONIC_RDPMC: case ZYDIS_MNEMONIC_RSM: case ZYDIS_MNEMONIC_ARPL:
      case ZYDIS_MNEMONIC_MONITOR: case ZYDIS_MNEMONIC_MWAIT: case ZYDIS_MNEMONIC_MONITORX: case ZYDIS_MNEMONIC_MWAITX:
        return true;
      default: return false;
    }
  }

  bool is_fit() {
    if (is_excluded()) return false;
    const bool is_branch = in_.zydis.meta.category == ZYDIS_CATEGORY_COND_BR || in_.zydis.meta.category == ZYDIS_CATEGORY_UNCOND_BR;
    if (is_branch && !is_branch_fit()) return false;
    if (in_.kind == Kind::kNothing && below(20) != 0) return false;
    const bool is_string = in_.zydis.meta.category == ZYDIS_CATEGORY_STRINGOP && in_.zydis.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
                           in_.zydis.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT;
    const bool is_stack = in_.zydis.meta.category == ZYDIS_CATEGORY_PUSH || in_.zydis.meta.category == ZYDIS_CATEGORY_POP;
    if (is_bit_string() && gpr_number(in_.operands[1].reg.value) != static_cast<int>(index_register())) return false;
    for (std::uint8_t i = 0; i < in_.zydis.operand_count; ++i) {
      const ZydisDecodedOperand& operand = in_.operands[i];
      if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER) {
        if (!is_register_fit(operand, is_string, is_stack)) return false;
      } else if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        if (!is_memory_fit(operand, is_string, is_stack)) return false;
      } else if (operand.type == ZYDIS_OPERAND_TYPE_POINTER) {
        return false;
      }
    }
    return true;
  }

  [[nodiscard]] bool is_bit_string() const {
    switch (in_.zydis.mnemonic) {
      case ZYDIS_MNEMONIC_BT: case ZYDIS_MNEMONIC_BTS: case ZYDIS_MNEMONIC_BTR: case ZYDIS_MNEMONIC_BTC:
        return in_.operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY && in_.operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
      default: return false;
    }
  }

  [[nodiscard]] bool is_register_fit(const ZydisDecodedOperand& operand, bool is_string, bool is_stack) const {
    if (ZydisRegisterGetClass(operand.reg.value) == ZYDIS_REGCLASS_SEGMENT) return false;
    const int number = gpr_number(operand.reg.value);
    const bool is_written = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
    const bool is_hidden = operand.visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT;
    if (number < 0 || !is_written) return true;
    if (number == static_cast<int>(index_register())) return false;
    if ((kPointers >> number & 1) != 0 && !(is_string && is_hidden)) return false;
    return number != 4 || (is_hidden && is_stack);
  }

  [[nodiscard]] bool is_memory_fit(const ZydisDecodedOperand& operand, bool is_string, bool is_stack) const {
    if (in_.kind == Kind::kLea) return in_.zydis.address_width == (mode_.is_64() ? 64U : 32U);
    if (in_.kind == Kind::kNothing) return true;
    const unsigned width = mode_.is_64() ? 64 : 32;
    if (in_.zydis.address_width != width) return false;
    if (!flat_ && (in_.zydis.attributes & ZYDIS_ATTRIB_HAS_SEGMENT) != 0) return false;
    if (operand.mem.segment == ZYDIS_REGISTER_FS || operand.mem.segment == ZYDIS_REGISTER_GS || operand.mem.segment == ZYDIS_REGISTER_CS) return false;
    if (operand.visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN) {
      if (is_string) return true;
      if (is_stack) return gpr_number(operand.mem.base) == 4;
      return flat_ && (in_.zydis.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU || in_.zydis.mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU);  // DS:EDI too
    }
    const int base = gpr_number(operand.mem.base);
    if (base < 0 || (base != 4 && (kPointers >> base & 1) == 0)) return false;
    // The register of string destinations is not moved by the data segment's base: with it, it leads to where the test itself lives.
    if (!flat_ && base == 7) return false;
    if (operand.mem.disp.value > 0x900 || operand.mem.disp.value < -0x900) return false;
    const ZydisRegister index = operand.mem.index;
    if (index == ZYDIS_REGISTER_NONE || gpr_number(index) == static_cast<int>(index_register())) return true;
    const ZydisRegisterClass kind = ZydisRegisterGetClass(index);
    return (kind == ZYDIS_REGCLASS_XMM || kind == ZYDIS_REGCLASS_YMM || kind == ZYDIS_REGCLASS_ZMM) &&
           operand.mem.type == ZYDIS_MEMOP_TYPE_VSIB;
  }

  std::mt19937_64 random_;
  ModeKey mode_;
  bool flat_;
  Decoder decoder_;
  Instruction in_;
};

}  // namespace bygone::cpu::translator::jit
