#include "chipset/local_apic/local_apic.h"

#include <gtest/gtest.h>

#include <string>

#include "support/manual_clock.h"

namespace bygone::chipset {
namespace {

using namespace std::chrono_literals;
using cpu::DeliveryMode;
using cpu::DestinationMode;
using cpu::TriggerMode;
using cpu::VpIndex;
using spec::x86::ApicRegister;

constexpr std::uint64_t kTscFrequency = 2'500'000'000;

class FakeHost final : public cpu::LocalApicHost {
 public:
  explicit FakeHost(ManualTimerService& time) : time_(time) {}
  void notify(VpIndex vp) override { events += fmt::format("notify{} ", vp.value); }
  void deliver_nmi(VpIndex vp) override { events += fmt::format("nmi{} ", vp.value); }
  void deliver_init(VpIndex vp) override { events += fmt::format("init{} ", vp.value); }
  void deliver_start_up(VpIndex vp, std::uint8_t vector) override { events += fmt::format("sipi{}:{:x} ", vp.value, vector); }
  std::uint64_t guest_tsc(VpIndex) const override { return static_cast<std::uint64_t>(time_.now().count()) * 5 / 2; }
  std::uint64_t guest_tsc_frequency() const override { return kTscFrequency; }
  void level_eoi(std::uint8_t vector) override { events += fmt::format("eoi{:x} ", vector); }
  std::string take() { return std::exchange(events, {}); }
  std::string events;

 private:
  ManualTimerService& time_;
};

class LocalApicTest : public testing::Test {
 protected:
  void SetUp() override {
    for (std::uint32_t i = 0; i < 4; ++i) {
      write(i, ApicRegister::kSpuriousVector, 0x1FF);
      write(i, ApicRegister::kLogicalDestination, 1U << (24 + i));
    }
    host_.take();
  }
  LocalApicModel& apic(std::uint32_t vp = 0) { return set_.at(VpIndex{vp}); }
  void write(std::uint32_t vp, ApicRegister which, std::uint32_t value) {
    apic(vp).write_register(static_cast<std::uint32_t>(which), value);
  }
  std::uint32_t read(std::uint32_t vp, ApicRegister which) { return apic(vp).read_register(static_cast<std::uint32_t>(which)); }
  static std::uint32_t msr(ApicRegister which) { return 0x800 + static_cast<std::uint32_t>(which) / 16; }
  void enter_x2apic(std::uint32_t vp) {
    ASSERT_TRUE(apic(vp).write_msr(0x1B, *apic(vp).read_msr(0x1B) | 0xC00));
  }
  /// A bit a processor: who has `vector` pending.
  unsigned holders(std::uint8_t vector) {
    unsigned mask = 0;
    for (std::uint32_t i = 0; i < 4; ++i) {
      const auto pending = apic(i).pending();
      if (pending && *pending == vector) mask |= 1U << i;
    }
    return mask;
  }

