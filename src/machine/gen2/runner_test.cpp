#include "machine/gen2/runner.h"

#include <gtest/gtest.h>

#include <atomic>

namespace bygone::machine::gen2 {
namespace {

/// A processor in an endless loop of an instruction that leaves the guest twice: a read, then a write.
class FakeVcpu final : public cpu::Vcpu {
 public:
  [[nodiscard]] cpu::VpIndex index() const override { return {0}; }
  [[nodiscard]] Result<cpu::Exit*> run() override {
    if (!is_half_done_ && is_kicked_.exchange(false)) {
      exit_ = cpu::InterruptedExit{};
    } else {
      exit_ = cpu::MmioExit{.address = {0}, .size = 4, .is_write = is_half_done_, .data = 0};
      is_half_done_ = !is_half_done_;
    }
    return &exit_;
  }
  void kick() override { is_kicked_ = true; }
  [[nodiscard]] bool is_half_done() const { return is_half_done_; }

  [[nodiscard]] Result<cpu::VcpuState> save_state() override { return cpu::VcpuState{}; }
  [[nodiscard]] Result<void> restore_state(const cpu::VcpuState&) override { return {}; }
  [[nodiscard]] Result<cpu::GeneralRegisters> general_registers() override { return cpu::GeneralRegisters{}; }
  [[nodiscard]] Result<void> set_general_registers(const cpu::GeneralRegisters&) override { return {}; }
  [[nodiscard]] Result<cpu::SystemRegisters> system_registers() override { return cpu::SystemRegisters{}; }
  [[nodiscard]] Result<void> set_system_registers(const cpu::SystemRegisters&) override { return {}; }
  [[nodiscard]] Result<void> reset() override { return {}; }
  [[nodiscard]] Result<void> inject_exception(std::uint8_t, std::optional<std::uint32_t>) override { return {}; }
  [[nodiscard]] Result<void> set_breakpoints(std::span<const std::uint64_t>, bool) override { return {}; }
  [[nodiscard]] Result<std::optional<memory::Gpa>> translate(std::uint64_t) override { return std::optional<memory::Gpa>(); }

 private:
  cpu::Exit exit_;
  bool is_half_done_ = false;  // read by others only while nothing runs
  std::atomic<bool> is_kicked_ = false;
};

class FakePartition final : public cpu::Partition {
 public:
  [[nodiscard]] FakeVcpu& vcpu(cpu::VpIndex) override { return vcpu_; }
  void request_interrupt(const cpu::InterruptRequest&) override {}
  void request_synic_interrupt(cpu::VpIndex, std::uint8_t, bool) override {}
  [[nodiscard]] bool supports_auto_eoi() const override { return false; }
  [[nodiscard]] std::uint64_t tsc_frequency() const override { return 1; }
  [[nodiscard]] std::uint64_t apic_timer_frequency() const override { return 1; }
  [[nodiscard]] std::uint64_t guest_tsc() const override { return 0; }
  [[nodiscard]] std::vector<std::byte> hypercall_code() const override { return {}; }
  void flush_tlbs(std::span<const cpu::VpIndex>) override {}
  [[nodiscard]] Result<void> start_dirty_log() override { return {}; }
  void stop_dirty_log() override {}
  [[nodiscard]] Result<void> take_dirty_pages(memory::PageSet&) override { return {}; }
  [[nodiscard]] std::string inspect() const override { return "{}"; }

 private:
  FakeVcpu vcpu_;
};

TEST(RunnerTest, a_paused_processor_stands_between_two_instructions) {
  FakePartition partition;
  std::atomic<std::uint64_t> exits = 0;
  Runner runner(partition, 1, [&](cpu::VpIndex, cpu::Exit&) { return ++exits, true; }, [](cpu::VpIndex, const Error&) {});
  runner.start();
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t before = exits;
    runner.resume();
    while (exits == before) std::this_thread::yield();
    runner.pause();
    ASSERT_FALSE(partition.vcpu({0}).is_half_done()) << "pause " << i;
  }
}

TEST(RunnerTest, a_pause_that_an_exit_asks_for_waits_for_the_rest_of_its_instruction) {
  FakePartition partition;
  std::atomic<bool> has_asked = false;
  Runner* asked = nullptr;
  Runner runner(
      partition, 1,
      [&](cpu::VpIndex, cpu::Exit& exit) {
        const auto* access = std::get_if<cpu::MmioExit>(&exit);
        if (access != nullptr && !access->is_write && !has_asked.exchange(true)) asked->request_pause();
        return true;
      },
      [](cpu::VpIndex, const Error&) {});
  asked = &runner;
  runner.start();
  runner.resume();
  while (!has_asked || !runner.is_paused()) std::this_thread::yield();
  EXPECT_FALSE(partition.vcpu({0}).is_half_done());
}

TEST(RunnerTest, a_processor_that_its_handler_stops_waits_for_the_next_resume) {
  FakePartition partition;
  std::atomic<int> exits = 0;
  Runner runner(partition, 1, [&](cpu::VpIndex, cpu::Exit&) { return ++exits, false; }, [](cpu::VpIndex, const Error&) {});
  runner.start();
  for (int i = 1; i <= 3; ++i) {
    runner.resume();
    while (exits < i) std::this_thread::yield();
    runner.pause();
    EXPECT_EQ(exits, i);
  }
}

}  // namespace
}  // namespace bygone::machine::gen2
