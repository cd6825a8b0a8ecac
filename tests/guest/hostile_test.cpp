// Guests that misbehave, on one engine: triple faults, loops with interrupts off, garbage as code, memory that is not there, every
// port, every register. The host process goes on, the guest is reported, can be stopped at any moment and runs again after a reset.
//
//   BYGONE_TEST_ENGINE=kvm|software hostile_test        (software when it is not set)
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <thread>

#include "chipset/local_apic/local_apic.h"
#include "cpu/entry_state.h"
#include "cpu/kvm/engine.h"
#include "cpu/translator/engine.h"
#include "support/timer_service.h"

namespace bygone::guest_tests {
namespace {

using namespace std::chrono_literals;
using cpu::Gpr;

constexpr memory::Gpa kPageTables{0x1000}, kDescriptors{0x8000};
constexpr std::uint64_t kCode = 0x100000, kStack = 0x90000, kMemory = 8 << 20;
constexpr std::uint64_t kNowhere = 0xC0000000;  // mapped by the guest, backed by nobody
constexpr std::uint16_t kSanePort = 0x5001;

std::unique_ptr<cpu::Engine> make_engine() {
  const char* name = std::getenv("BYGONE_TEST_ENGINE");
  if (name != nullptr && std::string_view(name) == "kvm") return cpu::kvm::create_engine();
  return cpu::translator::create_engine();
}

using Code = std::vector<std::uint8_t>;

class HostileTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(memory_.add_ram({0}, kMemory));
    cpu::PartitionOptions options;
    options.memory = &memory_;
    options.local_apics = chipset::local_apic_factory(timers_);
    auto cpuid = engine_->supported_cpuid();
    ASSERT_TRUE(cpuid) << cpuid.error().text();
    options.cpuid = *cpuid;
    auto partition = engine_->create_partition(std::move(options));
    ASSERT_TRUE(partition) << partition.error().text();
    partition_ = std::move(*partition);
  }
  void TearDown() override { timers_.pause(); }

  [[nodiscard]] cpu::Vcpu& vcpu() { return partition_->vcpu({0}); }

  void start(const Code& code, cpu::GeneralRegisters registers = {}) {
    ASSERT_TRUE(vcpu().reset());
    const auto system = cpu::prepare_long_mode(memory_, kPageTables, kDescriptors);
    ASSERT_TRUE(system);
    ASSERT_TRUE(memory_.write({kCode}, std::as_bytes(std::span(code))));
    registers.rip = kCode;
    registers[Gpr::kRsp] = kStack;
    ASSERT_TRUE(vcpu().set_system_registers(*system));
    ASSERT_TRUE(vcpu().set_general_registers(registers));
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

  /// Serves the guest on a thread of its own until it is asked to stop; returns when it has.
  void serve_and_stop(std::chrono::milliseconds time) {
    std::atomic<bool> stop = false;
    std::jthread processor([&] { serve([&] { return !stop.load(); }); });
    std::this_thread::sleep_for(time);
    stop = true;
    vcpu().kick();
    processor.join();  // a processor that does not stop is this test's time-out
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

  ThreadTimerService timers_;
  std::unique_ptr<cpu::Engine> engine_ = make_engine();
  memory::GuestMemory memory_;
  std::unique_ptr<cpu::Partition> partition_;
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

// Every 7th: enough to see a hole, and each comes by in some byte of the number. The KVM engine's hypercall port is 0xF6.
TEST_F(HostileTest, every_port_exits_with_its_number) {
  constexpr std::uint32_t kStep = 7, kHypercallPort = 0xF6;
  static_assert(kHypercallPort % kStep != 0);
  start({0xEE, 0x83, 0xC2, kStep, 0xEB, 0xFA});  // out dx, al; add edx, 7; again
  for (std::uint32_t port = 0; port < 0x10000; port += kStep) {
    auto exit = vcpu().run();
    ASSERT_TRUE(exit) << exit.error().text();
    const auto* out = std::get_if<cpu::PortExit>(*exit);
    ASSERT_NE(out, nullptr) << port;
    ASSERT_EQ(out->port, port);
  }
}

TEST_F(HostileTest, every_register_can_be_written_without_harm_to_the_host) {
  for (const auto& [first, last] : {std::pair{0U, 0x400U}, {0x6E0U, 0x6E1U}, {0x800U, 0x840U}, {0x40000000U, 0x40000120U},
                                    {0xC0000080U, 0xC0000110U}, {0xC0010000U, 0xC0010020U}}) {
    for (std::uint32_t index = first; index < last; ++index) {
      cpu::GeneralRegisters registers;
      registers[Gpr::kRcx] = index;
      registers[Gpr::kRax] = registers[Gpr::kRdx] = index % 2 == 0 ? 0xFFFFFFFF : 0x00000001;
      start({0x0F, 0x30, 0xE6, 0x80}, registers);  // wrmsr; out
      if (testing::Test::HasFatalFailure()) FAIL() << std::hex << index;
      serve([] { return true; }, 1);
    }
  }
  expect_sane_after_reset();
}

}  // namespace
}  // namespace bygone::guest_tests
