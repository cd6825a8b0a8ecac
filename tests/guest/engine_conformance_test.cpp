// What every engine promises about the states it saves and restores and about the requests that come meanwhile.
//
//   BYGONE_TEST_ENGINE=kvm|software engine_conformance_test        (software when it is not set)
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstring>
#include <initializer_list>
#include <map>
#include <random>
#include <stop_token>
#include <thread>

#include "guest/one_engine.h"

namespace bygone::guest_tests {
namespace {

using namespace std::chrono_literals;
using cpu::Gpr;

constexpr std::uint8_t kMainPort = 0x80, kHandlerPort = 0x81;

class EngineConformance : public OneEngineTest {
 protected:
  enum class Says { kNothing, kPort };
  /// Sends `vector` to a handler that starts with `code`, tells kHandlerPort or nothing, and returns.
  void set_handler(std::uint8_t vector, Code code = {}, Says says = Says::kPort) {
    constexpr std::uint64_t kGates = 0x9000, kHandler = kCode + 0x1000;
    struct Gate {
      std::uint16_t low, selector;
      std::uint8_t stack, type;
      std::uint16_t middle;
      std::uint32_t high, reserved;
    };
    const Gate gate{kHandler & 0xFFFF, cpu::kEntryCode, 0, 0x8E, kHandler >> 16, 0, 0};
    ASSERT_TRUE(memory_.write_object({kGates + vector * sizeof(Gate)}, gate));
    if (says == Says::kPort) code.insert(code.end(), {0xE6, kHandlerPort});
    code.insert(code.end(), {0x48, 0xCF});  // iretq
    ASSERT_TRUE(memory_.write({kHandler}, std::as_bytes(std::span(code))));
    auto system = vcpu().system_registers();
    ASSERT_TRUE(system);
    system->idt = {kGates, 0xFFF};
    ASSERT_TRUE(vcpu().set_system_registers(*system));
  }

  void request_nmi() { partition_->request_interrupt({.delivery = cpu::DeliveryMode::kNmi}); }

  void request_level(std::uint8_t vector) {
    partition_->request_interrupt({.trigger = cpu::TriggerMode::kLevel, .vector = vector});
  }

  void save_and_restore() {
    const auto state = vcpu().save_state();
    ASSERT_TRUE(state) << state.error().text();
    ASSERT_TRUE(vcpu().restore_state(*state));
  }
  /// The same in another partition.
  void move() {
    const auto state = vcpu().save_state();
    ASSERT_TRUE(state) << state.error().text();
    partition_.reset();
    create_partition();
    ASSERT_TRUE(vcpu().restore_state(*state));
  }

  /// Runs with a kick after `time`, and returns how many ends of interrupts came before it came out.
  int ends_before_kick(std::chrono::microseconds time) {
    std::jthread kicker([&] {
      std::this_thread::sleep_for(time);
      vcpu().kick();
    });
    for (int ends = 0;;) {
      auto exit = vcpu().run();
      if (!exit || std::holds_alternative<cpu::InterruptedExit>(**exit)) return ends;
      if (std::holds_alternative<cpu::IoApicEoiExit>(**exit)) ++ends;
    }
  }

