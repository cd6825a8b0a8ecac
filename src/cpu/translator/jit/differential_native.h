// For the differential test: code on this host itself, in 64-bit mode or in compatibility mode with segments of the test's own.
//
// The code's last bytes jump back to a way out that stores the whole state. Linear addresses are the host's own.
#pragma once

#include <asm/ldt.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <xbyak/xbyak.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <stdexcept>

#include "cpu/translator/state.h"

namespace bygone::cpu::translator::jit {

inline constexpr std::uint64_t kNativeCode = 0x2040'0000;
inline constexpr std::uint64_t kNativeData = 0x2080'0000;
inline constexpr std::uint64_t kNativeExit = 0x20C0'0000;
inline constexpr std::uint64_t kNativeDataBytes = 0x10000;

struct NativeFrame {
  std::uint64_t gpr[16];
  std::uint64_t rflags;
  std::uint64_t host_stack;
  std::uint64_t far_target;  ///< offset and selector of 32-bit code
  std::uint64_t data_selector;
  alignas(64) VectorState vector;
};

/// A data segment of the local descriptor table, as the guest's hidden part and as the host's selector.
struct NativeSegment {
  std::uint32_t base = 0;
  std::uint32_t limit = 0xFFFF'FFFF;
  bool expands_down = false;
};

class NativeRunner {
 public:
  NativeRunner(unsigned bits, bool avx, bool avx512) : bits_(bits) {
    code_ = static_cast<std::uint8_t*>(map_at(kNativeCode, 4096 * 4, PROT_READ | PROT_WRITE | PROT_EXEC));
    data_ = static_cast<std::uint8_t*>(map_at(kNativeData - 0x1000, kNativeDataBytes + 0x2000, PROT_READ | PROT_WRITE)) + 0x1000;
    exit_ = static_cast<std::uint8_t*>(map_at(kNativeExit, kExitBytes, PROT_READ | PROT_WRITE | PROT_EXEC));
    frame_ = std::make_unique<NativeFrame>();
    frame_->far_target = kNativeCode | std::uint64_t{kUserCode32} << 32;
    frame_->data_selector = kUserData;
    emit(avx, avx512);
  }
  ~NativeRunner() {
    ::munmap(code_, 4096 * 4);
    ::munmap(data_ - 0x1000, kNativeDataBytes + 0x2000);
    ::munmap(exit_, kExitBytes);
  }
  NativeRunner(const NativeRunner&) = delete;
  NativeRunner& operator=(const NativeRunner&) = delete;

  [[nodiscard]] std::uint8_t* data() { return data_; }
  [[nodiscard]] NativeFrame& frame() { return *frame_; }

  /// 32-bit code: what DS is. Without a call it is flat.
  void set_data_segment(const NativeSegment& segment) {
    user_desc description = {};
    description.entry_number = 1;
    description.base_addr = segment.base;
    description.limit = segment.limit > 0xF'FFFF ? segment.limit >> 12 : segment.limit;
    description.limit_in_pages = segment.limit > 0xF'FFFF ? 1 : 0;
    description.seg_32bit = 1;
    description.contents = segment.expands_down ? MODIFY_LDT_CONTENTS_STACK : MODIFY_LDT_CONTENTS_DATA;
    description.useable = 1;
    constexpr int kWrite = 0x11;
    if (::syscall(SYS_modify_ldt, kWrite, &description, sizeof description) != 0) throw std::runtime_error("modify_ldt");
    frame_->data_selector = 1U << 3 | 7;
  }

