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

class IdleApic final : public LocalApic {
 public:
  [[nodiscard]] std::optional<std::uint64_t> read_msr(std::uint32_t) override { return 0; }
  [[nodiscard]] bool write_msr(std::uint32_t, std::uint64_t) override { return true; }
  [[nodiscard]] std::uint32_t read_register(std::uint32_t) override { return 0; }
  void write_register(std::uint32_t, std::uint32_t) override {}
  [[nodiscard]] std::optional<std::uint64_t> mmio_base() const override { return std::nullopt; }
  [[nodiscard]] std::uint64_t read_cr8() override { return 0; }
  void write_cr8(std::uint64_t) override {}
  [[nodiscard]] std::optional<std::uint8_t> pending() override { return std::nullopt; }
  [[nodiscard]] std::optional<std::uint8_t> acknowledge() override { return std::nullopt; }
  void accept(DeliveryMode, std::uint8_t, TriggerMode) override {}
  void accept_auto_eoi(std::uint8_t) override {}
  [[nodiscard]] LocalApicState save() override { return {}; }
  void restore(const LocalApicState&) override {}
  void reset(bool) override {}
};

/// Its timer fires at the last moment.
class LateApics final : public LocalApicSet {
 public:
  explicit LateApics(LocalApicHost& host) : host_(host) {}
  ~LateApics() override {
    for (int i = 0; i < 1000; ++i) host_.notify({0});
  }
  [[nodiscard]] LocalApic& at(VpIndex) override { return apic_; }
  void request(const InterruptRequest&) override {}

 private:
  LocalApicHost& host_;
  IdleApic apic_;
};

// Seen for certain under AddressSanitizer.
TEST(SoftwarePartitionEndTest, processors_are_there_until_the_apics_are_gone) {
  memory::GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, 2 << 20));
  PartitionOptions options;
  options.memory = &memory;
  options.local_apics = [](LocalApicHost& host, std::uint32_t) { return std::make_unique<LateApics>(host); };
  auto partition = SoftwarePartition::create(std::move(options), 1'000'000'000);
  ASSERT_TRUE(partition);
  partition->reset();
}

}  // namespace
}  // namespace bygone::cpu::translator