  ManualTimerService time_;
  FakeHost host_{time_};
  LocalApicModelSet set_{host_, time_, 4};
};

TEST_F(LocalApicTest, reset_values_are_the_architected_ones) {
  apic(1).reset(false);
  EXPECT_EQ(apic(0).read_msr(0x1B), 0xFEE00900U);
  EXPECT_EQ(apic(1).read_msr(0x1B), 0xFEE00800U);
  EXPECT_EQ(apic(1).mmio_base(), 0xFEE00000U);
  EXPECT_EQ(read(1, ApicRegister::kId), 1U << 24);
  EXPECT_EQ(read(1, ApicRegister::kSpuriousVector), 0xFFU);
  EXPECT_EQ(read(1, ApicRegister::kLvtLint0), 0x10000U);
  EXPECT_EQ(read(1, ApicRegister::kDestinationFormat), 0xFFFFFFFFU);
}

TEST_F(LocalApicTest, higher_class_preempts_and_eoi_returns) {
  apic().accept(DeliveryMode::kFixed, 0x41, TriggerMode::kEdge);
  EXPECT_EQ(host_.take(), "notify0 ");
  EXPECT_EQ(apic().acknowledge(), 0x41);
  apic().accept(DeliveryMode::kFixed, 0x4F, TriggerMode::kEdge);  // the same class waits
  EXPECT_EQ(apic().pending(), std::nullopt);
  apic().accept(DeliveryMode::kFixed, 0x51, TriggerMode::kEdge);
  EXPECT_EQ(apic().acknowledge(), 0x51);
  EXPECT_EQ(read(0, ApicRegister::kProcessorPriority), 0x50U);
  host_.take();
  write(0, ApicRegister::kEoi, 0);
  EXPECT_EQ(apic().pending(), std::nullopt);
  write(0, ApicRegister::kEoi, 0);
  EXPECT_EQ(host_.take(), "notify0 ");
  EXPECT_EQ(apic().pending(), 0x4F);
}

TEST_F(LocalApicTest, task_priority_holds_back_and_cr8_releases) {
  apic().write_cr8(5);
  apic().accept(DeliveryMode::kFixed, 0x5F, TriggerMode::kEdge);
  EXPECT_EQ(host_.take(), "");
  EXPECT_EQ(apic().pending(), std::nullopt);
  EXPECT_EQ(read(0, ApicRegister::kTaskPriority), 0x50U);
  apic().write_cr8(4);
  EXPECT_EQ(host_.take(), "notify0 ");
  EXPECT_EQ(apic().pending(), 0x5F);
}

TEST_F(LocalApicTest, auto_eoi_interrupt_is_never_in_service) {
  apic().accept_auto_eoi(0x60);
  EXPECT_EQ(apic().acknowledge(), 0x60);
  EXPECT_EQ(read(0, ApicRegister::kProcessorPriority), 0U);
  apic().accept_auto_eoi(0x60);
  apic().accept(DeliveryMode::kFixed, 0x60, TriggerMode::kEdge);  // one of the two needs its EOI
  EXPECT_EQ(apic().acknowledge(), 0x60);
  EXPECT_EQ(read(0, ApicRegister::kProcessorPriority), 0x60U);
}

TEST_F(LocalApicTest, level_interrupt_tells_the_io_apic_at_eoi) {
  apic().accept(DeliveryMode::kFixed, 0x39, TriggerMode::kLevel);
  ASSERT_EQ(apic().acknowledge(), 0x39);
  host_.take();
  write(0, ApicRegister::kEoi, 0);
  EXPECT_EQ(host_.take(), "eoi39 ");
}

TEST_F(LocalApicTest, software_disabled_apic_accepts_nothing) {
  write(0, ApicRegister::kLvtTimer, 0x40);
  write(0, ApicRegister::kSpuriousVector, 0xFF);
  apic().accept(DeliveryMode::kFixed, 0x41, TriggerMode::kEdge);
  EXPECT_EQ(apic().pending(), std::nullopt);
  EXPECT_EQ(read(0, ApicRegister::kLvtTimer), 0x10040U);
  write(0, ApicRegister::kLvtTimer, 0x40);  // the mask bit sticks while disabled
  EXPECT_EQ(read(0, ApicRegister::kLvtTimer), 0x10040U);
}

TEST_F(LocalApicTest, commands_reach_who_they_name) {
  write(0, ApicRegister::kInterruptCommandHigh, 2U << 24);
  write(0, ApicRegister::kInterruptCommandLow, 0x4050);
  EXPECT_EQ(holders(0x50), 0b0100U);
  write(0, ApicRegister::kInterruptCommandHigh, 0x0A000000);
  write(0, ApicRegister::kInterruptCommandLow, 0x4851);  // logical, flat: 1 and 3
  EXPECT_EQ(holders(0x51), 0b1010U);
  write(0, ApicRegister::kInterruptCommandLow, 0xC0060);  // all but self
  EXPECT_EQ(holders(0x60), 0b1110U);
  write(0, ApicRegister::kInterruptCommandLow, 0x80070);  // all
  EXPECT_EQ(holders(0x70), 0b1111U);
  write(0, ApicRegister::kInterruptCommandLow, 0x40080);  // self
  EXPECT_EQ(holders(0x80), 0b0001U);
  write(0, ApicRegister::kInterruptCommandHigh, 0xFF000000);
  write(0, ApicRegister::kInterruptCommandLow, 0x4090);  // physical broadcast
  EXPECT_EQ(holders(0x90), 0b1111U);
}

TEST_F(LocalApicTest, start_up_sequence_reaches_the_processor) {
  write(0, ApicRegister::kInterruptCommandHigh, 1U << 24);
  write(0, ApicRegister::kInterruptCommandLow, 0xC500);  // INIT, assert
  write(0, ApicRegister::kInterruptCommandLow, 0x8500);  // INIT, de-assert: nothing
  write(0, ApicRegister::kInterruptCommandLow, 0x0608);  // start-up at page 8
  write(0, ApicRegister::kInterruptCommandLow, 0x0400);  // NMI
  EXPECT_EQ(host_.take(), "init1 sipi1:8 nmi1 ");
}

TEST_F(LocalApicTest, lowest_priority_takes_the_idlest) {
  for (std::uint32_t vp : {0U, 1U, 3U}) apic(vp).write_cr8(9);
  write(0, ApicRegister::kInterruptCommandHigh, 0x0F000000);
  write(0, ApicRegister::kInterruptCommandLow, 0x49A0);  // logical, lowest priority
  EXPECT_EQ(holders(0xA0), 0b0100U);
}

TEST_F(LocalApicTest, cluster_model_compares_cluster_and_member) {
  for (std::uint32_t vp = 0; vp < 4; ++vp) {
    write(vp, ApicRegister::kDestinationFormat, 0x0FFFFFFF);
    write(vp, ApicRegister::kLogicalDestination, (vp / 2) << 28 | 1U << (24 + vp % 2));
  }
  set_.request({DeliveryMode::kFixed, DestinationMode::kLogical, TriggerMode::kEdge, 0x55, 0x12});
  EXPECT_EQ(holders(0x55), 0b1000U);
}

TEST_F(LocalApicTest, x2apic_has_wide_command_and_faults_on_nonsense) {
  for (std::uint32_t vp = 0; vp < 4; ++vp) enter_x2apic(vp);
  EXPECT_EQ(apic(3).mmio_base(), std::nullopt);
  EXPECT_EQ(apic(3).read_msr(msr(ApicRegister::kId)), 3U);
  EXPECT_EQ(apic(3).read_msr(msr(ApicRegister::kLogicalDestination)), 8U);
  EXPECT_TRUE(apic().write_msr(msr(ApicRegister::kInterruptCommandLow), (0x6ULL << 32) | 0x4842));  // logical 1 and 2
  EXPECT_EQ(holders(0x42), 0b0110U);
  EXPECT_TRUE(apic().write_msr(msr(ApicRegister::kInterruptCommandLow), 0xFFFFFFFF00004052ULL));
  EXPECT_EQ(holders(0x52), 0b1111U);
  EXPECT_TRUE(apic().write_msr(msr(ApicRegister::kSelfIpi), 0x77));
  EXPECT_EQ(apic().pending(), 0x77);
  EXPECT_FALSE(apic().write_msr(msr(ApicRegister::kEoi), 1));
  EXPECT_FALSE(apic().write_msr(msr(ApicRegister::kId), 1));
  EXPECT_FALSE(apic().write_msr(msr(ApicRegister::kInterruptCommandHigh), 0));
  EXPECT_FALSE(apic().write_msr(msr(ApicRegister::kLvtTimer), 1U << 20));
  EXPECT_EQ(apic().read_msr(msr(ApicRegister::kDestinationFormat)), std::nullopt);
  EXPECT_EQ(apic().read_msr(0x840), std::nullopt);
  EXPECT_EQ(apic().read_msr(0x8FF), std::nullopt);
}

TEST_F(LocalApicTest, illegal_mode_changes_fault) {
  EXPECT_FALSE(apic(1).write_msr(0x1B, 0xFEE00400));
  EXPECT_FALSE(apic(1).write_msr(0x1B, 0xFEE00801));
  enter_x2apic(1);
  EXPECT_FALSE(apic(1).write_msr(0x1B, 0xFEE00800));
  EXPECT_TRUE(apic(1).write_msr(0x1B, 0xFEE00000));
  EXPECT_FALSE(apic(1).write_msr(0x1B, 0xFEE00C00));
  EXPECT_TRUE(apic(1).write_msr(0x1B, 0xFEE00800));
}

TEST_F(LocalApicTest, errors_are_latched_by_a_write) {
  write(0, ApicRegister::kLvtError, 0xEE);
  write(0, ApicRegister::kInterruptCommandLow, 0x40005);
  EXPECT_EQ(apic().pending(), 0xEE);
  EXPECT_EQ(read(0, ApicRegister::kErrorStatus), 0U);
  write(0, ApicRegister::kErrorStatus, 0);
  EXPECT_EQ(read(0, ApicRegister::kErrorStatus), spec::x86::kErrorSendIllegalVector);
  write(0, ApicRegister::kErrorStatus, 0);
  EXPECT_EQ(read(0, ApicRegister::kErrorStatus), 0U);
}

TEST_F(LocalApicTest, local_pin_delivers_its_nmi_unless_masked) {
  apic().raise_local_pin(1);
  EXPECT_EQ(host_.take(), "");
  write(0, ApicRegister::kLvtLint1, 0x400);
  apic().raise_local_pin(1);
  EXPECT_EQ(host_.take(), "nmi0 ");
}

TEST_F(LocalApicTest, one_shot_timer_counts_down_through_its_divider) {
  write(0, ApicRegister::kDivideConfiguration, 0x3);  // by 16
  write(0, ApicRegister::kLvtTimer, 0xEC);
  write(0, ApicRegister::kInitialCount, 1000);
  time_.advance(8us);
  EXPECT_EQ(read(0, ApicRegister::kCurrentCount), 500U);
  EXPECT_EQ(apic().pending(), std::nullopt);
  time_.advance(8us);
  EXPECT_EQ(apic().pending(), 0xEC);
  EXPECT_EQ(read(0, ApicRegister::kCurrentCount), 0U);
  EXPECT_EQ(time_.next_deadline(), std::nullopt);
}

TEST_F(LocalApicTest, periodic_timer_repeats_until_stopped) {
  write(0, ApicRegister::kDivideConfiguration, 0xB);  // by 1
  write(0, ApicRegister::kLvtTimer, 0x200EC);
  write(0, ApicRegister::kInitialCount, 1'000'000);
  for (int i = 0; i < 3; ++i) {
    time_.advance(1ms);
    EXPECT_EQ(apic().acknowledge(), 0xEC);
    write(0, ApicRegister::kEoi, 0);
  }
  write(0, ApicRegister::kInitialCount, 0);
  time_.advance(1s);
  EXPECT_EQ(apic().pending(), std::nullopt);
}

TEST_F(LocalApicTest, a_state_taken_between_a_timers_end_and_its_handler_has_the_interrupt) {
  for (const std::uint32_t mode : {0x000ECU, 0x200ECU}) {
    write(0, ApicRegister::kDivideConfiguration, 0xB);
    write(0, ApicRegister::kLvtTimer, mode);
    write(0, ApicRegister::kInitialCount, 1'000'000);
    time_.pass_unserved(1500us);
    const cpu::LocalApicState state = apic().save();
    apic().reset(false);
    apic().restore(state);
    EXPECT_EQ(apic().acknowledge(), 0xEC);
    write(0, ApicRegister::kEoi, 0);
    EXPECT_EQ(read(0, ApicRegister::kCurrentCount), mode == 0x200EC ? 500'000U : 0U);
    time_.advance(10us);
    EXPECT_EQ(apic().pending(), std::nullopt) << "once";
    write(0, ApicRegister::kInitialCount, 0);
  }
}

TEST_F(LocalApicTest, a_periodic_timer_that_was_caught_at_zero_goes_on) {
  write(0, ApicRegister::kDivideConfiguration, 0xB);
  write(0, ApicRegister::kLvtTimer, 0x200EC);
  write(0, ApicRegister::kInitialCount, 1'000'000);
  cpu::LocalApicState state = apic().save();
  state.registers[static_cast<std::size_t>(ApicRegister::kCurrentCount) / 16] = 0;
  apic().restore(state);
  time_.advance(1ms);
  EXPECT_EQ(apic().pending(), 0xEC);
}

TEST_F(LocalApicTest, deadline_timer_fires_at_its_tsc_and_clears) {
  write(0, ApicRegister::kLvtTimer, 0x400EC);
  EXPECT_TRUE(apic().write_msr(0x6E0, 2500));  // 1 us
  EXPECT_EQ(apic().read_msr(0x6E0), 2500U);
  time_.advance(999ns);
  EXPECT_EQ(apic().pending(), std::nullopt);
  time_.advance(1ns);
  EXPECT_EQ(apic().pending(), 0xEC);
  EXPECT_EQ(apic().read_msr(0x6E0), 0U);
}

TEST_F(LocalApicTest, deadline_in_the_past_fires_at_once_and_far_ones_do_not_overflow) {
  time_.advance(1ms);
  write(0, ApicRegister::kLvtTimer, 0x400EC);
  EXPECT_TRUE(apic().write_msr(0x6E0, ~0ULL));
  time_.advance(2h);
  EXPECT_EQ(apic().pending(), std::nullopt);
  EXPECT_TRUE(apic().write_msr(0x6E0, 1));
  EXPECT_EQ(apic().pending(), 0xEC);
}

TEST_F(LocalApicTest, init_clears_all_but_id_and_base) {
  enter_x2apic(1);
  apic(1).accept(DeliveryMode::kFixed, 0x44, TriggerMode::kEdge);
  apic(1).reset(true);
  EXPECT_EQ(apic(1).pending(), std::nullopt);
  EXPECT_EQ(apic(1).read_msr(msr(ApicRegister::kId)), 1U);
  EXPECT_EQ(apic(1).read_msr(msr(ApicRegister::kSpuriousVector)), 0xFFU);
}

TEST_F(LocalApicTest, saved_state_continues_on_another_set) {
  apic().accept(DeliveryMode::kFixed, 0x31, TriggerMode::kLevel);
  ASSERT_EQ(apic().acknowledge(), 0x31);
  apic().accept_auto_eoi(0x91);
  write(0, ApicRegister::kDivideConfiguration, 0xB);
  write(0, ApicRegister::kLvtTimer, 0xA0);
  write(0, ApicRegister::kInitialCount, 1000);
  time_.advance(400ns);
  const cpu::LocalApicState state = apic().save();

  ManualTimerService time;
  FakeHost host(time);
  LocalApicModelSet set(host, time, 1);
  LocalApicModel& other = set.at(VpIndex{0});
  other.restore(state);
  EXPECT_EQ(host.take(), "notify0 ");
  EXPECT_EQ(other.acknowledge(), 0x91);  // auto-EOI survived
  EXPECT_EQ(other.save().registers[0x0A], 0x30U);
  time.advance(600ns);
  EXPECT_EQ(other.pending(), 0xA0);
  host.take();
  other.write_register(0xB0, 0);
  EXPECT_EQ(host.take(), "eoi31 ");
}

}  // namespace
}  // namespace bygone::chipset