  /// The signal that the code ends with, or 0. The state is lost then, but for x87 and MXCSR.
  int run_to_signal(std::span<const std::uint8_t> bytes) {
    constexpr std::array kSignals = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    static thread_local sigjmp_buf place;
    std::array<struct sigaction, kSignals.size()> before = {};
    struct sigaction action = {};
    static thread_local std::array<std::uint8_t, 512> float_then;
    action.sa_sigaction = [](int signal, siginfo_t*, void* context) {
      std::memcpy(float_then.data(), static_cast<ucontext_t*>(context)->uc_mcontext.fpregs, float_then.size());
      siglongjmp(place, signal);
    };
    action.sa_flags = SA_ONSTACK | SA_SIGINFO;
    std::array<std::uint8_t, 32768> stack;
    stack_t own = {};
    stack_t old = {};
    own.ss_sp = stack.data();
    own.ss_size = stack.size();
    ::sigaltstack(&own, &old);
    for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &action, &before[i]);
    const int signal = sigsetjmp(place, 1);
    if (signal == 0) {
      run(bytes);
    } else {
      float_at_signal_ = float_then;
      asm volatile("fninit; cld");
      const std::uint32_t mxcsr = 0x1F80;
      asm volatile("ldmxcsr %0" : : "m"(mxcsr));
    }
    for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &before[i], nullptr);
    ::sigaltstack(&old, nullptr);
    return signal;
  }

  /// An FXSAVE image.
  [[nodiscard]] std::span<const std::uint8_t> float_at_signal() const { return float_at_signal_; }

  void run(std::span<const std::uint8_t> bytes) {
    std::memcpy(code_, bytes.data(), bytes.size());
    std::uint8_t* behind = code_ + bytes.size();
    if (bits_ == 64) {
      const std::uint8_t jump[] = {0xFF, 0x25, 0, 0, 0, 0};  // jmp [rip]
      std::memcpy(behind, jump, 6);
      std::memcpy(behind + 6, &out_, 8);
    } else {
      behind[0] = 0xEA;  // jmp far
      std::memcpy(behind + 1, &out_, 4);
      std::memcpy(behind + 5, &kUserCode64, 2);
    }
    enter_();
  }

 private:
  static constexpr std::size_t kExitBytes = 16384;
  // Linux arch/x86/include/asm/segment.h
  static constexpr std::uint16_t kUserCode32 = 0x23, kUserData = 0x2B, kUserCode64 = 0x33;

  static void* map_at(std::uint64_t address, std::size_t bytes, int protection) {
    void* place = ::mmap(std::bit_cast<void*>(address), bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (place == MAP_FAILED) throw std::runtime_error("the test's address range is taken");
    return place;
  }

  void emit(bool avx, bool avx512) {
    using namespace Xbyak::util;
    Xbyak::CodeGenerator c(kExitBytes, exit_);
    const auto base = reinterpret_cast<std::uint64_t>(frame_.get());
    const auto field = [&](std::size_t offset) { return ptr[r11 + offset]; };
    const auto zmm = [&](int i) { return field(offsetof(NativeFrame, vector) + 64ULL * static_cast<unsigned>(i)); };
    const auto mask = [&](int i) { return field(offsetof(NativeFrame, vector) + offsetof(VectorState, opmask) + 8ULL * static_cast<unsigned>(i)); };
    const std::size_t x87 = offsetof(NativeFrame, vector) + offsetof(VectorState, x87);
    const std::size_t mxcsr = offsetof(NativeFrame, vector) + offsetof(VectorState, mxcsr);
    for (const auto& reg : {rbx, rbp, r12, r13, r14, r15}) c.push(reg);
    c.mov(r11, base);
    c.mov(field(offsetof(NativeFrame, host_stack)), rsp);
    c.fxrstor64(field(x87));
    c.ldmxcsr(field(mxcsr));
    for (int i = 0; i < (avx512 ? 32 : 16); ++i) {
      if (avx512) c.vmovdqu64(Xbyak::Zmm(i), zmm(i));
      else if (avx) c.vmovdqu(Xbyak::Ymm(i), zmm(i));
      else c.movups(Xbyak::Xmm(i), zmm(i));
    }
    for (int i = 0; avx512 && i < 8; ++i) c.kmovq(Xbyak::Opmask(i), mask(i));
    if (bits_ == 32) {
      c.mov(eax, dword[r11 + offsetof(NativeFrame, data_selector)]);
      c.db(0x8E), c.db(0xD8);  // mov ds, eax
      c.mov(eax, kUserData);
      c.db(0x8E), c.db(0xC0);  // mov es, eax
    }
    c.push(qword[r11 + offsetof(NativeFrame, rflags)]);
    c.popf();
    for (int i = 0; i < 16; ++i) {
      if (i != 11) c.mov(Xbyak::Reg64(i), field(8ULL * static_cast<unsigned>(i)));
    }
    c.mov(r11, field(88));
    if (bits_ == 64) {
      Xbyak::Label entry;
      c.jmp(ptr[rip + entry]);
      c.align(8);
      c.L(entry);
      c.dq(kNativeCode);
    } else {
      Xbyak::Label entry;
      c.db(0xFF), c.db(0x2D), c.dd(0);  // jmp far [rip]
      c.dq(frame_->far_target);
    }
    Xbyak::Label saved;
    out_ = reinterpret_cast<std::uint64_t>(c.getCurr());
    c.mov(ptr[rip + saved], r11);
    c.mov(r11, base);
    for (int i = 0; i < 16; ++i) {
      if (i != 11) c.mov(field(8ULL * static_cast<unsigned>(i)), Xbyak::Reg64(i));
    }
    c.mov(rax, ptr[rip + saved]);
    c.mov(field(88), rax);
    c.mov(rsp, field(offsetof(NativeFrame, host_stack)));
    c.pushf();
    c.pop(qword[r11 + offsetof(NativeFrame, rflags)]);
    c.cld();
    if (bits_ == 32) {
      c.xor_(eax, eax);
      c.db(0x8E), c.db(0xD8);
      c.db(0x8E), c.db(0xC0);
    }
    c.db(0x49), c.db(0x0F), c.db(0xAE), c.db(0x83), c.dd(static_cast<std::uint32_t>(x87));  // fxsave64 [r11 + x87]
    c.stmxcsr(field(mxcsr));
    for (int i = 0; i < (avx512 ? 32 : 16); ++i) {
      if (avx512) c.vmovdqu64(zmm(i), Xbyak::Zmm(i));
      else if (avx) c.vmovdqu(zmm(i), Xbyak::Ymm(i));
      else c.movups(zmm(i), Xbyak::Xmm(i));
    }
    for (int i = 0; avx512 && i < 8; ++i) c.kmovq(mask(i), Xbyak::Opmask(i));
    if (avx) c.vzeroupper();
    c.fninit();
    c.push(0x1F80);
    c.ldmxcsr(ptr[rsp]);
    c.pop(rax);
    for (const auto& reg : {r15, r14, r13, r12, rbp, rbx}) c.pop(reg);
    c.ret();
    c.align(8);
    c.L(saved);
    c.dq(0);
    enter_ = reinterpret_cast<void (*)()>(exit_);
  }

  unsigned bits_;
  std::uint8_t* code_ = nullptr;
  std::uint8_t* data_ = nullptr;
  std::uint8_t* exit_ = nullptr;
  std::uint64_t out_ = 0;
  std::array<std::uint8_t, 512> float_at_signal_ = {};
  void (*enter_)() = nullptr;
  std::unique_ptr<NativeFrame> frame_;
};

}  // namespace bygone::cpu::translator::jit
