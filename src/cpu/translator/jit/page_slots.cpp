#include "cpu/translator/jit/page_slots.h"

#include <xbyak/xbyak_util.h>

namespace bygone::cpu::translator::jit {

using namespace Xbyak::util;

namespace {

constexpr unsigned kLargestAccess = 64;
constexpr std::size_t kSlotThunkSpace = 65536;

bool host_has_bmi2() {
  static const bool has = Xbyak::util::Cpu().has(Xbyak::util::Cpu::tBMI2);
  return has;
}

void emit_slot_thunk(Assembler& code, const Cache& cache, std::uint32_t slot, std::uint32_t tag) {
  code.store(Word::kResume, r11);
  code.add(r10, ptr[at(cache.page_slot_address(slot) + offsetof(PageSlot, page))]);
  const std::uint32_t miss = emit_tlb_probe(code, tag, kLargestAccess);  // near the page's end the run time looks closer
  emit_slot_fill(code, cache, slot, tag);
  code.gs_form();
  code.jmp(ptr[at(word_offset(Word::kResume))]);
  code.patch_here(miss);
  code.add(r10, ptr[r11 + std::size_t{tag}]);
  code.jump_to(cache.thunks().fill);
}

}  // namespace

std::uint32_t tag_of(std::uint32_t tlb_address, std::uint32_t context, bool write) {
  const auto table = tlb_address + context * static_cast<std::uint32_t>(kTlbTableBytes);
  return table + static_cast<std::uint32_t>(write ? offsetof(TlbEntry, write_tag) : offsetof(TlbEntry, read_tag));
}

std::uint32_t emit_tlb_probe(Assembler& code, std::uint32_t tag, unsigned size) {
  if (host_has_bmi2()) {
    code.rorx(r11, r10, kTlbIndexShift);
  } else {
    code.mov(r11, r10);
    code.shr(r11, kTlbIndexShift);
  }
  code.and_(r11d, static_cast<std::uint32_t>(kTlbIndexMask));
  code.sub(r10, ptr[r11 + std::size_t{tag}]);
  code.cmp(r10, 4096 - size);
  return code.jump_later_if(7);
}

void emit_slot_fill(Assembler& code, const Cache& cache, std::uint32_t slot, std::uint32_t tag) {
  const std::uint32_t place = cache.page_slot_address(slot);
  code.or_(byte[at(cache.filled_slots_address(slot))], 1U << slot % 8);
  code.store(Word::kTemporary, rax);
  code.mov(rax, ptr[r11 + std::size_t{tag}]);
  code.mov(ptr[at(place + offsetof(PageSlot, page))], rax);
  code.mov(rax, ptr[r11 + host_of(tag)]);
  code.mov(ptr[at(place + offsetof(PageSlot, host))], rax);
  code.mov(r11, rax);
  code.load(rax, Word::kTemporary);
}

Result<std::uint32_t> emit_slot_thunks(const Cache& cache, std::uint32_t offset, std::uint32_t* places) {
  try {
    Assembler code(cache.code(), offset, kSlotThunkSpace);
    for (std::uint32_t context = 0; context < kTlbContextCount; ++context) {
      for (const bool write : {false, true}) {
        for (std::uint32_t slot = 0; slot < kFirstLoopSlot; ++slot) {
          const std::uint32_t number = Cache::page_slot_number(context, write, slot);
          places[number] = code.here();
          emit_slot_thunk(code, cache, number, tag_of(cache.tlb_address(), context, write));
        }
      }
    }
    return code.here();
  } catch (const Xbyak::Error& error) {
    return fail(ErrorCode::kInternal, "emitting the translator's code for page slots: {}", error.what());
  }
}

}  // namespace bygone::cpu::translator::jit
