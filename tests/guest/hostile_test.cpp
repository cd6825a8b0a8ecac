// Guests that misbehave, on one engine: triple faults, loops with interrupts off, garbage as code, memory that is not there, every
// port, every register. The host process goes on, the guest is reported, can be stopped at any moment and runs again after a reset.
//
//   BYGONE_TEST_ENGINE=kvm|software hostile_test        (software when it is not set)
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <thread>

#include "cpu/kvm/vcpu.h"
#include "guest/one_engine.h"

namespace bygone::guest_tests {
namespace {

using namespace std::chrono_literals;
using cpu::Gpr;

constexpr std::uint16_t kSanePort = 0x5001;

class HostileTest : public OneEngineTest {
 protected:
  void TearDown() override {
    OneEngineTest::TearDown();
    if (slowest_stop_.count() > 0) {
      std::printf("the slowest stop of %s took %.1f ms\n", testing::UnitTest::GetInstance()->current_test_info()->name(), slowest_stop_.count());
    }
  }

  /// Answers exits as a machine without devices does, until the guest ends, `goes_on` says no or `limit` exits are over. False:
  /// the guest ended, in a triple fault or a dump.
  template <typename GoesOn>
  bool serve(GoesOn goes_on, int limit = 1 << 30) {
    for (int exits = 0; exits < limit && goes_on(); ++exits) {
      auto exit = vcpu().run();
      EXPECT_TRUE(exit) << exit.error().text();
      if (!exit || std::holds_alternative<cpu::ShutdownExit>(**exit)) return false;
      if (const auto* broken = std::get_if<cpu::UnrecoverableExit>(*exit)) {
        EXPECT_NE(broken->dump.find("rip="), std::string::npos) << broken->dump;
        return false;
      }
      if (auto* port = std::get_if<cpu::PortExit>(*exit); port != nullptr && !port->is_write) {
        std::ranges::fill(port->data, std::byte{0xFF});
      }
      if (auto* access = std::get_if<cpu::MmioExit>(*exit); access != nullptr && !access->is_write) access->data = ~0ULL;
      if (auto* msr = std::get_if<cpu::MsrExit>(*exit)) msr->fault = true;
    }
    return true;
  }

  /// Serves the guest on a thread of its own until it is asked to stop; returns when it has. How long stopping took is printed at
  /// the end and not judged: it depends on what else the host does.
  void serve_and_stop(std::chrono::milliseconds time) {
    std::atomic<bool> stop = false;
    std::jthread processor([&] { serve([&] { return !stop.load(); }); });
    std::this_thread::sleep_for(time);
    const auto asked = std::chrono::steady_clock::now();
    stop = true;
    vcpu().kick();
    processor.join();  // a processor that does not stop is this test's time-out
    slowest_stop_ = std::max(slowest_stop_, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - asked));
  }

  void expect_sane_after_reset() {
    start({0x66, 0xBA, kSanePort & 0xFF, kSanePort >> 8, 0xEE});  // mov dx, port; out dx, al
    auto exit = vcpu().run();
    ASSERT_TRUE(exit) << exit.error().text();
    while (std::holds_alternative<cpu::InterruptedExit>(**exit)) {
      exit = vcpu().run();
      ASSERT_TRUE(exit);
    }
    const auto* port = std::get_if<cpu::PortExit>(*exit);
    ASSERT_NE(port, nullptr) << "exit " << (*exit)->index();
    EXPECT_EQ(port->port, kSanePort);
  }

