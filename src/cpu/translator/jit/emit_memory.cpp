// Instructions with operands in registers and memory.
#include "cpu/translator/jit/emitter.h"
#include "cpu/translator/jit/page_slots.h"

namespace bygone::cpu::translator::jit {

using namespace Xbyak::util;

namespace {

std::uint32_t gpr_offset(int number) { return static_cast<std::uint32_t>(offset::kGpr) + 8U * static_cast<std::uint32_t>(number); }

}  // namespace

void Emitter::load_slot(const Xbyak::Reg64& into, int number) { code_.load(into, gpr_offset(number)); }
void Emitter::store_slot(int number, const Xbyak::Reg64& from) { code_.store(gpr_offset(number), from); }

void Emitter::emit_plain() {
  if (needs_native_flags() && !flags_native_) reload_flags(r11);
  if ((in_->slots_used & 1) != 0) load_slot(r10, 10);
  if ((in_->slots_used & 2) != 0) load_slot(r11, 11);
  mark(*in_);
  const bool is_short_increment = !trace_.mode.is_64() && in_->zydis.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
                                  in_->zydis.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (in_->zydis.opcode & 0xF0) == 0x40;
  if (is_short_increment) {  // REX prefixes in 64-bit mode: FF /0 and FF /1 instead
    if (in_->zydis.operand_width == 16) code_.db(0x66);
    code_.db(0xFF);
    code_.db(0xC0 | (in_->zydis.opcode & 0x0F));
  } else {
    code_.bytes(std::span(in_->bytes).first(in_->zydis.length));
  }
  if ((in_->slots_written & 1) != 0) store_slot(10, r10);
  if ((in_->slots_written & 2) != 0) store_slot(11, r11);
  note_flags_written();
}

void Emitter::emit_address(const ZydisDecodedOperand& operand, bool with_segment) {
  const ZydisDecodedOperandMem& memory = operand.mem;
  const bool is_32 = in_->zydis.address_width == 32;
  const auto displacement = static_cast<std::int64_t>(memory.disp.value);
  const bool is_relative = memory.base == ZYDIS_REGISTER_RIP || memory.base == ZYDIS_REGISTER_EIP;
  const int base = is_relative ? -1 : gpr_number(memory.base);
  const int index = gpr_number(memory.index);
  if (base < 0 && index < 0) {
    std::uint64_t address = static_cast<std::uint64_t>(displacement) + (is_relative ? in_->next() : 0);
    if (is_32) address &= 0xFFFF'FFFF;
    code_.constant(r10, address);
  } else {
    Xbyak::RegExp expression;
    if (base >= 0) {
      if (base == 10 || base == 11) load_slot(r10, base);
      expression = expression + Xbyak::RegExp(base == 10 || base == 11 ? r10 : Xbyak::Reg64(base));
    }
    if (index >= 0) {
      const bool is_slot = index == 10 || index == 11;
      if (is_slot) load_slot(r11, index);
      expression = expression + Xbyak::RegExp(is_slot ? r11 : Xbyak::Reg64(index), memory.scale == 0 ? 1 : memory.scale);
    }
    if (displacement != 0) expression = expression + static_cast<std::size_t>(displacement);
    if (is_32) code_.lea(r10d, ptr[expression]);
    else if (base >= 0 && base != 10 && base != 11 && index < 0 && displacement == 0) code_.mov(r10, Xbyak::Reg64(base));
    else code_.lea(r10, ptr[expression]);
  }
  if (!with_segment || (memory.segment != ZYDIS_REGISTER_FS && memory.segment != ZYDIS_REGISTER_GS)) return;
  const auto segment = memory.segment == ZYDIS_REGISTER_FS ? SegmentName::kFs : SegmentName::kGs;
  if (!trace_.mode.is_64()) {
    code_.load(r11, segment == SegmentName::kFs ? Word::kFsBound : Word::kGsBound);
    code_.cmp(r10, r11);
    cold_.push_back({.kind = Cold::Kind::kInterpret, .from = code_.jump_later_if(3), .target = in_->rip});
  }
  code_.gs_form();
  if (trace_.mode.is_64()) code_.add(r10, ptr[at(offset::segment_base(segment))]);
  else code_.add(r10d, ptr[at(offset::segment_base(segment))]);
}

void Emitter::emit_look_up(unsigned size, bool write, bool masked, std::uint32_t slot) {
  const std::uint32_t context = trace_.mode.context();
  const std::uint32_t tag = tag_of(cache_.tlb_address(), context, write);
  Cold cold{.kind = Cold::Kind::kMiss};
  std::uint16_t number = kNoPageSlot;
  if (slot == kNoSlot) {
    cold.from = emit_tlb_probe(code_, tag, size);
    code_.mov(r11, ptr[r11 + host_of(tag)]);
  } else {
    cold.kind = Cold::Kind::kSlotMiss;
    number = static_cast<std::uint16_t>(Cache::page_slot_number(context, write, slot));
    const std::uint32_t place = cache_.page_slot_address(number);
    cold.slot_site.test = code_.here();
    code_.sub(r10, ptr[at(place + offsetof(PageSlot, page))]);
    code_.mov(r11, ptr[at(place + offsetof(PageSlot, host))]);
    code_.cmp(r10, 4096 - size);
    cold.from = code_.jump_later_if(7);
  }
  cold.site = cache_.add_site({.tag = tag,
                               .access = code_.here(),
                               .rip = in_->rip,
                               .size = static_cast<std::uint8_t>(size),
                               .write = write,
                               .masked = masked,
                               .slot = number});
  cold_.push_back(cold);
  flags_native_ = false;
  mark(*in_);
}

/// The page is another one than last time: asks the TLB, and fills the slot from there.
void Emitter::emit_slot_miss(const Cold& cold) {
  const Site& site = cache_.site(cold.site);
  if (site.slot % kPageSlots >= kFirstLoopSlot) return emit_loop_slot_miss(cold);
  code_.store_constant32(Word::kSite, cold.site);
  emit_address_of(site.access);
  code_.jump_to(cache_.slot_thunk(site.slot));
}

/// A loop's slot that was filled too often is given up.
void Emitter::emit_loop_slot_miss(const Cold& cold) {
  const Site site = cache_.site(cold.site);
  SlotSite slot_site = cold.slot_site;
  const std::uint32_t place = cache_.page_slot_address(site.slot);
  code_.add(r10, ptr[at(place + offsetof(PageSlot, page))]);
  slot_site.no_slot = code_.here();
  cold_.push_back({.kind = Cold::Kind::kMiss, .from = emit_tlb_probe(code_, site.tag, site.size), .site = cold.site});
  slot_site.fill_jump = code_.jump_later();
  code_.mov(r11, ptr[r11 + host_of(site.tag)]);
  code_.jump_to(site.access);
  code_.patch_here(slot_site.fill_jump);
  code_.sub(dword[at(cache_.slot_patience_address(site.slot))], 1);
  cold_.push_back({.kind = Cold::Kind::kGiveUpSlot, .from = code_.jump_later_if(2), .site = cold.site, .slot_site = slot_site});
  emit_slot_fill(code_, cache_, site.slot, site.tag);
  code_.jump_to(site.access);
}

/// Accesses that stay on one page for long: the stack's, those at a fixed place, with or without an index, and perhaps a loop's.
std::uint32_t Emitter::page_slot_of(const ZydisDecodedOperand& operand) const {
  const ZydisDecodedOperandMem& memory = operand.mem;
  const int base = gpr_number(memory.base);
  if (base == 4) return kStackSlot;
  if (base == 5 && memory.index == ZYDIS_REGISTER_NONE) return kFrameSlot;
  const auto displacement = static_cast<std::int64_t>(memory.disp.value);
  const bool is_relative = memory.base == ZYDIS_REGISTER_RIP || memory.base == ZYDIS_REGISTER_EIP;
  const bool is_far = displacement >= 0x10000 || displacement < -0x10000;
  if (base >= 0 && !is_far) return loop_slot_of(base);
  const std::uint64_t place = static_cast<std::uint64_t>(displacement) + (is_relative ? in_->next() : 0);
  return kFirstFixedSlot + static_cast<std::uint32_t>((place >> 12 ^ place >> 17) % (kFirstLoopSlot - kFirstFixedSlot));
}

std::uint32_t Emitter::loop_slot_of(int base) const {
  if (!trace_.has_loop_slots) return kNoSlot;
  const std::uint64_t loop = trace_.address >> 3 ^ trace_.address >> 9;
  return kFirstLoopSlot + static_cast<std::uint32_t>((loop * 16 + static_cast<unsigned>(base)) % (kPageSlots - kFirstLoopSlot));
}

void Emitter::fold_address() { code_.lea(r11, ptr[r11 + r10]); }

unsigned Emitter::free_low_register() const {
  unsigned used = 0;
  for (std::uint8_t i = 0; i < in_->zydis.operand_count; ++i) {
    if (in_->operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
    const int number = gpr_number(in_->operands[i].reg.value);
    if (number >= 0) used |= 1U << number;
  }
  for (const unsigned candidate : {7U, 6U, 3U, 2U, 1U}) {
    if ((used >> candidate & 1) == 0) return candidate;
  }
  return 7;  // five registers are never all used beside a high byte
}

void Emitter::emit_memory() {
  give_up_flags();
  emit_address(in_->memory_operand(), true);
  emit_look_up(in_->memory_size, in_->memory_write, in_->masked, page_slot_of(in_->memory_operand()));
  const bool needs_flags = needs_native_flags();
  // Without a REX prefix the rewritten operand would change AH, CH, DH and BH into SPL, BPL, SIL and DIL.
  const bool low = in_->high_byte;
  const int slot = in_->slots_used == 0 ? -1 : (in_->slots_used == 1 ? 10 : 11);
  MemoryForm form = MemoryForm::kBaseIndex;
  if (needs_flags || low || slot >= 0) {
    fold_address();
    form = MemoryForm::kBase;
  }
  if (needs_flags) reload_flags(r10);
  if (slot >= 0) load_slot(r10, slot);
  unsigned low_register = 0;
  if (low) {
    low_register = free_low_register();
    code_.xchg(Xbyak::Reg64(static_cast<int>(low_register)), r11);
    form = MemoryForm::kLow;
  }
  mark(*in_);
  emit_redirected(code_, *in_, form, low_register, 10);
  if (low) code_.xchg(Xbyak::Reg64(static_cast<int>(low_register)), r11);
  if (slot >= 0 && in_->slots_written != 0) store_slot(slot, r10);
  note_flags_written();
}

void Emitter::emit_absolute_move() {
  give_up_flags();
  emit_address(in_->memory_operand(), true);
  emit_look_up(in_->memory_size, in_->memory_write, false, page_slot_of(in_->memory_operand()));
  mark(*in_);
  const Xbyak::RegExp place = r11 + r10;
  switch (in_->memory_size) {
    case 1: in_->memory_write ? code_.mov(byte[place], al) : code_.mov(al, byte[place]); break;
    case 2: in_->memory_write ? code_.mov(word[place], ax) : code_.mov(ax, word[place]); break;
    case 4: in_->memory_write ? code_.mov(dword[place], eax) : code_.mov(eax, dword[place]); break;
    default: in_->memory_write ? code_.mov(qword[place], rax) : code_.mov(rax, qword[place]); break;
  }
}

void Emitter::emit_bit_test() {
  // The index reaches beyond the operand: address += (index >> log2 of the bits) * bytes, index modulo the bits.
  give_up_flags();
  const unsigned bits = in_->zydis.operand_width;
  const unsigned shift = bits == 64 ? 6 : bits == 32 ? 5 : 4;
  const int number = gpr_number(in_->operands[1].reg.value);
  const bool is_slot = number == 10 || number == 11;
  emit_address(in_->memory_operand(), true);
  if (is_slot) load_slot(r11, number);
  else code_.mov(r11, Xbyak::Reg64(number));
  if (bits == 32) code_.movsxd(r11, r11d);
  if (bits == 16) code_.movsx(r11, r11w);
  code_.sar(r11, static_cast<int>(shift));
  if (trace_.mode.is_64() && in_->zydis.address_width == 64) code_.lea(r10, ptr[r10 + r11 * static_cast<int>(bits / 8)]);
  else code_.lea(r10d, ptr[r10 + r11 * static_cast<int>(bits / 8)]);
  emit_look_up(bits / 8, in_->memory_write);
  fold_address();
  // The rewritten instruction's own index is small, so that it does not move the address again.
  if (is_slot) load_slot(r10, number);
  else code_.mov(r10, Xbyak::Reg64(number));
  code_.and_(r10d, bits - 1);
  if (needs_native_flags()) {
    code_.store(Word::kTemporary, r10);
    reload_flags(r10);
    code_.load(r10, Word::kTemporary);
  }
  mark(*in_);
  Instruction with_small_index = *in_;
  with_small_index.operands[1].reg.value = ZYDIS_REGISTER_R10;  // rewritten as the slot's register
  emit_redirected(code_, with_small_index, MemoryForm::kBase, 0, 10);
  note_flags_written();
}

void Emitter::emit_lea() {
  const ZydisDecodedOperand& operand = in_->memory_operand();
  const int target = gpr_number(in_->operands[0].reg.value);
  const bool target_is_slot = target == 10 || target == 11;
  const int base = gpr_number(operand.mem.base);
  const int index = gpr_number(operand.mem.index);
  const bool is_relative = operand.mem.base == ZYDIS_REGISTER_RIP || operand.mem.base == ZYDIS_REGISTER_EIP;
  const bool uses_slots = target_is_slot || base == 10 || base == 11 || index == 10 || index == 11;
  if (trace_.mode.is_64() && !uses_slots && !is_relative) {
    code_.bytes(std::span(in_->bytes).first(in_->zydis.length));
    return;
  }
  const unsigned bits = in_->operands[0].size;
  if (is_relative && !target_is_slot && bits == 64 && in_->zydis.address_width == 64) {
    code_.constant(Xbyak::Reg64(target), in_->next() + static_cast<std::uint64_t>(operand.mem.disp.value));
    return;
  }
  emit_address(operand, false);
  if (!target_is_slot) {
    if (bits == 64) code_.mov(Xbyak::Reg64(target), r10);
    else if (bits == 32) code_.mov(Xbyak::Reg32(target), r10d);
    else code_.mov(Xbyak::Reg16(target), r10w);
    return;
  }
  if (bits == 16) {
    code_.gs_form();
    code_.mov(ptr[at(gpr_offset(target))], r10w);
    return;
  }
  if (bits == 32) code_.mov(r10d, r10d);
  store_slot(target, r10);
}

}  // namespace bygone::cpu::translator::jit
