// Re-encoding of an instruction with another memory operand: prefixes, opcode and immediates stay, ModRM and the register
// extension bits change (Intel SDM volume 2, chapter 2).
#include "cpu/translator/jit/assembler.h"

namespace bygone::cpu::translator::jit {
namespace {

struct Fields {
  std::uint8_t reg = 0;         // ModRM.reg, three bits
  bool reg_high = false;        // its extension
  int extra = -1;               // VEX.vvvv when it is replaced
};

bool names_slot(const ZydisDecodedOperand& operand) {
  if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER) return false;
  const int number = gpr_number(operand.reg.value);
  return number == 10 || number == 11;
}

Fields fields_of(const Instruction& in, bool reg_high, int slot) {
  Fields fields;
  fields.reg = in.zydis.raw.modrm.reg & 7;
  fields.reg_high = reg_high;
  for (std::uint8_t i = 0; i < in.zydis.operand_count; ++i) {
    const ZydisDecodedOperand& operand = in.operands[i];
    if (!names_slot(operand)) continue;
    if (operand.encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) {
      fields.reg = static_cast<std::uint8_t>(slot & 7);
      fields.reg_high = slot >= 8;
    } else if (operand.encoding == ZYDIS_OPERAND_ENCODING_NDSNDD) {
      fields.extra = slot;
    }
  }
  return fields;
}

void emit_operand_and_rest(Assembler& code, const Instruction& in, const Fields& fields, MemoryForm form, unsigned low) {
  const auto reg = static_cast<std::uint8_t>(fields.reg << 3);
  switch (form) {
    case MemoryForm::kBaseIndex:
      code.db(reg | 4);
      code.db((2 << 3) | 3);  // SIB: index r10, base r11
      break;
    case MemoryForm::kBase: code.db(reg | 3); break;
    case MemoryForm::kLow: code.db(static_cast<int>(reg | low)); break;
  }
  const auto& raw = in.zydis.raw;
  const bool has_sib = raw.modrm.mod != 3 && raw.modrm.rm == 4;
  const unsigned rest = raw.modrm.offset + 1U + (has_sib ? 1U : 0U) + raw.disp.size / 8U;
  for (unsigned i = rest; i < in.zydis.length; ++i) code.db(in.bytes[i]);
}

void emit_prefixes(Assembler& code, const Instruction& in) {
  const unsigned end = in.rex != 0 ? in.opcode_at - 1U : in.opcode_at;
  for (unsigned i = 0; i < end; ++i) {
    switch (in.bytes[i]) {
      case 0x66: case 0xF0: case 0xF2: case 0xF3: code.db(in.bytes[i]); break;
      default: break;  // segments and address size are spent on the address
    }
  }
}

void emit_legacy(Assembler& code, const Instruction& in, MemoryForm form, unsigned low, int slot) {
  const Fields fields = fields_of(in, (in.rex & 4) != 0, slot);
  emit_prefixes(code, in);
  unsigned rex = in.rex & 0x48U;
  if (fields.reg_high) rex |= 0x44;
  if (form != MemoryForm::kLow) rex |= 0x41;
  if (form == MemoryForm::kBaseIndex) rex |= 0x42;
  if (rex != 0) code.db(static_cast<int>(rex));
  for (unsigned i = in.opcode_at; i < in.zydis.raw.modrm.offset; ++i) code.db(in.bytes[i]);
  emit_operand_and_rest(code, in, fields, form, low);
}

void emit_vex(Assembler& code, const Instruction& in, MemoryForm form, unsigned low, int slot) {
  const bool is_short = in.bytes[in.opcode_at] == 0xC5;
  const unsigned first = in.bytes[in.opcode_at + 1U];
  unsigned map = is_short ? 1U : first & 0x1FU;
  unsigned last = is_short ? first & 0x7FU : in.bytes[in.opcode_at + 2U];  // W vvvv L pp
  const Fields fields = fields_of(in, (first & 0x80) == 0, slot);
  if (fields.extra >= 0) last = (last & 0x87U) | ((~static_cast<unsigned>(fields.extra) & 15U) << 3);
  map |= fields.reg_high ? 0U : 0x80U;
  map |= form == MemoryForm::kBaseIndex ? 0U : 0x40U;
  map |= form == MemoryForm::kLow ? 0x20U : 0U;
  code.db(0xC4);
  code.db(static_cast<int>(map));
  code.db(static_cast<int>(last));
  code.db(in.bytes[in.opcode_at + (is_short ? 2U : 3U)]);
  emit_operand_and_rest(code, in, fields, form, low);
}

void emit_evex(Assembler& code, const Instruction& in, MemoryForm form, unsigned low, int slot) {
  const unsigned first = in.bytes[in.opcode_at + 1U];
  const Fields fields = fields_of(in, (first & 0x80) == 0, slot);
  unsigned out = first & 0x9FU;
  out |= form == MemoryForm::kBaseIndex ? 0U : 0x40U;
  out |= form == MemoryForm::kLow ? 0x20U : 0U;
  code.db(0x62);
  code.db(static_cast<int>(out));
  code.db(in.bytes[in.opcode_at + 2U]);
  code.db(in.bytes[in.opcode_at + 3U]);
  code.db(in.bytes[in.opcode_at + 4U]);
  emit_operand_and_rest(code, in, fields, form, low);
}

}  // namespace

void emit_redirected(Assembler& code, const Instruction& in, MemoryForm form, unsigned low_register, int slot) {
  switch (in.zydis.encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_VEX: emit_vex(code, in, form, low_register, slot); break;
    case ZYDIS_INSTRUCTION_ENCODING_EVEX: emit_evex(code, in, form, low_register, slot); break;
    default: emit_legacy(code, in, form, low_register, slot); break;
  }
}

}  // namespace bygone::cpu::translator::jit
