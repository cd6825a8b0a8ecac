// Random instruction sequences, run by the translator and natively on this host; the whole state is compared.
//
// Guest linear addresses equal host addresses, so that the same bytes mean the same natively. Where the translator leaves (a
// fault, an instruction for the interpreter), the host runs only what comes before, which checks that the state is exact there.
#include <gtest/gtest.h>
#include <signal.h>

#include <csetjmp>
#include <random>
#include <string>

#include "cpu/translator/jit/assembler.h"
#include "cpu/translator/jit/instruction.h"
#include "cpu/translator/jit/test_machine.h"

namespace bygone::cpu::translator::jit {
namespace {

using namespace Xbyak::util;

constexpr std::uint64_t kCodeAddress = 0x2040'0000;
constexpr std::uint64_t kDataAddress = 0x2080'0000;
constexpr std::uint64_t kDataBytes = 0x10000;
constexpr std::uint32_t kPointers = 1U << 3 | 1U << 6 | 1U << 11 | 1U << 13;  // rbx rsi r11 r13
constexpr unsigned kIndex = 14;

struct NativeFrame {
  std::uint64_t gpr[16];
  std::uint64_t rflags;
  std::uint64_t host_stack;
  std::uint64_t entry;
  alignas(64) VectorState vector;
};

void* map_at(std::uint64_t address, std::size_t bytes, int protection) {
  void* place = ::mmap(reinterpret_cast<void*>(address), bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (place == MAP_FAILED) throw std::runtime_error("the test's address range is taken");
  return place;
}

/// Runs bytes at kCodeAddress natively on a state.
class NativeRunner {
 public:
  explicit NativeRunner(bool avx, bool avx512) {
    code_ = static_cast<std::uint8_t*>(map_at(kCodeAddress, 4096 * 4, PROT_READ | PROT_WRITE | PROT_EXEC));
    data_ = static_cast<std::uint8_t*>(map_at(kDataAddress - 0x1000, kDataBytes + 0x2000, PROT_READ | PROT_WRITE)) + 0x1000;
    frame_ = std::make_unique<NativeFrame>();
    emit(avx, avx512);
  }
  ~NativeRunner() {
    ::munmap(code_, 4096 * 4);
    ::munmap(data_ - 0x1000, kDataBytes + 0x2000);
  }
  NativeRunner(const NativeRunner&) = delete;
  NativeRunner& operator=(const NativeRunner&) = delete;

  [[nodiscard]] std::uint8_t* data() { return data_; }
  [[nodiscard]] NativeFrame& frame() { return *frame_; }
  void run(std::span<const std::uint8_t> bytes) {
    std::memcpy(code_, bytes.data(), bytes.size());
    std::uint8_t* behind = code_ + bytes.size();
    const std::uint8_t jump[] = {0xFF, 0x25, 0, 0, 0, 0};  // jmp [rip]
    std::memcpy(behind, jump, 6);
    std::memcpy(behind + 6, &out_, 8);
    enter_();
  }

 private:
  void emit(bool avx, bool avx512) {
    const auto base = reinterpret_cast<std::uint64_t>(frame_.get());
    const auto field = [&](std::size_t offset) { return ptr[r11 + static_cast<int>(offset)]; };
    const auto zmm = [&](int i) { return field(offsetof(NativeFrame, vector) + 64U * static_cast<unsigned>(i)); };
    const auto mask = [&](int i) { return field(offsetof(NativeFrame, vector) + offsetof(VectorState, opmask) + 8U * static_cast<unsigned>(i)); };
    const std::size_t x87 = offsetof(NativeFrame, vector) + offsetof(VectorState, x87);
    const std::size_t mxcsr = offsetof(NativeFrame, vector) + offsetof(VectorState, mxcsr);
    auto& c = generator_;
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
    c.push(qword[r11 + offsetof(NativeFrame, rflags)]);
    c.popf();
    for (int i = 0; i < 16; ++i) {
      if (i != 11) c.mov(Xbyak::Reg64(i), field(8U * static_cast<unsigned>(i)));
    }
    c.mov(r11, field(88));
    c.jmp(ptr[rip + entry_]);
    c.align(8);
    c.L(entry_);
    c.dq(kCodeAddress);
    Xbyak::Label saved;
    out_ = reinterpret_cast<std::uint64_t>(c.getCurr());
    c.mov(ptr[rip + saved], r11);
    c.mov(r11, base);
    for (int i = 0; i < 16; ++i) {
      if (i != 11) c.mov(field(8U * static_cast<unsigned>(i)), Xbyak::Reg64(i));
    }
    c.mov(rax, ptr[rip + saved]);
    c.mov(field(88), rax);
    c.mov(rsp, field(offsetof(NativeFrame, host_stack)));
    c.pushf();
    c.pop(qword[r11 + offsetof(NativeFrame, rflags)]);
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
    c.cld();
    c.push(0x1F80);
    c.ldmxcsr(ptr[rsp]);
    c.pop(rax);
    for (const auto& reg : {r15, r14, r13, r12, rbp, rbx}) c.pop(reg);
    c.ret();
    c.align(8);
    c.L(saved);
    c.dq(0);
    c.ready();
    enter_ = c.getCode<void (*)()>();
  }

  Xbyak::CodeGenerator generator_{16384};
  Xbyak::Label entry_;
  std::uint8_t* code_ = nullptr;
  std::uint8_t* data_ = nullptr;
  std::uint64_t out_ = 0;
  void (*enter_)() = nullptr;
  std::unique_ptr<NativeFrame> frame_;
};

class Fuzzer {
 public:
  Fuzzer(std::uint64_t seed, ModeKey mode) : random_(seed), mode_(mode) {}

  std::uint64_t word() { return random_(); }
  std::uint32_t below(std::uint32_t bound) { return static_cast<std::uint32_t>(random_() % bound); }

  /// Appends an instruction that the translator takes and that keeps the pointers; its decoding is in `last`.
  /// Does not read flags that are undefined at this place.
  void append(std::vector<std::uint8_t>& code, std::uint32_t undefined) {
    for (;;) {
      std::array<std::uint8_t, 16> bytes = candidate();
      if (!decoder_.decode(mode_, bytes, kCodeAddress + code.size(), last) || !is_fit(last) || (last.flags_read & undefined) != 0) continue;
      code.insert(code.end(), bytes.begin(), bytes.begin() + last.zydis.length);
      return;
    }
  }
  Instruction last;

 private:
  std::array<std::uint8_t, 16> candidate() {
    std::array<std::uint8_t, 16> bytes;
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random_());
    std::size_t at = 0;
    const std::uint32_t shape = below(10);
    if (shape < 6) {
      if (below(4) == 0) bytes[at++] = std::array<std::uint8_t, 4>{0x66, 0xF2, 0xF3, 0xF0}[below(4)];
      if (below(2) == 0) bytes[at++] = static_cast<std::uint8_t>(0x40 | below(16));
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
      at += 3;
    } else {
      bytes[at++] = 0x62;
      bytes[at] = static_cast<std::uint8_t>((bytes[at] & 0xF0) | (1 + below(3)));
      bytes[at + 1] |= 4;
      at += 4;
    }
    // ModRM, SIB and a short displacement.
    if (below(2) == 0) {
      bytes[at] |= 0xC0;
    } else {
      bytes[at] = static_cast<std::uint8_t>((bytes[at] & 0x3F) | (below(2) << 6));
    }
    return bytes;
  }

  bool is_fit(const Instruction& in) {
    switch (in.kind) {
      case Kind::kPlain: case Kind::kMemory: case Kind::kLea: case Kind::kBitTest: case Kind::kPush: case Kind::kPop:
      case Kind::kNothing: case Kind::kPushFlags: case Kind::kDirection:
        break;
      default:
        return false;
    }
    switch (in.zydis.mnemonic) {
      case ZYDIS_MNEMONIC_RDRAND: case ZYDIS_MNEMONIC_RDSEED: case ZYDIS_MNEMONIC_STD: case ZYDIS_MNEMONIC_PUSHFQ:
        return false;  // not the same twice; the interrupt flag differs
      default:
        break;
    }
    if (in.kind == Kind::kNothing && below(20) != 0) return false;
    if (in.kind == Kind::kBitTest && gpr_number(in.operands[1].reg.value) != static_cast<int>(kIndex)) return false;
    for (std::uint8_t i = 0; i < in.zydis.operand_count; ++i) {
      const ZydisDecodedOperand& operand = in.operands[i];
      if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER) {
        const int number = gpr_number(operand.reg.value);
        const bool is_written = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
        if (number < 0 || !is_written) continue;
        if ((kPointers >> number & 1) != 0 || number == static_cast<int>(kIndex)) return false;
        if (number == 4 && operand.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT) return false;
        if (number == 4 && in.kind != Kind::kPush && in.kind != Kind::kPop) return false;
      } else if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY && operand.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT &&
                 in.kind != Kind::kLea && in.kind != Kind::kNothing) {
        const int base = gpr_number(operand.mem.base);
        if (base < 0 || (base != 4 && (kPointers >> base & 1) == 0)) return false;
        if (operand.mem.index != ZYDIS_REGISTER_NONE && operand.mem.index != ZYDIS_REGISTER_R14) return false;
        if (operand.mem.segment == ZYDIS_REGISTER_FS || operand.mem.segment == ZYDIS_REGISTER_GS) return false;
        if (in.zydis.address_width != 64 || operand.mem.disp.value > 0x900 || operand.mem.disp.value < -0x900) return false;
      }
    }
    return true;
  }