  /// The next exit is a write to this port; 0 when it is something else.
  std::uint16_t next_port() {
    const auto* out = run_to<cpu::PortExit>();
    return out == nullptr ? 0 : out->port;
  }
  int handled_of_next_five() {
    int handled = 0;
    for (int i = 0; i < 5; ++i) handled += next_port() == kHandlerPort ? 1 : 0;
    return handled;
  }
};

TEST_F(EngineConformance, a_processor_that_is_half_way_through_an_instruction_is_not_saved_and_loses_nothing) {
  cpu::GeneralRegisters registers;
  registers[Gpr::kRbx] = kNowhere;
  start({0x83, 0x03, 0x05, 0xE6, 0x80}, registers);  // add dword [rbx], 5; out 0x80, al
  auto* read = run_to<cpu::MmioExit>();
  ASSERT_NE(read, nullptr);
  read->data = 37;
  for (int i = 0; i < 3; ++i) {
    const auto saved = vcpu().save_state();
    ASSERT_FALSE(saved);
    EXPECT_EQ(saved.error().code, ErrorCode::kBusy);
  }
  const auto* write = run_to<cpu::MmioExit>();
  ASSERT_NE(write, nullptr) << "what came while it was to be saved";
  EXPECT_TRUE(write->is_write);
  EXPECT_EQ(write->data, 42U);
  ASSERT_NE(run_to<cpu::PortExit>(), nullptr) << "once";
  const auto saved = vcpu().save_state();
  ASSERT_TRUE(saved) << saved.error().text();
  EXPECT_EQ(saved->general.rip, kCode + 5);
}

// Five bytes to one page and three to the next, of which KVM makes pieces.
TEST_F(EngineConformance, a_split_access_is_not_saved_before_all_its_pieces_were_answered) {
  cpu::GeneralRegisters registers;
  registers[Gpr::kRbx] = kNowhere + 0xFFB;
  registers[Gpr::kRax] = 0x8877665544332211;
  start({0x48, 0x89, 0x03, 0xE6, 0x80}, registers);  // mov [rbx], rax; out
  std::map<std::uint64_t, std::uint8_t> bytes;
  for (;;) {
    auto exit = vcpu().run();
    ASSERT_TRUE(exit);
    if (std::holds_alternative<cpu::PortExit>(**exit)) break;
    const auto* piece = std::get_if<cpu::MmioExit>(*exit);
    ASSERT_NE(piece, nullptr) << (*exit)->index();
    for (unsigned i = 0; i < piece->size; ++i) bytes[piece->address.value + i] = static_cast<std::uint8_t>(piece->data >> 8 * i);
    static_cast<void>(vcpu().save_state());  // kBusy, or done
  }
  ASSERT_EQ(bytes.size(), 8U);
  for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(bytes[kNowhere + 0xFFB + i], 0x11 * (i + 1));
}

TEST_F(EngineConformance, a_kick_comes_out_between_instructions) {
  cpu::GeneralRegisters registers;
  registers[Gpr::kRbx] = kNowhere;
  start({0x83, 0x03, 0x05, 0xE6, 0x80}, registers);
  ASSERT_NE(run_to<cpu::MmioExit>(), nullptr);
  vcpu().kick();
  ASSERT_NE(run_to<cpu::MmioExit>(), nullptr) << "the other half first";
  ASSERT_NE(run_to<cpu::InterruptedExit>(), nullptr);
  const auto saved = vcpu().save_state();
  ASSERT_TRUE(saved) << saved.error().text();
  EXPECT_EQ(saved->general.rip, kCode + 3);
}

TEST_F(EngineConformance, a_restored_processor_has_forgotten_the_exit_of_its_former_life) {
  cpu::GeneralRegisters registers;
  registers[Gpr::kRbx] = kNowhere;
  registers[Gpr::kRdi] = kNowhere + 0x1000;
  registers[Gpr::kRsi] = kNowhere + 0x2000;
  registers[Gpr::kRcx] = 5000;
  start({0xF3, 0xA4}, registers);  // rep movsb from nowhere to nowhere
  const auto before = vcpu().save_state();
  ASSERT_TRUE(before);
  ASSERT_NE(run_to<cpu::MmioExit>(), nullptr);
  ASSERT_FALSE(vcpu().save_state());
  ASSERT_TRUE(vcpu().restore_state(*before));
  const auto* read = run_to<cpu::MmioExit>();
  ASSERT_NE(read, nullptr);
  EXPECT_FALSE(read->is_write);
  EXPECT_EQ(read->address.value, kNowhere + 0x2000);
  ASSERT_TRUE(vcpu().reset());
  start({0x83, 0x03, 0x05, 0xE6, kMainPort}, registers);
  read = run_to<cpu::MmioExit>();
  ASSERT_NE(read, nullptr);
  EXPECT_FALSE(read->is_write);
  EXPECT_EQ(read->address.value, kNowhere);
}

TEST_F(EngineConformance, an_injected_exception_reaches_the_guest) {
  start({0xE6, kMainPort, 0xEB, 0xFE});
  set_handler(13, {0x58});  // pop rax: the error code
  ASSERT_EQ(next_port(), kMainPort);
  ASSERT_TRUE(vcpu().inject_exception(13, 0x42));
  auto* out = run_to<cpu::PortExit>();
  ASSERT_NE(out, nullptr);
  EXPECT_EQ(out->port, kHandlerPort);
  EXPECT_EQ(out->data[0], std::byte{0x42});
}

/// mov rax, 0xFEE00000 + offset; mov dword [rax], value
void append_apic_write(std::vector<std::uint8_t>& code, std::uint32_t offset, std::uint32_t value) {
  const std::uint32_t address = 0xFEE00000 + offset;
  const auto append = [&](std::uint32_t word) {
    for (int shift = 0; shift < 32; shift += 8) code.push_back(static_cast<std::uint8_t>(word >> shift));
  };
  code.push_back(0xB8);
  append(address);
  code.insert(code.end(), {0xC7, 0x00});
  append(value);
}

constexpr std::uint8_t kTimerVector = 0x50;
bool is_requested(const cpu::VcpuState& state, std::uint8_t vector) {
  return (state.local_apic.registers[0x20U + vector / 32U] >> vector % 32 & 1) != 0;
}

/// A one-shot timer of 0.1 ms, then OUTs without end, interrupts off.
Code one_shot_guest() {
  Code code;
  append_apic_write(code, 0xF0, 0x1FF);
  append_apic_write(code, 0x3E0, 0xB);
  append_apic_write(code, 0x320, kTimerVector);
  append_apic_write(code, 0x380, 100'000);
  code.insert(code.end(), {0xE6, kMainPort, 0xEB, 0xFC});
  return code;
}

TEST_F(EngineConformance, a_timer_that_ran_out_while_the_processor_stood_is_in_its_state) {
  start(one_shot_guest());
  ASSERT_NE(run_to<cpu::PortExit>(), nullptr);
  std::this_thread::sleep_for(20ms);
  const auto state = vcpu().save_state();
  ASSERT_TRUE(state) << state.error().text();
  EXPECT_TRUE(is_requested(*state, kTimerVector));
  ASSERT_NE(run_to<cpu::PortExit>(), nullptr) << "it goes on after having been saved";
}

TEST_F(EngineConformance, a_timer_that_ran_out_does_not_fire_again_after_a_restore) {
  start(one_shot_guest());
  ASSERT_NE(run_to<cpu::PortExit>(), nullptr);
  std::this_thread::sleep_for(20ms);
  auto state = vcpu().save_state();
  ASSERT_TRUE(state);
  state->local_apic.registers[0x20 + kTimerVector / 32] = 0;  // as after its handler
  ASSERT_TRUE(vcpu().restore_state(*state));
  for (int i = 0; i < 5; ++i) {
    ASSERT_NE(run_to<cpu::PortExit>(), nullptr);
    std::this_thread::sleep_for(5ms);
  }
  const auto later = vcpu().save_state();
  ASSERT_TRUE(later);
  EXPECT_FALSE(is_requested(*later, kTimerVector));
}

// The timer that has run out makes KVM go as far as the delivery and turn back.
TEST_F(EngineConformance, an_nmi_that_came_while_the_processor_stood_is_in_its_state_and_is_not_masked_by_itself) {
  start(one_shot_guest());
  set_handler(2);
  ASSERT_EQ(next_port(), kMainPort);
  std::this_thread::sleep_for(20ms);
  request_nmi();
  const auto state = vcpu().save_state();
  ASSERT_TRUE(state) << state.error().text();
  EXPECT_EQ(state->events.pending_nmis, 1);
  EXPECT_FALSE(state->events.nmi_masked);
  ASSERT_TRUE(vcpu().restore_state(*state));
  EXPECT_EQ(next_port(), kHandlerPort);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(next_port(), kMainPort) << "it comes once";
}

TEST_F(EngineConformance, an_nmi_that_waits_for_the_end_of_another_still_does_after_a_restore) {
  start({0xE6, kMainPort, 0xEB, 0xFC});
  set_handler(2);
  ASSERT_EQ(next_port(), kMainPort);
  request_nmi();
  ASSERT_EQ(next_port(), kHandlerPort);
  request_nmi();
  const auto state = vcpu().save_state();
  ASSERT_TRUE(state) << state.error().text();
  EXPECT_EQ(state->events.pending_nmis, 1);
  EXPECT_TRUE(state->events.nmi_masked);
  ASSERT_TRUE(vcpu().restore_state(*state));
  EXPECT_EQ(handled_of_next_five(), 1);
}

// Only restored: KVM does not tell two that are due from one when it is asked.
TEST_F(EngineConformance, two_nmis_that_are_due_come_back_as_two) {
  start({0xE6, kMainPort, 0xEB, 0xFC});
  set_handler(2);
  auto state = vcpu().save_state();
  ASSERT_TRUE(state);
  state->events.pending_nmis = 2;
  ASSERT_TRUE(vcpu().restore_state(*state));
  EXPECT_EQ(handled_of_next_five(), 2);
}

// Kicked at any moment of an NMI's way, saved and restored there: each comes, once.
TEST_F(EngineConformance, no_nmi_is_lost_or_doubled_by_a_restore_at_any_moment) {
  constexpr int kRounds = 300, kPatience = 2000;
  start({0xEB, 0xFE});
  set_handler(2);
  const std::jthread kicker([&](const std::stop_token& end) {
    std::minstd_rand random(5);
    while (!end.stop_requested()) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
      vcpu().kick();
    }
  });
  int handled = 0;
  for (int round = 1; round <= kRounds && !HasFailure(); ++round) {
    request_nmi();
    for (int exits = 0; handled < round && exits < kPatience && !HasFailure(); ++exits) {
      auto exit = vcpu().run();
      ASSERT_TRUE(exit) << exit.error().text();
      if (std::holds_alternative<cpu::PortExit>(**exit)) ++handled;
      save_and_restore();
    }
    EXPECT_EQ(handled, round);
  }
}

/// Interrupts on, then a loop without exits; the handler of kLevelVector ends the interrupt.
constexpr std::uint8_t kLevelVector = 0x61;
Code level_guest() {
  Code code;
  append_apic_write(code, 0xF0, 0x1FF);
  code.insert(code.end(), {0xE6, kMainPort, 0xFB, 0xEB, 0xFE});
  return code;
}
/// push rax; mov eax, APIC's EOI; mov [rax], eax; pop rax
constexpr std::initializer_list<std::uint8_t> kEndOfInterrupt = {0x50, 0xB8, 0xB0, 0x00, 0xE0, 0xFE, 0x89, 0x00, 0x58};

TEST_F(EngineConformance, the_end_of_a_level_triggered_interrupt_is_told_where_the_processor_went_meanwhile) {
  start(level_guest());
  // out: the interrupt is in service; then its end
  Code prologue{0xE6, kMainPort};
  prologue.insert(prologue.end(), kEndOfInterrupt);
  set_handler(kLevelVector, prologue);
  ASSERT_EQ(next_port(), kMainPort);
  request_level(kLevelVector);
  move();  // requested
  ASSERT_EQ(next_port(), kMainPort);
  move();  // in service
  const auto* end = run_to<cpu::IoApicEoiExit>();
  ASSERT_NE(end, nullptr);
  EXPECT_EQ(end->vector, kLevelVector);
}

// Stopped at any moment: the end is told before the processor comes out, or after it was moved.
TEST_F(EngineConformance, no_end_of_a_level_triggered_interrupt_is_lost_by_a_move_at_any_moment) {
  constexpr int kRounds = 40, kPatience = 50;
  start(level_guest());
  set_handler(kLevelVector, kEndOfInterrupt, Says::kNothing);
  ASSERT_EQ(next_port(), kMainPort);
  std::minstd_rand random(5);
  int ends = 0;
  for (int round = 1; round <= kRounds && !HasFailure(); ++round) {
    request_level(kLevelVector);
    ends += ends_before_kick(std::chrono::microseconds(random() % 3000));
    move();
    for (int i = 0; ends < round && i < kPatience; ++i) ends += ends_before_kick(20ms);
    EXPECT_EQ(ends, round);
  }
}

}  // namespace
}  // namespace bygone::guest_tests