  std::chrono::duration<double, std::milli> slowest_stop_{0};
};

TEST_F(HostileTest, a_triple_fault_is_reported_and_reset_revives) {
  start({0x0F, 0x0B});  // ud2 without a descriptor table
  auto exit = vcpu().run();
  ASSERT_TRUE(exit);
  EXPECT_TRUE(std::holds_alternative<cpu::ShutdownExit>(**exit)) << (*exit)->index();
  expect_sane_after_reset();
}

TEST_F(HostileTest, every_kind_of_endless_guest_stops_when_asked) {
  const std::pair<const char*, Code> guests[] = {
      {"cli; jmp to it", {0xFA, 0xEB, 0xFE}},
      {"cli; hlt, again", {0xFA, 0xF4, 0xEB, 0xFD}},
      {"pause, again", {0xF3, 0x90, 0xEB, 0xFC}},
      {"out, again", {0xE6, 0x80, 0xEB, 0xFC}},
      {"in from memory that is not there", {0x8A, 0x04, 0x25, 0x00, 0x00, 0x00, 0xFE, 0xEB, 0xF7}},
      {"rep stosb over all memory, again", {0x31, 0xFF, 0xB9, 0x00, 0x00, 0x40, 0x00, 0xF3, 0xAA, 0xEB, 0xF5}},
      {"code that changes itself", {0xFE, 0x05, 0x04, 0x00, 0x00, 0x00, 0xEB, 0xF8, 0x90, 0x90, 0x90}},
      {"flush the TLB, again", {0x0F, 0x20, 0xD8, 0x0F, 0x22, 0xD8, 0xEB, 0xF8}},
  };
  for (const auto& [name, code] : guests) {
    SCOPED_TRACE(name);
    start(code);
    serve_and_stop(30ms);
    expect_sane_after_reset();
  }
}

TEST_F(HostileTest, memory_that_is_not_there_exits_and_is_no_end) {
  cpu::GeneralRegisters registers;
  registers[Gpr::kRbx] = kNowhere;
  start({0x48, 0x8B, 0x03, 0x48, 0x89, 0x03, 0xE6, 0x80}, registers);  // mov rax,[rbx]; mov [rbx],rax; out
  auto exit = vcpu().run();
  ASSERT_TRUE(exit);
  auto* read = std::get_if<cpu::MmioExit>(*exit);
  ASSERT_NE(read, nullptr) << (*exit)->index();
  EXPECT_FALSE(read->is_write);
  EXPECT_EQ(read->address.value, kNowhere);
  read->data = 0x1122334455667788;
  exit = vcpu().run();
  ASSERT_TRUE(exit);
  const auto* write = std::get_if<cpu::MmioExit>(*exit);
  ASSERT_NE(write, nullptr);
  EXPECT_TRUE(write->is_write);
  EXPECT_EQ(write->data, 0x1122334455667788U);
  exit = vcpu().run();
  ASSERT_TRUE(exit);
  EXPECT_TRUE(std::holds_alternative<cpu::PortExit>(**exit));
}

TEST_F(HostileTest, code_where_nothing_is_ends_or_can_be_stopped) {
  cpu::GeneralRegisters registers;
  registers[Gpr::kRax] = kNowhere;
  start({0xFF, 0xE0}, registers);  // jmp rax
  serve_and_stop(30ms);
  expect_sane_after_reset();
}

TEST_F(HostileTest, garbage_as_code_never_takes_the_host_along) {
  std::mt19937_64 random(20240607);
  for (int round = 0; round < 30; ++round) {
    Code code(4096);
    for (auto& byte : code) byte = static_cast<std::uint8_t>(random());
    cpu::GeneralRegisters registers;
    for (auto& each : registers.gpr) each = random() & 0x7FFFFF;
    start(code, registers);
    serve_and_stop(10ms);
  }
  expect_sane_after_reset();
}

// All 65536, in and out. On the KVM engine an OUT to one of them is its hypercall instruction.
TEST_F(HostileTest, every_port_exits_with_its_number) {
  const bool has_hypercall_port = engine_->name() == "kvm";
  start({0xEE, 0xEC, 0x83, 0xC2, 0x01, 0xEB, 0xF9});  // out dx, al; in al, dx; inc edx; again
  for (std::uint32_t port = 0; port < 0x10000; ++port) {
    for (const bool is_write : {true, false}) {
      auto exit = vcpu().run();
      ASSERT_TRUE(exit) << exit.error().text();
      if (is_write && has_hypercall_port && port == cpu::kvm::kHypercallPort) {
        ASSERT_TRUE(std::holds_alternative<cpu::HypercallExit>(**exit)) << (*exit)->index();
        continue;
      }
      auto* access = std::get_if<cpu::PortExit>(*exit);
      ASSERT_NE(access, nullptr) << port;
      ASSERT_EQ(access->port, port);
      ASSERT_EQ(access->is_write, is_write);
      if (!is_write) access->data[0] = std::byte{0xFF};
    }
  }
  expect_sane_after_reset();
}

// A gate for #GP whose handler steps over the WRMSR or RDMSR that faulted, and a loop over registers: each is read, written with
// ones, with one and with zero. Some values end the guest or its loop (a base of the segments, the APIC's, EFER, a timer's
// interrupt without a gate): then it starts again behind that register.
TEST_F(HostileTest, every_register_can_be_written_without_harm_to_the_host) {
  constexpr std::uint64_t kGates = 0xA000, kHandler = kCode + 0x100;
  constexpr std::uint16_t kDonePort = 0x5002;
  const std::array<std::uint64_t, 2> gate{(kHandler & 0xFFFF) | std::uint64_t{cpu::kEntryCode} << 16 | 0x8E00ULL << 32 | (kHandler >> 16 & 0xFFFF) << 48, 0};
  ASSERT_TRUE(memory_.write_object({kGates + 13 * 16}, gate));
  Code code = {
      0x0F, 0x32,                    // again: rdmsr
      0x31, 0xC0, 0x31, 0xD2,        // xor eax, eax; xor edx, edx
      0x0F, 0x30,                    // wrmsr
      0xFF, 0xC0, 0x0F, 0x30,        // inc eax; wrmsr
      0xB8, 0xFF, 0xFF, 0xFF, 0xFF,  // mov eax, -1
      0x89, 0xC2, 0x0F, 0x30,        // mov edx, eax; wrmsr
      0xFF, 0xC1,                    // inc ecx
      0x39, 0xF1, 0x75, 0xE5,        // cmp ecx, esi; jne again
      0x66, 0xBA, kDonePort & 0xFF, kDonePort >> 8, 0xEE};  // mov dx, port; out dx, al
  code.resize(0x100, 0x90);
  code.insert(code.end(), {0x48, 0x83, 0xC4, 0x08, 0x48, 0x83, 0x04, 0x24, 0x02, 0x48, 0xCF});  // add rsp, 8; add [rsp], 2; iretq
  // Runs the loop over [first, last) once; true when it came to its end.
  const auto sweep = [&](std::uint32_t first, std::uint32_t last) {
    cpu::GeneralRegisters registers;
    registers[Gpr::kRcx] = first;
    registers[Gpr::kRsi] = last;
    start(code, registers);
    auto system = vcpu().system_registers();
    system->idt = {kGates, 0xFFF};
    EXPECT_TRUE(vcpu().set_system_registers(*system));
    std::atomic<bool> is_stuck = false, is_over = false;
    std::atomic<std::uint32_t> exits = 0;
    std::jthread watch([&] {  // a guest that loops without an exit
      constexpr int kPatience = 20;
      for (int idle = 0; idle < kPatience && !is_over; ++idle) {
        const std::uint32_t before = exits;
        std::this_thread::sleep_for(10ms);
        if (exits != before) idle = 0;
      }
      is_stuck = true;
      vcpu().kick();
    });
    bool is_done = false;
    while (!is_stuck && !is_done) {
      auto exit = vcpu().run();
      EXPECT_TRUE(exit) << exit.error().text();
      ++exits;
      if (!exit || std::holds_alternative<cpu::ShutdownExit>(**exit) || std::holds_alternative<cpu::UnrecoverableExit>(**exit)) break;
      if (auto* msr = std::get_if<cpu::MsrExit>(*exit)) msr->fault = true;
      if (const auto* port = std::get_if<cpu::PortExit>(*exit)) is_done = port->port == kDonePort;
    }
    is_over = true;
    return is_done;
  };
  std::uint32_t restarts = 0;
  for (const auto& [first, last] : {std::pair{0U, 0x2000U}, {0x40000000U, 0x40000400U}, {0xC0000000U, 0xC0002000U}, {0xC0010000U, 0xC0012000U}}) {
    for (std::uint32_t index = first; index < last && !sweep(index, last); ++restarts) {
      const auto now = vcpu().general_registers();
      ASSERT_TRUE(now) << now.error().text();
      const auto at = static_cast<std::uint32_t>((*now)[Gpr::kRcx]);
      index = (at >= index && at < last ? at : index) + 1;
    }
  }
  std::printf("all registers of the architectural ranges written; the guest was started again %u times\n", restarts);
  expect_sane_after_reset();
}

}  // namespace
}  // namespace bygone::guest_tests