  std::mt19937_64 random_;
  ModeKey mode_;
  Decoder decoder_;
};

class Comparison {
 public:
  Comparison()
      : machine_(64, true), avx_((machine_.block().mode & kModeAvx) != 0), avx512_((machine_.block().mode & kModeAvx512) != 0),
        native_(avx_, avx512_), fuzzer_(1, ModeKey{machine_.block().mode | kTlbUser << ModeKey::kContextShift}) {}

  void run(std::uint64_t seed, int rounds) {
    fuzzer_ = Fuzzer(seed, ModeKey{machine_.block().mode | kTlbUser << ModeKey::kContextShift});
    for (int i = 0; i < rounds && !testing::Test::HasFailure(); ++i) run_one();
    EXPECT_GT(completed_ * 10, rounds * 6) << "too many sequences were left early";
  }

 private:
  void run_one() {
    std::vector<std::uint8_t> code;
    std::vector<std::uint32_t> ends;
    std::uint32_t unclear = 0;
    const std::uint32_t count = 1 + fuzzer_.below(8);
    std::string text;
    for (std::uint32_t i = 0; i < count; ++i) {
      fuzzer_.append(code, unclear);
      const Instruction& in = fuzzer_.last;
      if (in.zydis.cpu_flags != nullptr) {
        unclear = (unclear & ~in.flags_written) | (in.zydis.cpu_flags->undefined & kArithmeticFlags);
      }
      ends.push_back(static_cast<std::uint32_t>(code.size()));
      text += fmt::format("{:02x} ({})\n", fmt::join(std::span(in.bytes).first(in.zydis.length), " "),
                          ZydisMnemonicGetString(in.zydis.mnemonic));
    }
    prepare();
    std::vector<std::uint8_t> with_end = code;
    with_end.push_back(0xF4);
    const std::uint64_t physical = kCodeAddress % TestMachine::kRamBytes;
    machine_.load(physical, with_end);
    (void)machine_.pages().wrote(nullptr, physical >> 12, 0, 4095);
    machine_.block().attention = 0;
    const Tier1Result result = machine_.run(kCodeAddress);
    ASSERT_NE(result, Tier1Result::kAttention);
    const std::uint64_t stopped = machine_.block().rip - kCodeAddress;
    std::uint32_t flags_mask = kArithmeticFlags;
    if (stopped != code.size()) {
      std::size_t at = 0;
      while (at < ends.size() && ends[at] != stopped) ++at;
      ASSERT_TRUE(stopped == 0 || at < ends.size()) << "left at " << stopped << "\n" << text;
      // Flags that the instruction left at, or one behind it, overwrites are not kept for a way out.
      flags_mask = 0;
    } else {
      ++completed_;
      flags_mask &= ~unclear;
    }
    native_.run(std::span(code).first(stopped));
    compare(text, flags_mask);
  }

