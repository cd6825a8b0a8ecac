#include "cpu/translator/jit/thunks.h"

#include <sys/auxv.h>

#include "cpu/translator/jit/assembler.h"
#include "cpu/translator/jit/runtime.h"

namespace bygone::cpu::translator::jit {
namespace {

using namespace Xbyak::util;

constexpr std::size_t kSpace = 16384;

std::uint32_t gpr_offset(int number) { return static_cast<std::uint32_t>(offset::kGpr) + 8U * static_cast<std::uint32_t>(number); }

constexpr int kPinned[] = {0, 1, 2, 3, 5, 6, 7, 8, 9, 12, 13, 14, 15};
constexpr int kCallerSaved[] = {0, 1, 2, 6, 7, 8, 9};

class ThunkEmitter {
 public:
  explicit ThunkEmitter(const CodeMemory& memory) : code_(memory, 0, kSpace) {}

  Thunks emit() {
    thunks_.enter = here();
    emit_enter();
    // Most vectors first: each reason falls into the common end.
    const std::uint32_t common = emit_leave_common();
    thunks_.leave_interpret = emit_leave(LeaveReason::kInterpret, common);
    thunks_.leave_attention = emit_leave(LeaveReason::kAttention, common);
    thunks_.leave_fault = emit_leave(LeaveReason::kFault, common);
    thunks_.leave_lookup = emit_leave(LeaveReason::kLookup, common);
    thunks_.resume = here();
    code_.load(r11, Word::kTemporary);
    code_.gs_form();
    code_.jmp(ptr[at(word_offset(Word::kResume))]);
    thunks_.fill = here();
    emit_call(reinterpret_cast<const void*>(&runtime_fill));
    thunks_.give_up_slot = here();
    emit_call(reinterpret_cast<const void*>(&runtime_give_up_slot));
    thunks_.link = here();
    emit_call(reinterpret_cast<const void*>(&runtime_link));
    thunks_.find = here();
    emit_call(reinterpret_cast<const void*>(&runtime_find));
    thunks_.string = here();
    emit_string();
    thunks_.system = here();
    emit_call(reinterpret_cast<const void*>(&runtime_system));
    thunks_.load_vectors = here();
    emit_load_vectors();
    thunks_.end = here();
    return thunks_;
  }

 private:
  std::uint32_t here() {
    code_.align(16);
    return code_.here();
  }

  void emit_enter() {
    for (const auto& reg : {rbx, rbp, r12, r13, r14, r15}) code_.push(reg);
    code_.sub(rsp, 8);
    if (can_write_gs_base()) code_.bytes(std::array<std::uint8_t, 5>{0xF3, 0x48, 0x0F, 0xAE, 0xDF});  // wrgsbase rdi
    code_.store(Word::kSelf, rdi);
    code_.store(Word::kHostStack, rsp);
    code_.store(Word::kTarget, rsi);
    for (const int number : kPinned) code_.load(Xbyak::Reg64(number), gpr_offset(number));
    code_.load(rsp, gpr_offset(4));
    code_.gs_form();
    code_.jmp(ptr[at(word_offset(Word::kTarget))]);
  }

  std::uint32_t emit_leave(LeaveReason reason, std::uint32_t common) {
    const std::uint32_t start = here();
    code_.store_constant32(Word::kReason, static_cast<std::uint32_t>(reason));
    code_.jump_to(common);
    return start;
  }

  std::uint32_t emit_leave_common() {
    const std::uint32_t start = here();
    for (const int number : kPinned) code_.store(gpr_offset(number), Xbyak::Reg64(number));
    code_.store(gpr_offset(4), rsp);
    code_.load(rsp, Word::kHostStack);
    code_.gs_form();
    code_.cmp(dword[at(word_offset(Word::kVectorsHome))], 0);
    Xbyak::Label home;
    code_.jne(home, Xbyak::CodeGenerator::T_NEAR);
    emit_save_vectors();
    code_.L(home);
    code_.add(rsp, 8);
    for (const auto& reg : {r15, r14, r13, r12, rbp, rbx}) code_.pop(reg);
    code_.ret();
    return start;
  }

