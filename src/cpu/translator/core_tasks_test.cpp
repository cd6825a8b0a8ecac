#include <gtest/gtest.h>

#include <initializer_list>
#include <stdexcept>

#include "cpu/translator/core.h"
#include "cpu/translator/partition.h"

namespace bygone::cpu::translator {
namespace {

constexpr std::uint32_t kCode = 0x10'0000, kTaskCode = 0x10'1000, kHandler = 0x10'2000, kGateCode = 0x10'3000;
constexpr std::uint32_t kStack = 0x8'0000, kTaskStack = 0x8'8000, kInnerStack = 0x9'0000, kUserStack = 0x9'8000;
constexpr std::uint32_t kGdt = 0x5000, kTaskA = 0x6000, kTaskB = 0x6100, kTask16 = 0x6200, kIdt = 0x7000;
constexpr std::uint16_t kSelCode = 0x08, kSelData = 0x10, kSelUserCode = 0x1B, kSelUserData = 0x23, kSelA = 0x28, kSelB = 0x30,
                        kSelTaskGate = 0x38, kSelCallGate = 0x40, kSel16 = 0x48;

/// One processor in 32-bit protected mode without paging: two tasks, a task gate, a call gate.
class TaskTest : public testing::Test {
 protected:
  TaskTest() {
    EXPECT_TRUE(memory_.add_ram({0}, 2 << 20));
    PartitionOptions options;
    options.memory = &memory_;
    auto made = SoftwarePartition::create(std::move(options), 1'000'000'000);
    if (!made) throw std::runtime_error(made.error().text());
    partition_ = std::move(*made);
    put64(kGdt + kSelCode, 0x00CF'9B00'0000'FFFF);
    put64(kGdt + kSelData, 0x00CF'9300'0000'FFFF);
    put64(kGdt + (kSelUserCode & ~7U), 0x00CF'FB00'0000'FFFF);
    put64(kGdt + (kSelUserData & ~7U), 0x00CF'F300'0000'FFFF);
    put64(kGdt + kSelA, system_descriptor(kTaskA, 0x67, 0x8B));
    put64(kGdt + kSelB, system_descriptor(kTaskB, 0x67, 0x89));
    put64(kGdt + kSelTaskGate, std::uint64_t{kSelB} << 16 | std::uint64_t{0x85} << 40);
    put64(kGdt + kSelCallGate, (kGateCode & 0xFFFF) | std::uint64_t{kSelCode} << 16 | std::uint64_t{2} << 32 | std::uint64_t{0xEC} << 40 |
                                   std::uint64_t{kGateCode >> 16} << 48);
    put64(kGdt + kSel16, system_descriptor(kTask16, 0x2B, 0x81));
    put32(kTaskA + 4, kInnerStack);
    put32(kTaskA + 8, kSelData);
    make_task_b();

    VcpuBlock& vcpu = block();
    vcpu.cr0 = cr0::kPe | cr0::kEt;
    vcpu.cr4 = vcpu.efer = 0;
    vcpu.gdt = {kGdt, 0x4F};
    vcpu.idt = {kIdt, 0x7FF};
    vcpu.task = {kTaskA, 0x67, kSelA, 0x8B};
    vcpu.ldt = {0, 0, 0, kSegmentUnusable};
    set_ring(0);
    vcpu.gpr[4] = kStack;
    vcpu.rip = kCode;
    vcpu.rflags = rflags::kFixed;
  }

  static std::uint64_t system_descriptor(std::uint32_t base, std::uint32_t limit, std::uint32_t access) {
    return limit | std::uint64_t{base & 0xFF'FFFF} << 16 | std::uint64_t{access} << 40 | std::uint64_t{base >> 24} << 56;
  }
  void make_task_b() {
    put32(kTaskB + 0x20, kTaskCode);
    put32(kTaskB + 0x24, 2);
    put32(kTaskB + 0x28, 0xAAAA'0001);  // EAX
    put32(kTaskB + 0x38, kTaskStack);   // ESP
    for (const std::uint32_t at : {0x48U, 0x50U, 0x54U, 0x58U, 0x5CU}) put32(kTaskB + at, kSelData);
    put32(kTaskB + 0x4C, kSelCode);
  }
  void set_ring(unsigned ring) {
    VcpuBlock& vcpu = block();
    const std::uint32_t dpl = ring << 5;
    const std::uint16_t data = ring == 0 ? kSelData : kSelUserData;
    for (Segment& segment : vcpu.segments) segment = {0, 0xFFFF'FFFF, data, 0xC093 | dpl};
    vcpu.segments[1] = {0, 0xFFFF'FFFF, ring == 0 ? kSelCode : kSelUserCode, 0xC09B | dpl};
    vcpu.cpl = static_cast<std::uint8_t>(ring);
    mmu::flush_all(vcpu);
    mmu::update_mode(vcpu);
    core().forget_fetch();
  }
  /// An interrupt gate to kHandler, or a task gate to task B.
  void set_handler(unsigned vector) { put64(kIdt + 8 * vector, (kHandler & 0xFFFF) | std::uint64_t{kSelCode} << 16 | std::uint64_t{0x8E} << 40 | std::uint64_t{kHandler >> 16} << 48); }
  void set_task_handler(unsigned vector) { put64(kIdt + 8 * vector, std::uint64_t{kSelB} << 16 | std::uint64_t{0x85} << 40); }

  Core& core() { return static_cast<SoftwareVcpu&>(partition_->vcpu({0})).core(); }
  VcpuBlock& block() { return core().block(); }
  void put(std::uint32_t at, std::initializer_list<std::uint8_t> bytes) {
    for (const std::uint8_t byte : bytes) EXPECT_TRUE(memory_.write_object<std::uint8_t>({at++}, byte));
  }
  void put64(std::uint32_t at, std::uint64_t value) { EXPECT_TRUE(memory_.write_object<std::uint64_t>({at}, value)); }
  void put32(std::uint32_t at, std::uint32_t value) { EXPECT_TRUE(memory_.write_object<std::uint32_t>({at}, value)); }
  std::uint32_t at32(std::uint32_t at) { return memory_.read_object<std::uint32_t>({at}).value_or(~0U); }
  std::uint16_t at16(std::uint32_t at) { return memory_.read_object<std::uint16_t>({at}).value_or(0xFFFF); }
  unsigned type_of(std::uint16_t selector) { return memory_.read_object<std::uint8_t>({kGdt + selector + 5U}).value_or(0) & 0xF; }
  void step(unsigned count = 1) {
    for (unsigned i = 0; i < count; ++i) ASSERT_EQ(core().step(), StepResult::kDone);
  }

  memory::GuestMemory memory_;
  std::unique_ptr<SoftwarePartition> partition_;
};

TEST_F(TaskTest, jump_to_a_task_saves_the_old_one_and_marks_only_the_new_one_busy) {
  put(kCode, {0xEA, 0, 0, 0, 0, kSelB, 0});
  block().gpr[0] = 0x1111'2222;
  step();
  EXPECT_EQ(block().rip, kTaskCode);
  EXPECT_EQ(block().gpr[0], 0xAAAA'0001U);
  EXPECT_EQ(block().gpr[4], kTaskStack);
  EXPECT_EQ(block().task.selector, kSelB);
  EXPECT_EQ(type_of(kSelA), 9U);
  EXPECT_EQ(type_of(kSelB), 11U);
  EXPECT_EQ(at32(kTaskA + 0x20), kCode + 7);
  EXPECT_EQ(at32(kTaskA + 0x28), 0x1111'2222U);
  EXPECT_EQ(at16(kTaskA + 0x4C), kSelCode);
  EXPECT_NE(block().cr0 & cr0::kTs, 0U);
  EXPECT_EQ(block().rflags & rflags::kNt, 0U);
}

TEST_F(TaskTest, call_of_a_task_gate_nests_and_iret_comes_back) {
  put(kCode, {0x9A, 0, 0, 0, 0, kSelTaskGate, 0});
  put(kTaskCode, {0xCF});
  step();
  EXPECT_EQ(block().rip, kTaskCode);
  EXPECT_NE(block().rflags & rflags::kNt, 0U);
  EXPECT_EQ(at16(kTaskB), kSelA);
  EXPECT_EQ(type_of(kSelA), 11U);
  EXPECT_EQ(type_of(kSelB), 11U);
  step();
  EXPECT_EQ(block().rip, kCode + 7);
  EXPECT_EQ(block().task.selector, kSelA);
  EXPECT_EQ(block().gpr[4], kStack);
  EXPECT_EQ(block().rflags & rflags::kNt, 0U);
  EXPECT_EQ(type_of(kSelA), 11U);
  EXPECT_EQ(type_of(kSelB), 9U);
  EXPECT_EQ(at32(kTaskB + 0x20), kTaskCode + 1);
  EXPECT_EQ(at32(kTaskB + 0x24) & rflags::kNt, 0U);
}

TEST_F(TaskTest, exception_through_a_task_gate_brings_its_error_code_to_the_new_stack) {
  put(kCode, {0x8E, 0xD8});  // mov ds, eax
  block().gpr[0] = 0x70;     // beyond the table
  set_task_handler(vector::kGp);
  step();
  EXPECT_EQ(block().rip, kTaskCode);
  EXPECT_EQ(block().gpr[4], kTaskStack - 4);
  EXPECT_EQ(at32(kTaskStack - 4), 0x70U);
  EXPECT_EQ(at32(kTaskA + 0x20), kCode) << "the old task stands at the instruction that faulted";
}

TEST_F(TaskTest, double_fault_has_a_task_of_its_own) {
  put(kCode, {0x8E, 0xD8});
  block().gpr[0] = 0x70;
  block().gpr[4] = 0x8;  // #GP has no handler: that is a second contributory fault
  set_task_handler(vector::kDf);
  step();
  EXPECT_EQ(block().rip, kTaskCode);
  EXPECT_EQ(block().gpr[4], kTaskStack - 4);
  EXPECT_EQ(at32(kTaskStack - 4), 0U);
  EXPECT_EQ(at16(kTaskB), kSelA);
}

TEST_F(TaskTest, bad_data_segment_of_the_new_task_is_the_new_tasks_fault) {
  put(kCode, {0xEA, 0, 0, 0, 0, kSelB, 0});
  put32(kTaskB + 0x54, 0x78);  // DS
  set_handler(vector::kTs);
  step();
  EXPECT_EQ(block().rip, kHandler);
  EXPECT_EQ(block().task.selector, kSelB);
  EXPECT_EQ(at32(kTaskStack - 16), 0x78U);       // error code
  EXPECT_EQ(at32(kTaskStack - 12), kTaskCode);   // where the new task would have begun
}

TEST_F(TaskTest, busy_task_is_refused_and_nothing_has_changed) {
  put(kCode, {0xEA, 0, 0, 0, 0, kSelA, 0});
  set_handler(vector::kGp);
  block().gpr[0] = 77;
  step();
  EXPECT_EQ(block().rip, kHandler);
  EXPECT_EQ(at32(kStack - 16), std::uint32_t{kSelA});
  EXPECT_EQ(at32(kStack - 12), kCode);
  EXPECT_EQ(block().gpr[0], 77U);
  EXPECT_EQ(block().task.selector, kSelA);
}

TEST_F(TaskTest, task_of_16_bits_loads_words) {
  put(kCode, {0xEA, 0, 0, 0, 0, kSel16, 0});
  const auto put16 = [&](std::uint32_t at, std::uint16_t value) { EXPECT_TRUE(memory_.write_object<std::uint16_t>({kTask16 + at}, value)); };
  put16(0x0E, 0x4000);
  put16(0x10, 0x0002);
  put16(0x12, 0xBEEF);  // AX
  put16(0x1A, 0x3000);  // SP
  put16(0x22, kSelData);
  put16(0x24, kSelCode);
  put16(0x26, kSelData);
  put16(0x28, kSelData);
  step();
  EXPECT_EQ(block().rip, 0x4000U);
  EXPECT_EQ(block().gpr[0] & 0xFFFF, 0xBEEFU);
  EXPECT_EQ(block().gpr[4] & 0xFFFF, 0x3000U);
  EXPECT_EQ(block().segments[3].selector, kSelData);
  EXPECT_NE(block().segments[4].attributes & kSegmentUnusable, 0U);
}

TEST_F(TaskTest, call_gate_changes_the_stack_copies_parameters_and_far_return_releases_them) {
  put(kCode, {0x9A, 0, 0, 0, 0, kSelCallGate | 3, 0});
  put(kGateCode, {0xCA, 0x08, 0x00});  // retf 8
  set_ring(3);
  block().gpr[4] = kUserStack;
  put32(kUserStack, 0x1111);
  put32(kUserStack + 4, 0x2222);
  step();
  EXPECT_EQ(block().rip, kGateCode);
  EXPECT_EQ(block().cpl, 0U);
  EXPECT_EQ(block().gpr[4], kInnerStack - 24);
  EXPECT_EQ(at32(kInnerStack - 24), kCode + 7);
  EXPECT_EQ(at32(kInnerStack - 20), std::uint32_t{kSelUserCode});
  EXPECT_EQ(at32(kInnerStack - 16), 0x1111U);
  EXPECT_EQ(at32(kInnerStack - 12), 0x2222U);
  EXPECT_EQ(at32(kInnerStack - 8), kUserStack);
  EXPECT_EQ(at32(kInnerStack - 4), std::uint32_t{kSelUserData});
  step();
  EXPECT_EQ(block().rip, kCode + 7);
  EXPECT_EQ(block().cpl, 3U);
  EXPECT_EQ(block().gpr[4], kUserStack + 8);
}

TEST_F(TaskTest, user_mode_instruction_prevention_hides_tables_and_tasks_from_ring_3) {
  set_handler(vector::kGp);
  const std::initializer_list<std::uint8_t> instructions[] = {
      {0x0F, 0x01, 0x03}, {0x0F, 0x01, 0x0B}, {0x0F, 0x01, 0xE0}, {0x0F, 0x00, 0xC8}, {0x0F, 0x00, 0xC0}};  // SGDT SIDT SMSW STR SLDT
  for (const auto& instruction : instructions) {
    put(kCode, instruction);
    for (const bool prevented : {false, true}) {
      set_ring(3);
      block().cr4 = prevented ? cr4::kUmip : 0;
      block().rip = kCode;
      block().gpr[3] = kUserStack;
      block().gpr[4] = kUserStack;
      step();
      EXPECT_EQ(block().rip, prevented ? kHandler : kCode + 3) << unsigned{*(instruction.begin() + 1)} << ' ' << unsigned{*(instruction.begin() + 2)};
    }
  }
}

}  // namespace
}  // namespace bygone::cpu::translator
