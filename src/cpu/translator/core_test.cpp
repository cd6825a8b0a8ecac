#include "cpu/translator/core.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <initializer_list>
#include <span>
#include <vector>

#include "cpu/entry_state.h"
#include "cpu/translator/partition.h"
#include "cpu/translator/xsave.h"

namespace bygone::cpu::translator {
namespace {

constexpr std::uint64_t kCode = 0x10'0000, kStack = 0x8'0000, kData = 0x9'0000;

/// One processor in 64-bit ring 0 over 2 MiB of RAM, interpreting bytes at kCode.
class CoreTest : public testing::Test {
 protected:
  CoreTest() {
    EXPECT_TRUE(memory_.add_ram({0}, 2 << 20));
    PartitionOptions options;
    options.memory = &memory_;
    partition_ = SoftwarePartition::create(std::move(options), 1'000'000'000).value();
    auto system = prepare_long_mode(memory_, {0x1000}, {0x8000});
    EXPECT_TRUE(system);
    system->apic_base = 0;
    EXPECT_TRUE(vcpu().set_system_registers(*system));
    GeneralRegisters registers;
    registers.rip = kCode;
    registers[Gpr::kRsp] = kStack;
    EXPECT_TRUE(vcpu().set_general_registers(registers));
  }

  SoftwareVcpu& vcpu() { return static_cast<SoftwareVcpu&>(partition_->vcpu({0})); }
  Core& core() { return vcpu().core(); }
  VcpuBlock& block() { return core().block(); }

  void put(std::initializer_list<std::uint8_t> bytes) { put(std::span(bytes.begin(), bytes.size())); }
  void put(std::span<const std::uint8_t> bytes) {
    std::uint64_t at = kCode;
    for (const std::uint8_t byte : bytes) EXPECT_TRUE(memory_.write_object<std::uint8_t>({at++}, byte));
  }
  void step(unsigned count = 1) {
    for (unsigned i = 0; i < count; ++i) ASSERT_EQ(core().step(), StepResult::kDone);
  }

  memory::GuestMemory memory_;
  std::unique_ptr<SoftwarePartition> partition_;
};

TEST_F(CoreTest, native_arithmetic_keeps_guest_and_host_registers_apart) {
  put({0x48, 0x83, 0xC4, 0x08,     // add rsp, 8
       0x48, 0x83, 0xC2, 0x08,     // add rdx, 8: the same host bytes, another register
       0x00, 0xE4});               // add ah, ah
  block().gpr[0] = 0x8100;
  step(3);
  EXPECT_EQ(block().gpr[4], kStack + 8);
  EXPECT_EQ(block().gpr[2], 8U);
  EXPECT_EQ(block().gpr[0], 0x0200U);
  EXPECT_EQ(block().rflags & rflags::kStatus, rflags::kCf | rflags::kOf);
}

TEST_F(CoreTest, partial_flag_writers_keep_the_other_flags) {
  put({0xF9,          // stc
       0xFF, 0xC0,    // inc eax
       0xD3, 0xE1});  // shl ecx, cl with a count of zero
  step(3);
  EXPECT_NE(block().rflags & rflags::kCf, 0U);
}

TEST_F(CoreTest, signed_division_of_the_smallest_number_by_minus_one_is_a_fault_of_the_guest) {
  put({0x48, 0xF7, 0xF9});  // idiv rcx
  block().gpr[0] = std::uint64_t{1} << 63;
  block().gpr[2] = ~std::uint64_t{0};
  block().gpr[1] = ~std::uint64_t{0};
  block().idt = {0, 0};     // no table: the fault becomes a triple fault, not the host's SIGFPE
  step();
  const auto exit = vcpu().run();
  ASSERT_TRUE(exit);
  EXPECT_TRUE(std::holds_alternative<ShutdownExit>(**exit));
}

TEST_F(CoreTest, port_input_completes_with_the_machines_answer) {
  put({0xE4, 0x55});  // in al, 0x55
  block().gpr[0] = 0x1234;
  ASSERT_EQ(core().step(), StepResult::kExit);
  auto& port = std::get<PortExit>(core().exit());
  EXPECT_EQ(port.port, 0x55);
  EXPECT_FALSE(port.is_write);
  port.data[0] = std::byte{0x77};
  ASSERT_TRUE(core().finish_exit());
  EXPECT_EQ(block().gpr[0], 0x1277U);
  EXPECT_EQ(block().rip, kCode + 2);
}

TEST_F(CoreTest, read_modify_write_of_mmio_asks_once_for_each_half) {
  put({0x83, 0x00, 0x05});  // add dword [rax], 5
  block().gpr[0] = 0xFEC0'0000;
  ASSERT_EQ(core().step(), StepResult::kExit);
  std::get<MmioExit>(core().exit()).data = 37;
  EXPECT_FALSE(core().finish_exit()) << "now it wants to write";
  const auto& write = std::get<MmioExit>(core().exit());
  EXPECT_TRUE(write.is_write);
  EXPECT_EQ(write.data, 42U);
  EXPECT_EQ(block().rip, kCode) << "not done yet";
  ASSERT_TRUE(core().finish_exit());
  EXPECT_EQ(block().rip, kCode + 3);
}

TEST_F(CoreTest, overlapping_string_move_repeats_its_pattern) {
  put({0xF3, 0xA4});  // rep movsb
  ASSERT_TRUE(memory_.write_object<std::uint8_t>({kData}, 0xAB));
  block().gpr[6] = kData;
  block().gpr[7] = kData + 1;
  block().gpr[1] = 100;
  step();
  EXPECT_EQ(memory_.read_object<std::uint8_t>({kData + 100}).value_or(0), 0xAB);
  EXPECT_EQ(block().gpr[1], 0U);
  EXPECT_EQ(block().gpr[7], kData + 101);
}

TEST_F(CoreTest, code_that_overwrites_itself_runs_as_written) {
  put({0xC6, 0x05, 0x00, 0x00, 0x00, 0x00, 0x48,  // mov byte [rip+0], 0x48: turns the next byte from 0x90
       0x90, 0xFF, 0xC0});                        // nop; inc eax → inc rax
  block().gpr[0] = 0xFFFF'FFFF;
  step(2);
  EXPECT_EQ(block().gpr[0], 0x1'0000'0000U);
}

TEST_F(CoreTest, translated_code_that_a_device_overwrites_runs_as_written) {
  put({0xFF, 0xC0,    // again: inc eax
       0xFF, 0xC9,    // dec ecx
       0x75, 0xFA,    // jnz again
       0xE6, 0x80,    // out 0x80, al
       0xEB, 0xF6});  // jmp again
  const auto run = [&] {
    block().gpr[0] = block().gpr[2] = 0;
    block().gpr[1] = 1000;
    const auto exit = vcpu().run();
    ASSERT_TRUE(exit);
    EXPECT_TRUE(std::holds_alternative<PortExit>(**exit));
  };
  run();
  run();
  EXPECT_EQ(block().gpr[0], 1000U);
  // In place, as devices do, and told afterwards: inc edx.
  memory_.host_span({kCode + 1}, 1)[0] = std::byte{0xC2};
  memory_.mark_dirty({kCode + 1}, 1);
  run();
  EXPECT_EQ(block().gpr[0], 0U);
  EXPECT_EQ(block().gpr[2], 1000U);
}

TEST_F(CoreTest, unmasked_vector_exception_leaves_the_destination_alone) {
  put({0xF3, 0x0F, 0x5E, 0xC1});  // divss xmm0, xmm1
  block().cr4 |= cr4::kOsfxsr | cr4::kOsxmmexcpt;
  mmu::update_mode(block());
  block().vector.mxcsr = 0x1F80 & ~0x200U;  // divide by zero is not masked
  const float one = 1.0F;
  std::memcpy(block().vector.zmm[0].data(), &one, sizeof one);
  block().idt = {0, 0};
  step();
  float now = 0;
  std::memcpy(&now, block().vector.zmm[0].data(), sizeof now);
  EXPECT_EQ(now, one);
  EXPECT_NE(block().vector.mxcsr & 4, 0U);
}

/// What an exception that is not masked leaves, found by the comparison with the host.
class CoreFloatTest : public CoreTest {
 protected:
  static constexpr std::uint32_t kMasked = 0x1F80;
  static constexpr std::uint32_t kDenormal = 2, kOverflow = 8, kUnderflow = 0x10;