  /// Calls helper(block, r10) and goes on where it says; r10 is Word::kAddress then. Registers stay the guest's.
  void emit_call(const void* helper) {
    for (const int number : kCallerSaved) code_.store(gpr_offset(number), Xbyak::Reg64(number));
    code_.store(gpr_offset(4), rsp);
    code_.store(Word::kAddress, r10);
    code_.load(rsp, Word::kHostStack);
    code_.load(rdi, Word::kSelf);
    code_.mov(rsi, r10);
    code_.mov(rax, reinterpret_cast<std::uint64_t>(helper));
    code_.call(rax);
    code_.mov(r11, rax);
    for (const int number : kCallerSaved) code_.load(Xbyak::Reg64(number), gpr_offset(number));
    code_.load(rsp, gpr_offset(4));
    code_.load(r10, Word::kAddress);
    code_.jmp(r11);
  }

  /// A string operation changes rax, rcx, rsi and rdi: it works on the block's copies.
  void emit_string() {
    code_.store(Word::kResume, r11);
    emit_call(reinterpret_cast<const void*>(&runtime_string));
  }

  void emit_save_vectors() {
    code_.load(eax, static_cast<std::uint32_t>(offset::kMode));
    code_.gs_form();
    code_.stmxcsr(ptr[at(offset::kMxcsr)]);
    code_.save_x87(offset::kX87);
    code_.xor_(ecx, ecx);  // the last instruction's and operand's places are the host's: not for the guest to see
    code_.store(static_cast<std::uint32_t>(offset::kX87 + 8), rcx);
    code_.store(static_cast<std::uint32_t>(offset::kX87 + 16), rcx);
    Xbyak::Label sse, avx, done;
    code_.test(eax, kModeAvx);
    code_.jz(sse, Xbyak::CodeGenerator::T_NEAR);
    code_.test(eax, kModeAvx512);
    code_.jz(avx, Xbyak::CodeGenerator::T_NEAR);
    for (int i = 0; i < 32; ++i) code_.gs_form(), code_.vmovdqu64(ptr[at(zmm_offset(i))], Xbyak::Zmm(i));
    for (int i = 0; i < 8; ++i) code_.gs_form(), code_.kmovq(ptr[at(opmask_offset(i))], Xbyak::Opmask(i));
    code_.vzeroupper();
    code_.jmp(done, Xbyak::CodeGenerator::T_NEAR);
    code_.L(avx);
    for (int i = 0; i < 16; ++i) code_.gs_form(), code_.vmovdqu(ptr[at(zmm_offset(i))], Xbyak::Ymm(i));
    code_.vzeroupper();
    code_.jmp(done, Xbyak::CodeGenerator::T_NEAR);
    code_.L(sse);
    for (int i = 0; i < 16; ++i) code_.gs_form(), code_.movups(ptr[at(zmm_offset(i))], Xbyak::Xmm(i));
    code_.L(done);
    code_.fninit();
    code_.sub(rsp, 8);
    code_.mov(dword[rsp], 0x1F80);
    code_.ldmxcsr(ptr[rsp]);
    code_.add(rsp, 8);
    code_.gs_form();
    code_.mov(dword[at(word_offset(Word::kVectorsHome))], 1);
  }