  void prepare() {
    VcpuBlock& block = machine_.block();
    NativeFrame& frame = native_.frame();
    for (unsigned i = 0; i < 16; ++i) {
      std::uint64_t value = fuzzer_.word();
      if (fuzzer_.below(4) == 0) value = static_cast<std::uint64_t>(static_cast<std::int64_t>(fuzzer_.below(16)) - 8);
      if ((kPointers >> i & 1) != 0 || i == 4) value = kDataAddress + 0x1000 * (1 + fuzzer_.below(8)) + (fuzzer_.below(3) == 0 ? 0xFF8 : fuzzer_.below(4096) & ~63U);
      if (i == kIndex) value = static_cast<std::uint64_t>(static_cast<std::int64_t>(fuzzer_.below(17)) - 8);
      block.gpr[i] = frame.gpr[i] = value;
    }
    block.rflags = frame.rflags = 0x202 | (fuzzer_.word() & kArithmeticFlags);
    VectorState& vector = block.vector;
    vector = VectorState{};
    for (auto& reg : vector.zmm) {
      const std::size_t width = avx512_ && fuzzer_.below(2) == 0 ? 64 : avx_ && fuzzer_.below(2) == 0 ? 32 : 16;
      for (std::size_t i = 0; i < width; ++i) reg[i] = static_cast<std::uint8_t>(fuzzer_.word());
    }
    if (!avx512_) for (std::size_t i = 16; i < 32; ++i) vector.zmm[i] = {};
    if (avx512_) for (auto& mask : vector.opmask) mask = fuzzer_.word();
    const std::uint16_t control = 0x37F;
    std::memcpy(vector.x87.data(), &control, 2);
    vector.x87[4] = static_cast<std::uint8_t>(fuzzer_.word());
    for (std::size_t i = 0; i < 8; ++i) {
      const double value = static_cast<double>(static_cast<std::int64_t>(fuzzer_.word())) / 1e9;
      const long double wide = value;
      std::memcpy(vector.x87.data() + 32 + 16 * i, &wide, 10);
    }
    const std::uint32_t mask = 0xFFBF;
    std::memcpy(vector.x87.data() + 28, &mask, 4);
    frame.vector = vector;
    std::uint8_t* guest = machine_.host(kDataAddress % TestMachine::kRamBytes);
    for (std::size_t i = 0; i < kDataBytes; i += 8) {
      const std::uint64_t value = fuzzer_.word();
      std::memcpy(native_.data() + i, &value, 8);
    }
    std::memcpy(guest, native_.data(), kDataBytes);
  }

