#include "cpu/translator/partition.h"

#include <gtest/gtest.h>

#include <initializer_list>

#include "cpu/entry_state.h"

namespace bygone::cpu::translator {
namespace {

constexpr std::uint64_t kCode = 0x10'0000, kStack = 0x8'0000, kNowhere = 0xC000'0000;

/// One processor in 64-bit ring 0 as the machine sees it.
class SoftwarePartitionTest : public testing::Test {
 protected:
  SoftwarePartitionTest() {
    EXPECT_TRUE(memory_.add_ram({0}, 2 << 20));
    PartitionOptions options;
    options.memory = &memory_;
    partition_ = SoftwarePartition::create(std::move(options), 1'000'000'000).value();
    auto system = prepare_long_mode(memory_, {0x1000}, {0x8000});
    EXPECT_TRUE(system);
    system->apic_base = 0;
    EXPECT_TRUE(vcpu().set_system_registers(*system));
  }
  SoftwareVcpu& vcpu() { return static_cast<SoftwareVcpu&>(partition_->vcpu({0})); }
  void start(std::initializer_list<std::uint8_t> bytes) {
    std::uint64_t at = kCode;
    for (const std::uint8_t byte : bytes) EXPECT_TRUE(memory_.write_object<std::uint8_t>({at++}, byte));
    GeneralRegisters registers;
    registers.rip = kCode;
    registers[Gpr::kRsp] = kStack;
    registers[Gpr::kRbx] = kNowhere;
    EXPECT_TRUE(vcpu().set_general_registers(registers));
  }
  template <typename T>
  T* run_to() {
    auto exit = vcpu().run();
    if (!exit) return nullptr;
    return std::get_if<T>(*exit);
  }

  memory::GuestMemory memory_;
  std::unique_ptr<SoftwarePartition> partition_;
};

TEST_F(SoftwarePartitionTest, a_processor_that_is_half_way_through_an_instruction_is_not_saved_and_loses_nothing) {
  start({0x83, 0x03, 0x05, 0xE6, 0x80});  // add dword [rbx], 5; out 0x80, al
  auto* read = run_to<MmioExit>();
  ASSERT_NE(read, nullptr);
  read->data = 37;
  for (int i = 0; i < 3; ++i) {
    const auto saved = vcpu().save_state();
    ASSERT_FALSE(saved);
    EXPECT_EQ(saved.error().code, ErrorCode::kBusy);
  }
  const auto* write = run_to<MmioExit>();
  ASSERT_NE(write, nullptr) << "what came while it was to be saved";
  EXPECT_TRUE(write->is_write);
  EXPECT_EQ(write->data, 42U);
  ASSERT_NE(run_to<PortExit>(), nullptr) << "once";
  const auto saved = vcpu().save_state();
  ASSERT_TRUE(saved) << saved.error().text();
  EXPECT_EQ(saved->general.rip, kCode + 5);
}

TEST_F(SoftwarePartitionTest, a_kick_comes_out_between_instructions) {
  start({0x83, 0x03, 0x05, 0xE6, 0x80});
  ASSERT_NE(run_to<MmioExit>(), nullptr);
  vcpu().kick();
  ASSERT_NE(run_to<MmioExit>(), nullptr) << "the other half first";
  ASSERT_NE(run_to<InterruptedExit>(), nullptr);
  const auto saved = vcpu().save_state();
  ASSERT_TRUE(saved) << saved.error().text();
  EXPECT_EQ(saved->general.rip, kCode + 3);
}

TEST_F(SoftwarePartitionTest, a_kick_and_an_end_of_interrupt_both_come_out) {
  start({0x90, 0xEB, 0xFD});
  vcpu().core().level_eoi(0x61);
  vcpu().kick();
  vcpu().core().level_eoi(0x62);
  int ends = 0, kicks = 0;
  while (kicks == 0) {  // without end when it got lost
    auto exit = vcpu().run();
    ASSERT_TRUE(exit);
    if (std::holds_alternative<IoApicEoiExit>(**exit)) ++ends;
    if (std::holds_alternative<InterruptedExit>(**exit)) ++kicks;
  }
  EXPECT_EQ(ends, 2);
}

TEST_F(SoftwarePartitionTest, a_restored_processor_has_forgotten_the_exit_of_its_former_life) {
  start({0x83, 0x03, 0x05, 0xE6, 0x80});
  const auto before = vcpu().save_state();
  ASSERT_TRUE(before);
  ASSERT_NE(run_to<MmioExit>(), nullptr);
  ASSERT_FALSE(vcpu().save_state());
  ASSERT_TRUE(vcpu().restore_state(*before));
  const auto* read = run_to<MmioExit>();
  ASSERT_NE(read, nullptr);
  EXPECT_FALSE(read->is_write);
}

}  // namespace
}  // namespace bygone::cpu::translator
