// Random instruction sequences, run by the interpreter, by both tiers together, and natively on this host; the whole state is
// compared. 64-bit code, and compatibility-mode code with flat and with other data segments.
//
// Guest linear addresses equal host addresses, so that the same bytes mean the same natively. A sequence ends where the guest
// faults (HLT stands behind it); the host runs only what comes before, which checks that the state is exact there.
//
// For nights: BYGONE_DIFFERENTIAL_SECONDS=3600 makes each test go on with new seeds for so long; BYGONE_DIFFERENTIAL_SEED starts
// elsewhere. A failure names its seed.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <string>

#include "cpu/translator/core.h"
#include "cpu/translator/cpuid_model.h"
#include "cpu/translator/jit/differential_native.h"
#include "cpu/translator/jit/differential_sequence.h"
#include "cpu/translator/jit/tier.h"
#include "memory/guest_memory.h"

namespace bygone::cpu::translator::jit {
namespace {

constexpr std::uint64_t kRamBytes = 16U << 20;
constexpr std::uint64_t kTables = 0x10'0000;

enum class Tiers : std::uint8_t { kInterpreter, kBoth };

/// A user program's processor over 16 MiB of RAM that repeat through linear 0 to 1 GiB.
class GuestRunner {
 public:
  GuestRunner(unsigned bits, Tiers tiers) : cpuid_(host_model()) {
    if (!ram_.add_ram({0}, kRamBytes)) throw std::runtime_error("no RAM");
    physical_ = std::make_unique<PhysicalMemory>(ram_);
    pages_ = std::make_unique<CodePages>(physical_->ram_pages());
    core_ = std::make_unique<Core>(VpIndex{0}, Shared{physical_.get(), pages_.get(), &cpuid_, nullptr, 1'000'000'000}, std::make_unique<VcpuBlock>());
    VcpuBlock& block = core_->block();
    pages_->add_processor(block);
    set_up_tables();
    block.cr0 = 0x8005'0033;
    block.cr4 = 0x0004'0620;
    block.cr3 = kTables;
    block.efer = 0xD01;
    block.xcr0 = cpuid_.query(0xD, 0).eax;
    block.cpl = 3;
    block.idt = block.gdt = {0, 0};
    for (Segment& segment : block.segments) segment = {0, 0xFFFF'FFFF, 0x2B, 0xC0F3};
    block.segments[1].attributes = bits == 64 ? 0xA0FB : 0xC0FB;
    mmu::update_mode(block);
    if (tiers == Tiers::kBoth) {
      auto tier = Tier::create(block, {.code_cache_bytes = 512U << 10, .threshold = 0, .mixes_slots = true, .slot_patience = 2});  // small: areas are emptied all the time
      if (!tier) throw std::runtime_error(tier.error().text());
      pages_->add_listener(**tier);
      core_->set_tier1(std::move(*tier));
    }
  }

  VcpuBlock& block() { return core_->block(); }
  [[nodiscard]] std::uint8_t* host(std::uint64_t linear) { return physical_->find(linear % kRamBytes).host; }

  /// Runs the code until it faults; returns where, as bytes from its start.
  std::uint64_t run(std::span<const std::uint8_t> code) {
    std::memcpy(host(kNativeCode), code.data(), code.size());
    host(kNativeCode)[code.size()] = 0xF4;
    (void)pages_->wrote(nullptr, kNativeCode % kRamBytes >> 12, 0, 4095);
    block().rip = kNativeCode;
    block().activity = 0;
    block().attention = 0;
    mmu::update_mode(block());
    core_->forget_fetch();
    core_->run_until_exit();
    EXPECT_TRUE(std::holds_alternative<ShutdownExit>(core_->exit()));
    return block().rip - kNativeCode;
  }

 private:
  void set_up_tables() {
    const auto put = [&](std::uint64_t at, std::uint64_t value) { std::memcpy(host(at), &value, 8); };
    put(kTables, (kTables + 0x1000) | 7);
    put(kTables + 0x1000, (kTables + 0x2000) | 7);
    for (std::uint64_t i = 0; i < 512; ++i) {
      const std::uint64_t table = kTables + 0x3000 + i * 0x1000;
      put(kTables + 0x2000 + i * 8, table | 7);
      for (std::uint64_t j = 0; j < 512; ++j) put(table + j * 8, (((i << 21) + (j << 12)) % kRamBytes) | 7);
    }
  }

  memory::GuestMemory ram_;
  std::unique_ptr<PhysicalMemory> physical_;
  std::unique_ptr<CodePages> pages_;
  CpuidTable cpuid_;
  std::unique_ptr<Core> core_;
};

struct Setting {
  unsigned bits = 64;
  bool flat = true;
};

class Comparison {
 public:
  explicit Comparison(Setting setting)
      : setting_(setting), interpreter_(setting.bits, Tiers::kInterpreter), both_(setting.bits, Tiers::kBoth),
        avx_((both_.block().mode & kModeAvx) != 0), avx512_((both_.block().mode & kModeAvx512) != 0),
        native_(setting.bits, avx_, avx512_) {}

  void run(std::uint64_t seed, int rounds) {
    SequenceMaker maker(seed, ModeKey{both_.block().mode | kTlbUser << ModeKey::kContextShift}, setting_.flat);
    completed_ = 0;
    for (int i = 0; i < rounds && !testing::Test::HasFailure(); ++i) run_one(maker);
    EXPECT_GT(completed_ * 10, rounds * 5) << "too many sequences were left early";
    if (testing::Test::HasFailure()) ADD_FAILURE() << "seed " << seed;
  }

  /// As long as the environment asks for.
  void run_for_a_night(std::uint64_t first_seed) {
    const char* seconds = std::getenv("BYGONE_DIFFERENTIAL_SECONDS");
    if (seconds == nullptr) return;
    const char* seed_text = std::getenv("BYGONE_DIFFERENTIAL_SEED");
    std::uint64_t seed = first_seed + (seed_text == nullptr ? 0 : std::strtoull(seed_text, nullptr, 10));
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atol(seconds));
    std::uint64_t count = 0;
    for (; std::chrono::steady_clock::now() < end && !testing::Test::HasFailure(); ++count) run(++seed, 2000);
    fmt::print("{} sequences\n", count * 2000);
  }

 private:
  void run_one(SequenceMaker& maker) {
    const Sequence sequence = maker.make();
    make_state(maker, sequence);
    set(interpreter_);
    const std::uint64_t stopped = interpreter_.run(sequence.code);
    set(both_);
    const std::uint64_t stopped_both = both_.run(sequence.code);
    EXPECT_EQ(stopped, stopped_both) << "the tiers end at different places\n" << sequence.text;
    std::uint32_t flags_mask = 0;  // what comes behind the fault may overwrite the flags: then they are not kept
    if (stopped == sequence.code.size()) {
      ++completed_;
      flags_mask = kArithmeticFlags & ~sequence.unclear_at(stopped);
    }
    set_native();
    if (stopped > sequence.code.size()) return;
    // A string instruction or a gather that faults on its way keeps what it has done by then: there is nothing to compare it with.
    if (stopped == 0 && (sequence.repeats || sequence.gather_index >= 0)) return;
    const int signal = native_.run_to_signal(std::span(sequence.code).first(stopped));
    ASSERT_EQ(signal, 0) << "only the host faults\n" << sequence.text;
    native_is_whole_ = stopped == sequence.code.size();
    compare("interpreter", interpreter_, sequence, kArithmeticFlags & ~sequence.unclear_at(stopped));
    compare("translator", both_, sequence, flags_mask);
    if (stopped < sequence.code.size()) expect_native_fault(sequence, stopped);
  }

  /// The host takes a fault at the same instruction, and of the same kind.
  void expect_native_fault(const Sequence& sequence, std::uint64_t stopped) {
    std::size_t at = 0;
    while (at < sequence.ends.size() && sequence.ends[at] <= stopped) ++at;
    if (at == sequence.ends.size() || sequence.hidden[at]) return;
    // Some MMX instructions take the x87 registers for theirs before their operand turns out not to be there: then it is what came before.
    const auto before = native_.frame().vector.x87;
    const std::uint32_t mxcsr_before = native_.frame().vector.mxcsr;
    set_native();
    const int signal = native_.run_to_signal(std::span(sequence.code).first(sequence.ends[at]));
    EXPECT_NE(signal, 0) << "instruction " << at << " faults only in the guest\n" << sequence.text;
    const std::string about = fmt::format("where instruction {} faults\n{}", at, sequence.text);
    std::uint32_t mxcsr = 0;
    std::memcpy(&mxcsr, native_.float_at_signal().data() + 24, sizeof mxcsr);
    for (GuestRunner* guest : {&interpreter_, &both_}) {
      const std::string who = (guest == &both_ ? "translator, " : "interpreter, ") + about;
      // VCVTPS2PH notes its exceptions, and takes them, on some hosts before its operand turns out not to be there; done again, it does so
      // anyway.
      const std::uint32_t own = guest->block().vector.mxcsr;
      const bool may_be_before = signal != SIGFPE || sequence.any_order[at];
      EXPECT_TRUE(own == mxcsr || (may_be_before && own == mxcsr_before)) << fmt::format("MXCSR {:#x}, natively {:#x}, ", own, mxcsr) << who;
      compare_x87(*guest, signal == SIGFPE ? native_.float_at_signal() : std::span<const std::uint8_t>(before), who);
    }
  }

  void set_native() {
    std::memcpy(native_.data(), data_.data(), kNativeDataBytes);
    native_.frame().vector = state_.vector;
    std::memcpy(native_.frame().gpr, state_.gpr, sizeof state_.gpr);
    native_.frame().rflags = state_.rflags;
  }

  void make_state(SequenceMaker& maker, const Sequence& sequence) {
    std::uint32_t base = 0;
    if (setting_.bits == 32) make_segment(maker, base);
    for (unsigned i = 0; i < 16; ++i) {
      std::uint64_t value = maker.word();
      if (maker.below(4) == 0) value = static_cast<std::uint64_t>(static_cast<std::int64_t>(maker.below(16)) - 8);
      if ((kPointers >> i & 1) != 0 || i == 4) {
        value = kNativeData + 0x1000ULL * (1 + maker.below(8)) + (maker.below(3) == 0 ? 0xFF8 : maker.below(4096) & ~63U);
        if (i != 4 && i != 7) value = static_cast<std::uint32_t>(value - base);
      }
      if (i == maker.index_register()) value = static_cast<std::uint64_t>(static_cast<std::int64_t>(maker.below(17)) - 8);
      if (i == 1 && sequence.repeats) value = maker.below(200);
      if (setting_.bits == 32 && i < 8) value &= 0xFFFF'FFFF;
      state_.gpr[i] = value;
    }
    state_.rflags = 0x202 | (maker.word() & kArithmeticFlags) | (maker.below(8) == 0 ? 0x400U : 0U);
    make_vectors(maker, sequence);
    for (std::size_t i = 0; i < kNativeDataBytes; i += 8) {
      const std::uint64_t value = number(maker);
      std::memcpy(data_.data() + i, &value, 8);
    }
  }

  /// The data segment of 32-bit code: flat, or with limits that some accesses miss.
  void make_segment(SequenceMaker& maker, std::uint32_t& base) {
    segment_ = {};
    if (!setting_.flat) {
      base = static_cast<std::uint32_t>(kNativeData) - 0x1000 * maker.below(300);
      segment_.base = base;
      const std::uint32_t edge = static_cast<std::uint32_t>(kNativeData) + 0x1000 * (1 + maker.below(9)) - base;
      switch (maker.below(3)) {
        case 0: segment_.limit = std::min<std::uint32_t>(edge + maker.below(64), 0xF'FFFF); break;
        case 1: segment_.limit = edge | 0xFFF; break;
        default:
          segment_.expands_down = true;
          segment_.limit = std::min<std::uint32_t>(edge - 0x4000, 0xF'FFFF);
          break;
      }
      if (segment_.limit > 0xF'FFFF) segment_.limit |= 0xFFF;
    }
    native_.set_data_segment(segment_);
  }

  /// Mostly any bits; now and then what floating point treats apart.
  static std::uint64_t number(SequenceMaker& maker) {
    constexpr std::array<std::uint64_t, 14> kApart = {
        0, 0x8000000000000000, 0x3FF0000000000000, 0xC000000000000000, 0x7FF0000000000000, 0xFFF8000000000000, 0x7FF0000000000001,
        0x0000000000000001, 0x000FFFFFFFFFFFFF, 0x7FEFFFFFFFFFFFFF, 0x3F80000000800000, 0x7F8000007FC00000, 0x000000017F800001, 0x43E0000000000000};
    return maker.below(4) == 0 ? kApart[maker.below(kApart.size())] : maker.word();
  }

  void make_vectors(SequenceMaker& maker, const Sequence& sequence) {
    VectorState& vector = state_.vector;
    vector = VectorState{};
    const std::size_t count = avx512_ ? 32 : 16;
    for (std::size_t r = 0; r < count; ++r) {
      const std::size_t width = avx512_ && maker.below(2) == 0 ? 64 : avx_ && maker.below(2) == 0 ? 32 : 16;
      for (std::size_t i = 0; i < width; i += 8) {
        const std::uint64_t value = number(maker);
        std::memcpy(vector.zmm[r].data() + i, &value, 8);
      }
    }
    if (avx512_) for (auto& mask : vector.opmask) mask = maker.word();
    if (sequence.gather_index >= 0) {
      auto& index = vector.zmm[static_cast<std::size_t>(sequence.gather_index)];
      const bool wide = maker.below(2) == 0;
      for (std::size_t i = 0; i < (avx512_ ? 64U : 32U); i += wide ? 8 : 4) {
        const std::int64_t value = static_cast<std::int64_t>(maker.below(400)) - 100;
        std::memcpy(index.data() + i, &value, wide ? 8 : 4);
      }
    }
    // How numbers are rounded, what becomes of tiny ones, and in some sequences which exceptions are faults.
    constexpr std::uint32_t kRounding = 0xE040;
    constexpr std::uint32_t kMasks = 0x1F80;
    if (maker.below(2) == 0) vector.mxcsr = kMasks | (static_cast<std::uint32_t>(maker.word()) & kRounding);
    if (maker.below(4) == 0) vector.mxcsr &= ~(static_cast<std::uint32_t>(maker.word()) & kMasks);
    std::uint16_t control = 0x37F;
    if (maker.below(2) == 0) control = static_cast<std::uint16_t>(0x7F | (maker.below(4) << 10) | (std::array<std::uint32_t, 3>{0, 2, 3}[maker.below(3)] << 8));
    if (maker.below(4) == 0) control = static_cast<std::uint16_t>(control & ~maker.below(64));
    std::memcpy(vector.x87.data(), &control, 2);
    if (maker.below(2) == 0) vector.x87[3] = static_cast<std::uint8_t>(maker.word() & 0x7F);  // the top of the stack and the condition codes
    vector.x87[4] = static_cast<std::uint8_t>(maker.word());
    for (std::size_t i = 0; i < 8; ++i) {
      const long double wide = static_cast<long double>(static_cast<std::int64_t>(maker.word())) / 1000000000;
      std::memcpy(vector.x87.data() + 32 + 16 * i, &wide, 10);
    }
    const std::uint32_t mask = 0xFFBF;
    std::memcpy(vector.x87.data() + 28, &mask, 4);
  }

  void set(GuestRunner& guest) {
    VcpuBlock& block = guest.block();
    std::memcpy(block.gpr.data(), state_.gpr, sizeof state_.gpr);
    block.rflags = state_.rflags;
    block.vector = state_.vector;
    if (setting_.bits == 32) {
      Segment& data = block.segments[3];
      data = {segment_.base, segment_.limit, 0xF, segment_.expands_down ? 0x40F7U : 0x40F3U};
    }
    std::memcpy(guest.host(kNativeData), data_.data(), kNativeDataBytes);
  }

  void compare(const char* name, GuestRunner& guest, const Sequence& sequence, std::uint32_t flags_mask) {
    VcpuBlock& block = guest.block();
    NativeFrame& frame = native_.frame();
    const std::string about = fmt::format("{}, {} bits\n{}", name, setting_.bits, sequence.text);
    for (unsigned i = 0; i < 16; ++i) EXPECT_EQ(block.gpr[i], frame.gpr[i]) << "register " << i << " of the " << about;
    flags_mask |= 0x400;
    EXPECT_EQ(block.rflags & flags_mask, frame.rflags & flags_mask) << about;
    // An exception that is not masked is noted before it faults: expect_native_fault() looks at that.
    constexpr std::uint32_t kExceptions = 0x3F;
    const std::uint32_t control = native_is_whole_ ? 0xFFFFFFFF : ~kExceptions;
    EXPECT_EQ(block.vector.mxcsr & control, frame.vector.mxcsr & control) << about;
    for (std::size_t i = 0; i < 32; ++i) EXPECT_EQ(block.vector.zmm[i], frame.vector.zmm[i]) << "vector " << i << " of the " << about;
    EXPECT_EQ(block.vector.opmask, frame.vector.opmask) << about;
    if (native_is_whole_) compare_x87(guest, frame.vector.x87, about);
    const std::uint8_t* memory = guest.host(kNativeData);
    if (std::memcmp(memory, native_.data(), kNativeDataBytes) == 0) return;
    std::size_t at = 0;
    while (memory[at] == native_.data()[at]) ++at;
    ADD_FAILURE() << fmt::format("memory at {:#x}: {:#x}, natively {:#x}, of the {}", kNativeData + at, memory[at], native_.data()[at], about);
  }

  static void compare_x87(GuestRunner& guest, std::span<const std::uint8_t> native, const std::string& about) {
    for (std::size_t i = 0; i < 160; ++i) {
      if ((i >= 6 && i < 32) || (i >= 32 && i % 16 >= 10)) continue;  // places of instruction and operand, MXCSR, and between the registers
      EXPECT_EQ(guest.block().vector.x87[i], native[i]) << "x87 byte " << i << " of the " << about;
    }
  }

  struct State {
    std::uint64_t gpr[16];
    std::uint64_t rflags;
    VectorState vector;
  };

  Setting setting_;
  GuestRunner interpreter_, both_;
  bool avx_, avx512_;
  NativeRunner native_;
  NativeSegment segment_;
  State state_ = {};
  std::array<std::uint8_t, kNativeDataBytes> data_ = {};
  int completed_ = 0;
  bool native_is_whole_ = true;  ///< nothing faulted
};

void compare_with_host(Setting setting, std::uint64_t seed) {
  const auto comparison = std::make_unique<Comparison>(setting);
  comparison->run(seed, 3000);
  comparison->run_for_a_night(seed);
}

TEST(Differential, code_64_bits_does_what_the_host_does) { compare_with_host({64, true}, 20090101); }
TEST(Differential, code_32_bits_does_what_the_host_does) { compare_with_host({32, true}, 19851017); }
TEST(Differential, code_32_bits_with_segments_does_what_the_host_does) { compare_with_host({32, false}, 19820201); }

}  // namespace
}  // namespace bygone::cpu::translator::jit