  void compare(const std::string& text, std::uint32_t flags_mask) {
    VcpuBlock& block = machine_.block();
    NativeFrame& frame = native_.frame();
    for (unsigned i = 0; i < 16; ++i) EXPECT_EQ(block.gpr[i], frame.gpr[i]) << "register " << i << "\n" << text;
    EXPECT_EQ(block.rflags & flags_mask, frame.rflags & flags_mask) << text;
    EXPECT_EQ(block.vector.mxcsr, frame.vector.mxcsr) << text;
    for (std::size_t i = 0; i < 32; ++i) EXPECT_EQ(block.vector.zmm[i], frame.vector.zmm[i]) << "vector " << i << "\n" << text;
    EXPECT_EQ(block.vector.opmask, frame.vector.opmask) << text;
    for (std::size_t i = 0; i < 160; ++i) {
      if ((i >= 6 && i < 32) || (i >= 32 && i % 16 >= 10)) continue;
      EXPECT_EQ(block.vector.x87[i], frame.vector.x87[i]) << "x87 byte " << i << "\n" << text;
    }
    EXPECT_EQ(std::memcmp(machine_.host(kDataAddress % TestMachine::kRamBytes), native_.data(), kDataBytes), 0) << text;
  }

  TestMachine machine_;
  bool avx_, avx512_;
  NativeRunner native_;
  Fuzzer fuzzer_;
  int completed_ = 0;
};

TEST(Differential, random_sequences_do_what_the_host_does) { Comparison().run(20090101, 5000); }

}  // namespace
}  // namespace bygone::cpu::translator::jit