  /// Upper halves that are all zero are not loaded: a processor that knows them clean runs legacy SSE code faster. Registers 16 to 31
  /// have no part in that, and C libraries leave theirs full to spare VZEROUPPER.
  void emit_load_vectors() {
    code_.load(r10d, static_cast<std::uint32_t>(offset::kMode));
    code_.gs_form();
    code_.fxrstor64(ptr[at(offset::kX87)]);
    code_.gs_form();
    code_.ldmxcsr(ptr[at(offset::kMxcsr)]);
    Xbyak::Label sse, avx, clean, done;
    code_.test(r10d, kModeAvx);
    code_.jz(sse, Xbyak::CodeGenerator::T_NEAR);
    code_.test(r10d, kModeAvx512);
    code_.jz(avx, Xbyak::CodeGenerator::T_NEAR);
    for (int i = 0; i < 8; ++i) code_.gs_form(), code_.kmovq(Xbyak::Opmask(i), ptr[at(opmask_offset(i))]);
    emit_load_high_vectors();
    code_.vpxor(xmm0, xmm0, xmm0);
    for (int i = 0; i < 16; ++i) code_.gs_form(), code_.vpor(ymm0, ymm0, ptr[at(zmm_offset(i) + 32)]);
    code_.vptest(ymm0, ymm0);
    code_.jz(avx, Xbyak::CodeGenerator::T_NEAR);
    for (int i = 0; i < 16; ++i) code_.gs_form(), code_.vmovdqu64(Xbyak::Zmm(i), ptr[at(zmm_offset(i))]);
    code_.jmp(done, Xbyak::CodeGenerator::T_NEAR);
    code_.L(avx);
    code_.vpxor(xmm0, xmm0, xmm0);
    for (int i = 0; i < 16; ++i) code_.gs_form(), code_.vpor(xmm0, xmm0, ptr[at(zmm_offset(i) + 16)]);
    code_.vptest(xmm0, xmm0);
    code_.jz(clean, Xbyak::CodeGenerator::T_NEAR);
    for (int i = 0; i < 16; ++i) code_.gs_form(), code_.vmovdqu(Xbyak::Ymm(i), ptr[at(zmm_offset(i))]);
    code_.jmp(done, Xbyak::CodeGenerator::T_NEAR);
    code_.L(clean);
    code_.vzeroupper();
    code_.L(sse);
    for (int i = 0; i < 16; ++i) code_.gs_form(), code_.movups(Xbyak::Xmm(i), ptr[at(zmm_offset(i))]);
    code_.L(done);
    code_.gs_form();
    code_.mov(dword[at(word_offset(Word::kVectorsHome))], 0);
    code_.jmp(r11);
  }

  void emit_load_high_vectors() {
    Xbyak::Label empty, loaded;
    code_.vpxor(xmm0, xmm0, xmm0);
    for (int i = 16; i < 32; ++i) {
      code_.gs_form(), code_.vpor(ymm0, ymm0, ptr[at(zmm_offset(i))]);
      code_.gs_form(), code_.vpor(ymm0, ymm0, ptr[at(zmm_offset(i) + 32)]);
    }
    code_.vptest(ymm0, ymm0);
    code_.jz(empty, Xbyak::CodeGenerator::T_NEAR);
    for (int i = 16; i < 32; ++i) code_.gs_form(), code_.vmovdqu64(Xbyak::Zmm(i), ptr[at(zmm_offset(i))]);
    code_.jmp(loaded, Xbyak::CodeGenerator::T_NEAR);
    code_.L(empty);
    for (int i = 16; i < 32; ++i) code_.vpxord(Xbyak::Zmm(i), Xbyak::Zmm(i), Xbyak::Zmm(i));
    code_.L(loaded);
  }

  static std::size_t zmm_offset(int i) { return offset::kZmm + 64U * static_cast<std::size_t>(i); }
  static std::size_t opmask_offset(int i) {
    return offsetof(VcpuBlock, vector) + offsetof(VectorState, opmask) + 8U * static_cast<std::size_t>(i);
  }

  Assembler code_;
  Thunks thunks_;
};

}  // namespace

Result<Thunks> emit_thunks(const CodeMemory& memory) {
  try {
    return ThunkEmitter(memory).emit();
  } catch (const Xbyak::Error& error) {
    return fail(ErrorCode::kInternal, "emitting the translator's entry code: {}", error.what());
  }
}

bool can_write_gs_base() {
  constexpr unsigned long kHwcap2FsGsBase = 1U << 1;  // Linux arch/x86 HWCAP2_FSGSBASE
  static const bool can = (::getauxval(AT_HWCAP2) & kHwcap2FsGsBase) != 0;
  return can;
}

}  // namespace bygone::cpu::translator::jit