  CoreFloatTest() {
    block().cr4 |= cr4::kOsfxsr | cr4::kOsxmmexcpt;
    block().idt = {0, 0};
    mmu::update_mode(block());
  }
  void set(unsigned number, double low) { std::memcpy(block().vector.zmm[number].data(), &low, sizeof low); }
  void unmask(std::uint32_t exceptions) { block().vector.mxcsr = kMasked & ~(exceptions << 7); }
  [[nodiscard]] std::uint32_t noted() { return block().vector.mxcsr & 0x3F; }
  void expect_fault() {
    const auto exit = vcpu().run();
    ASSERT_TRUE(exit);
    EXPECT_TRUE(std::holds_alternative<ShutdownExit>(**exit));
    EXPECT_EQ(block().rip, kCode);
  }
};

TEST_F(CoreFloatTest, exception_before_the_operation_hides_what_the_result_would_have_raised) {
  put({0xF2, 0x0F, 0x59, 0xC1});  // mulsd xmm0, xmm1: of the smallest numbers, a denormal operand, tiny and inexact
  unmask(kDenormal);
  set(0, 5e-324);
  set(1, 0.3);
  expect_fault();
  EXPECT_EQ(noted(), kDenormal);
}

TEST_F(CoreFloatTest, tiny_result_that_is_exact_faults_when_underflow_is_not_masked) {
  put({0xF2, 0x0F, 0x59, 0xC1});  // mulsd xmm0, xmm1
  unmask(kUnderflow);
  set(0, 2.2250738585072014e-308);
  set(1, 0.5);
  expect_fault();
  EXPECT_EQ(noted(), kUnderflow);
}

TEST_F(CoreFloatTest, instructions_of_the_8087_that_do_nothing_do_not_report_pending_exceptions) {
  put({0xDB, 0xE0, 0xDB, 0xE1, 0xDB, 0xE4});  // fneni; fndisi; fnsetpm
  block().vector.x87[0] = 0x5F;  // the exception that is noted is not masked
  block().vector.x87[2] = 0xA0;
  step(3);
  EXPECT_EQ(block().rip, kCode + 6);
}

TEST_F(CoreFloatTest, fisttp_reports_a_pending_exception) {
  put({0xDF, 0x09});  // fisttp word [rcx]
  block().gpr[1] = kData;
  block().vector.x87[0] = 0x5F;
  block().vector.x87[2] = 0xA0;
  expect_fault();
}

TEST_F(CoreFloatTest, store_that_an_exception_prevents_reaches_for_no_memory) {
  for (const std::uint8_t operation : {std::uint8_t{0x09}, std::uint8_t{0x19}}) {  // of an empty stack
    put({0xDF, operation});  // fisttp, fistp word [rcx]
    block().rip = kCode;
    block().gpr[1] = std::uint64_t{1} << 63;
    block().vector.x87[0] = 0x7E;
    block().vector.x87[2] = 0;
    step();
    EXPECT_EQ(block().rip, kCode + 2);
    EXPECT_EQ(block().vector.x87[2] & 0x81, 0x81);
  }
}

/// What waits for pending x87 exceptions: fld1, fwait, movq mm0, mm1.
class CorePendingTest : public CoreFloatTest, public testing::WithParamInterface<std::vector<std::uint8_t>> {
 protected:
  /// IE to PE as noted and as masked, and the summary bit.
  void set_x87(std::uint8_t noted, std::uint8_t masked) {
    block().vector.x87[0] = masked;
    block().vector.x87[2] = noted;
  }
};

// An FXRSTOR image may say otherwise; the processor goes by the flags and the masks.
TEST_P(CorePendingTest, what_is_noted_and_not_masked_is_pending_without_the_summary_bit) {
  put(GetParam());
  set_x87(0x20, 0x5F);
  expect_fault();
}
TEST_P(CorePendingTest, the_summary_bit_alone_is_not_pending) {
  put(GetParam());
  set_x87(0xA0, 0x7F);
  step();
  EXPECT_EQ(block().rip, kCode + GetParam().size());
}
INSTANTIATE_TEST_SUITE_P(Waiting, CorePendingTest,
                         testing::Values(std::vector<std::uint8_t>{0xD9, 0xE8}, std::vector<std::uint8_t>{0x9B},
                                         std::vector<std::uint8_t>{0x0F, 0x6F, 0xC1}));

TEST_F(CoreFloatTest, store_of_a_number_that_overflows_does_not_happen_across_pages_either) {
  put({0xD9, 0x59, 0x00});  // fstp dword [rcx]
  constexpr std::uint64_t kAcross = kData + 0xFFE;
  block().gpr[1] = kAcross;
  ASSERT_TRUE(memory_.write_object<std::uint32_t>({kAcross}, 0x12345678));
  const long double enormous = 1e300L;
  const std::uint16_t control = 0x37F & ~kOverflow;
  std::memcpy(block().vector.x87.data(), &control, sizeof control);
  std::memcpy(block().vector.x87.data() + 32, &enormous, 10);
  block().vector.x87[4] = 1;  // one register is in use
  step();
  const auto there = memory_.read_object<std::uint32_t>({kAcross});
  ASSERT_TRUE(there);
  EXPECT_EQ(*there, 0x12345678U);
  EXPECT_NE(block().vector.x87[2] & 0x80, 0);  // and the next instruction reports it
}

TEST_F(CoreTest, saved_state_restores_everything_it_names) {
  block().gpr[9] = 0x1122'3344'5566'7788;
  block().msrs.lstar = 0xFFFF'8000'0000'1000;
  block().vector.zmm[3][17] = 0x5A;
  block().rflags |= rflags::kCf;
  auto saved = vcpu().save_state();
  ASSERT_TRUE(saved);
  ASSERT_TRUE(vcpu().reset());
  EXPECT_EQ(block().gpr[9], 0U);
  ASSERT_TRUE(vcpu().restore_state(*saved));
  EXPECT_EQ(block().gpr[9], 0x1122'3344'5566'7788U);
  EXPECT_EQ(block().msrs.lstar, 0xFFFF'8000'0000'1000U);
  EXPECT_EQ(block().vector.zmm[3][17], 0x5A);
  EXPECT_EQ(block().rip, kCode);
}

TEST_F(CoreTest, rex_w_prevails_over_the_operand_size_prefix_of_push) {
  put({0x66, 0x48, 0x6A, 0xED});  // push -19, eight bytes
  step();
  EXPECT_EQ(block().gpr[4], kStack - 8);
}

TEST_F(CoreTest, exchange_of_eax_with_itself_clears_the_upper_half) {
  put({0x87, 0xC0});
  block().gpr[0] = 0x1'2345'6789;
  step();
  EXPECT_EQ(block().gpr[0], 0x2345'6789U);
}

/// With SSE, and AVX where the host has it.
class CoreVectorTest : public CoreTest {
 protected:
  CoreVectorTest() {
    block().cr4 |= cr4::kOsfxsr | cr4::kOsxmmexcpt;
    if (__builtin_cpu_supports("avx2") != 0) {
      block().cr4 |= cr4::kOsxsave;
      block().xcr0 = 7;
    }
    mmu::update_mode(block());
  }
  template <typename T>
  void set_elements(unsigned number, std::initializer_list<T> values) {
    std::memcpy(block().vector.zmm[number].data(), values.begin(), values.size() * sizeof(T));
  }
  std::uint32_t element(unsigned number, unsigned index) {
    std::uint32_t value = 0;
    std::memcpy(&value, block().vector.zmm[number].data() + 4 * std::size_t{index}, 4);
    return value;
  }
};

TEST_F(CoreVectorTest, conversion_from_memory_to_a_general_register_notes_that_it_was_inexact) {
  put({0xF2, 0x0F, 0x2C, 0x03});  // cvttsd2si eax, [rbx]
  block().gpr[3] = kData;
  EXPECT_TRUE(memory_.write_object<double>({kData}, 2.5));
  step();
  EXPECT_EQ(block().gpr[0], 2U);
  EXPECT_EQ(block().vector.mxcsr, 0x1FA0U);
}

TEST_F(CoreVectorTest, gather_loads_the_elements_that_its_mask_names_and_clears_the_mask) {
  if ((block().mode & kModeAvx) == 0) GTEST_SKIP() << "this host has no AVX2";
  put({0xC4, 0xE2, 0x69, 0x90, 0x04, 0x8B});  // vpgatherdd xmm0, [rbx + xmm1 * 4], xmm2
  block().gpr[3] = kData;
  for (std::uint32_t i = 0; i < 8; ++i) EXPECT_TRUE(memory_.write_object<std::uint32_t>({kData + 4ULL * i}, 100 + i));
  set_elements<std::uint32_t>(0, {7, 7, 7, 7, 7, 7, 7, 7});
  set_elements<std::uint32_t>(1, {3, 1, 0, 5});
  set_elements<std::uint32_t>(2, {0x8000'0000, 0, 0x8000'0000, 0xFFFF'FFFF});
  step();
  EXPECT_EQ(element(0, 0), 103U);
  EXPECT_EQ(element(0, 1), 7U);
  EXPECT_EQ(element(0, 2), 100U);
  EXPECT_EQ(element(0, 3), 105U);
  EXPECT_EQ(element(0, 4), 0U);  // behind a 128-bit vector
  for (unsigned i = 0; i < 4; ++i) EXPECT_EQ(element(2, i), 0U);
}

TEST_F(CoreVectorTest, vex_form_of_the_masked_byte_store_exists) {
  if ((block().mode & kModeAvx) == 0) GTEST_SKIP() << "this host has no AVX2";
  put({0xC5, 0xF9, 0xF7, 0xC1});  // vmaskmovdqu xmm0, xmm1
  block().gpr[7] = kData;
  EXPECT_TRUE(memory_.write_object<std::uint16_t>({kData}, 0x1111));
  set_elements<std::uint8_t>(0, {0xAA, 0xBB});
  set_elements<std::uint8_t>(1, {0x00, 0x80});
  step();
  EXPECT_EQ(memory_.read_object<std::uint16_t>({kData}).value_or(0), 0xBB11);
}

/// With AVX-512. On hosts without it there is nothing to test: the guest's CPUID does not offer it.
class CoreAvx512Test : public CoreVectorTest {
 protected:
  CoreAvx512Test() {
    if (!xsave::host_has_avx512()) return;
    block().xcr0 = 0xE7;
    mmu::update_mode(block());
  }
  void SetUp() override {
    if (!xsave::host_has_avx512()) GTEST_SKIP() << "this host has no AVX-512";
    block().gpr[3] = kEnd - 16;  // four elements are RAM, what follows is not
    for (std::uint32_t i = 0; i < 4; ++i) EXPECT_TRUE(memory_.write_object<std::uint32_t>({kEnd - 16 + 4ULL * i}, 100 + i));
    set_elements<std::uint32_t>(0, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
  }
  static constexpr std::uint64_t kEnd = 2 << 20;
};

TEST_F(CoreAvx512Test, masked_load_touches_only_the_elements_of_its_mask) {
  put({0x62, 0xF1, 0x7E, 0xC9, 0x6F, 0x03});  // vmovdqu32 zmm0{k1}{z}, [rbx]
  block().vector.opmask[1] = 0b1010;
  step();
  EXPECT_EQ(element(0, 0), 0U);
  EXPECT_EQ(element(0, 1), 101U);
  EXPECT_EQ(element(0, 3), 103U);
  EXPECT_EQ(element(0, 15), 0U);
  block().rip = kCode;
  block().vector.opmask[1] = 0b10000;
  EXPECT_EQ(core().step(), StepResult::kExit) << "the fifth element is not in RAM";
  EXPECT_TRUE(std::holds_alternative<MmioExit>(core().exit()));
}

TEST_F(CoreAvx512Test, comparison_of_one_number_that_its_mask_leaves_out_reads_nothing) {
  put({0x62, 0xF1, 0xA7, 0x0E, 0xC2, 0x33, 0xAA,    // vcmpsd k6{k6}, xmm11, [rbx], 0xAA
       0x62, 0xF3, 0xFD, 0x09, 0x67, 0x13, 0x02});  // vfpclasssd k2{k1}, [rbx], positive zero
  block().gpr[3] = kEnd;  // behind RAM
  block().vector.opmask[6] = block().vector.opmask[1] = 0b10;
  block().vector.opmask[2] = 0xFF;
  step(2);
  EXPECT_EQ(block().vector.opmask[6], 0U);
  EXPECT_EQ(block().vector.opmask[2], 0U);
}

TEST_F(CoreAvx512Test, masked_store_across_pages_leaves_the_other_elements_alone) {
  put({0x62, 0xF3, 0x7D, 0x49, 0x19, 0x03, 0x00});  // vextractf32x4 [rbx]{k1}, zmm0, 0
  constexpr std::uint64_t kAcross = kData + 0xFF8;
  block().gpr[3] = kAcross;
  for (std::uint64_t i = 0; i < 4; ++i) EXPECT_TRUE(memory_.write_object<std::uint32_t>({kAcross + 4 * i}, 50));
  block().vector.opmask[1] = 0b1010;
  step();
  for (const auto& [i, value] : {std::pair<std::uint64_t, std::uint32_t>{0, 50}, {1, 2}, {2, 50}, {3, 4}}) {
    EXPECT_EQ(memory_.read_object<std::uint32_t>({kAcross + 4 * i}).value_or(0), value) << i;
  }
}

TEST_F(CoreAvx512Test, compressed_store_writes_as_many_elements_as_the_mask_has) {
  put({0x62, 0xF2, 0x7D, 0x49, 0x8B, 0x03});  // vpcompressd [rbx]{k1}, zmm0
  block().vector.opmask[1] = 0xF000;
  step();
  for (std::uint32_t i = 0; i < 4; ++i) EXPECT_EQ(memory_.read_object<std::uint32_t>({kEnd - 16 + 4ULL * i}).value_or(0), 13 + i);
}

TEST_F(CoreAvx512Test, sums_of_differences_read_all_of_their_operand_whatever_the_mask) {
  put({0x62, 0xF3, 0x75, 0x49, 0x42, 0x03, 0x00});  // vdbpsadbw zmm0{k1}, zmm1, [rbx], 0
  block().gpr[3] = kData;
  for (std::uint64_t i = 0; i < 64; i += 8) EXPECT_TRUE(memory_.write_object<std::uint64_t>({kData + i}, 0x0505'0505'0505'0505));
  block().vector.zmm[1].fill(1);
  block().vector.opmask[1] = 1;
  step();
  EXPECT_EQ(element(0, 0), 16U);
  EXPECT_EQ(element(0, 1), 2U);
}

TEST_F(CoreAvx512Test, classes_of_a_broadcast_element_are_told_for_every_lane_of_the_mask) {
  put({0x62, 0xF3, 0x7D, 0x59, 0x66, 0x13, 0x02,    // vfpclassps k2{k1}, [rbx]{1to16}, positive zero
       0x62, 0xF3, 0x7D, 0x49, 0x66, 0x1B, 0x02});  // vfpclassps k3{k1}, zmmword [rbx], positive zero
  block().gpr[3] = kData;
  for (std::uint64_t i = 0; i < 64; i += 4) EXPECT_TRUE(memory_.write_object<std::uint32_t>({kData + i}, i == 4 ? 0x3F80'0000U : 0U));
  block().vector.opmask[1] = 0x00FF;
  step(2);
  EXPECT_EQ(block().vector.opmask[2], 0x00FFU);
  EXPECT_EQ(block().vector.opmask[3], 0x00FDU);
}

TEST_F(CoreAvx512Test, scatter_stores_in_order_and_clears_its_mask) {
  put({0x62, 0xF2, 0x7D, 0x49, 0xA0, 0x04, 0x8B});  // vpscatterdd [rbx + zmm1 * 4]{k1}, zmm0
  set_elements<std::uint32_t>(1, {3, 0, 3, 99, 1});
  block().vector.opmask[1] = 0b10111;
  step();
  EXPECT_EQ(memory_.read_object<std::uint32_t>({kEnd - 4}).value_or(0), 3U) << "the later one of two to the same place";
  EXPECT_EQ(memory_.read_object<std::uint32_t>({kEnd - 16}).value_or(0), 2U);
  EXPECT_EQ(memory_.read_object<std::uint32_t>({kEnd - 12}).value_or(0), 5U);
  EXPECT_EQ(block().vector.opmask[1], 0U);
}

TEST_F(CoreAvx512Test, broadcast_from_memory_reads_one_element_and_narrow_vectors_clear_the_rest) {
  put({0x62, 0xF1, 0x7D, 0x38, 0xFE, 0x43, 0x03,    // vpaddd ymm0, ymm0, [rbx + 12]{1to8}
       0xC5, 0xF9, 0x6F, 0xC0});                     // vmovdqa xmm0, xmm0
  step();
  EXPECT_EQ(element(0, 0), 104U);
  EXPECT_EQ(element(0, 7), 111U);
  EXPECT_EQ(element(0, 8), 0U);
  step();
  EXPECT_EQ(element(0, 3), 107U);
  EXPECT_EQ(element(0, 4), 0U) << "VEX clears what is above";
}

TEST_F(CoreAvx512Test, extended_state_goes_through_xsave_in_both_formats) {
  block().cr4 |= cr4::kOsxsave;
  block().gpr[1] = kData;
  block().gpr[0] = 0xE7;
  block().vector.zmm[31][63] = 0x5A;
  block().vector.zmm[2][40] = 0x6B;
  block().vector.opmask[7] = 0x1234'5678'9ABC'DEF0;
  const VectorState before = block().vector;
  put({0x0F, 0xAE, 0x21,          // xsave [rcx]
       0x41, 0x0F, 0xC7, 0x21,    // xsavec [r9]
       0x0F, 0xAE, 0x29,          // xrstor [rcx]
       0x41, 0x0F, 0xAE, 0x29});  // xrstor [r9]
  block().gpr[9] = kData + 0x2000;
  step(2);
  for (const unsigned from : {1U, 9U}) {
    block().vector = {};
    step();
    EXPECT_EQ(block().vector.zmm, before.zmm) << from;
    EXPECT_EQ(block().vector.opmask, before.opmask) << from;
  }
}

}  // namespace
}  // namespace bygone::cpu::translator
