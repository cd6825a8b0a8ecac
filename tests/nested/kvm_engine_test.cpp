// The KVM engine against a real KVM: states, kicks, faults and hostile guests. Runs inside the nested machine.
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <random>
#include <thread>

#include "cpu/entry_state.h"
#include "cpu/kvm/engine.h"
#include "cpu/kvm/vcpu.h"
#include "cpu/reset_state.h"

namespace bygone::cpu::kvm {
namespace {

using namespace std::chrono_literals;

constexpr memory::Gpa kPageTables{0x1000};
constexpr memory::Gpa kDescriptors{0x8000};
constexpr std::uint64_t kCode = 0x100000;
constexpr std::uint64_t kStack = 0x90000;
constexpr std::uint64_t kMemory = 8 << 20;

class KvmEngineTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(memory_.add_ram({0}, kMemory));
    auto cpuid = engine_->supported_cpuid();
    ASSERT_TRUE(cpuid) << cpuid.error().text();
    PartitionOptions options;
    options.memory = &memory_;
    options.vcpu_count = 2;
    options.cpuid = *cpuid;
    cpuid_ = *cpuid;
    auto partition = engine_->create_partition(std::move(options));
    ASSERT_TRUE(partition) << partition.error().text();
    partition_ = std::move(*partition);
  }

  [[nodiscard]] Vcpu& vcpu() { return partition_->vcpu(VpIndex{0}); }

  /// Enters `code` in long mode at kCode with the given registers.
  void start(std::span<const std::uint8_t> code, GeneralRegisters registers = {}) {
    const auto system = prepare_long_mode(memory_, kPageTables, kDescriptors);
    ASSERT_TRUE(system);
    ASSERT_TRUE(memory_.write({kCode}, std::as_bytes(code)));
    registers.rip = kCode;
    registers[Gpr::kRsp] = kStack;
    ASSERT_TRUE(vcpu().set_system_registers(*system));
    ASSERT_TRUE(vcpu().set_general_registers(registers));
  }
  void start(std::initializer_list<std::uint8_t> code, GeneralRegisters registers = {}) {
    start(std::span(code.begin(), code.size()), registers);
  }

  template <typename T>
  [[nodiscard]] T* run_to() {
    auto exit = vcpu().run();
    if (!exit) {
      ADD_FAILURE() << exit.error().text();
      return nullptr;
    }
    auto* wanted = std::get_if<T>(*exit);
    if (wanted == nullptr) ADD_FAILURE() << "exit " << (*exit)->index();
    return wanted;
  }

  std::unique_ptr<Engine> engine_ = create_engine();
  memory::GuestMemory memory_;
  CpuidTable cpuid_;
  std::unique_ptr<Partition> partition_;
};

TEST_F(KvmEngineTest, reset_is_architectural) {
  ASSERT_TRUE(vcpu().reset());
  const auto state = vcpu().save_state();
  ASSERT_TRUE(state) << state.error().text();
  const VcpuState expected = reset_state(VpIndex{0}, cpuid_);
  EXPECT_EQ(state->general.rip, 0xFFF0U);
  EXPECT_EQ(state->general[Gpr::kRdx], expected.general[Gpr::kRdx]);
  EXPECT_EQ(state->system.segments[static_cast<std::size_t>(SegmentName::kCs)].base, 0xFFFF0000U);
  EXPECT_EQ(state->system.cr0, 0x60000010U);
  EXPECT_EQ(state->system.apic_base, 0xFEE00900U);
  EXPECT_EQ(state->events.activity, ActivityState::kRunning);
  const auto second = partition_->vcpu(VpIndex{1}).save_state();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->events.activity, ActivityState::kWaitForInit);
}

TEST_F(KvmEngineTest, a_state_comes_back_as_it_was) {
  GeneralRegisters registers;
  for (std::size_t i = 0; i < registers.gpr.size(); ++i) registers.gpr[i] = 0x1111111111111111 * (i + 1);
  // movups xmm5,[rsp-16] after a push; fld1; out 0x80, al
  start({0x68, 0x78, 0x56, 0x34, 0x12, 0xF3, 0x0F, 0x7E, 0x2C, 0x24, 0xD9, 0xE8, 0xE6, 0x80, 0xF4}, registers);
  ASSERT_NE(run_to<PortExit>(), nullptr);
  const auto first = vcpu().save_state();
  ASSERT_TRUE(first) << first.error().text();
  EXPECT_EQ(first->general.rip, kCode + 14) << "the OUT is complete in a saved state";

  start({0x31, 0xC0, 0xE6, 0x81});  // something else happens
  ASSERT_NE(run_to<PortExit>(), nullptr);
  ASSERT_TRUE(vcpu().restore_state(*first));
  const auto second = vcpu().save_state();
  ASSERT_TRUE(second) << second.error().text();
  EXPECT_EQ(first->general.gpr, second->general.gpr);
  EXPECT_EQ(first->general.rip, second->general.rip);
  EXPECT_EQ(first->general.rflags, second->general.rflags);
  EXPECT_EQ(first->extended.xsave, second->extended.xsave);
  EXPECT_EQ(first->local_apic.registers, second->local_apic.registers);
  EXPECT_EQ(first->system.cr3, second->system.cr3);
  EXPECT_EQ(first->system.efer, second->system.efer);
  for (std::size_t i = 0; i < first->system.segments.size(); ++i) {
    EXPECT_EQ(first->system.segments[i].base, second->system.segments[i].base);
    EXPECT_EQ(first->system.segments[i].attributes, second->system.segments[i].attributes);
  }
  ASSERT_EQ(first->msrs.size(), second->msrs.size());
  for (std::size_t i = 0; i < first->msrs.size(); ++i) {
    constexpr std::uint32_t kTsc = 0x10;
    if (first->msrs[i].index != kTsc) {
      EXPECT_EQ(first->msrs[i].value, second->msrs[i].value) << first->msrs[i].index;
    }
  }
}

TEST_F(KvmEngineTest, a_state_from_elsewhere_is_refused_with_a_reason) {
  auto state = vcpu().save_state();
  ASSERT_TRUE(state);
  state->extended.xsave.resize(100);
  const auto refused = vcpu().restore_state(*state);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kCorrupt);
  state->extended.xsave.clear();
  state->msrs.push_back({0xDEADBEEF, 1});
  EXPECT_FALSE(vcpu().restore_state(*state));
}

TEST_F(KvmEngineTest, a_read_is_answered_and_completed) {
  start({0xE4, 0x42, 0xE6, 0x43});  // in al, 0x42; out 0x43, al
  auto* in = run_to<PortExit>();
  ASSERT_NE(in, nullptr);
  EXPECT_FALSE(in->is_write);
  in->data[0] = std::byte{0x5A};
  auto* out = run_to<PortExit>();
  ASSERT_NE(out, nullptr);
  EXPECT_EQ(out->port, 0x43);
  EXPECT_EQ(out->data[0], std::byte{0x5A});
}

TEST_F(KvmEngineTest, kick_ends_a_loop_with_interrupts_off) {
  start({0xFA, 0xEB, 0xFE});
  std::jthread kicker([this] {
    std::this_thread::sleep_for(50ms);
    vcpu().kick();
  });
  EXPECT_NE(run_to<InterruptedExit>(), nullptr);
}

TEST_F(KvmEngineTest, kick_ends_a_halt) {
  start({0xFA, 0xF4, 0xEB, 0xFC});
  std::jthread kicker([this] {
    std::this_thread::sleep_for(50ms);
    vcpu().kick();
  });
  EXPECT_NE(run_to<InterruptedExit>(), nullptr);
}

TEST_F(KvmEngineTest, a_kick_before_run_is_not_lost) {
  start({0xEB, 0xFE});
  vcpu().kick();
  EXPECT_NE(run_to<InterruptedExit>(), nullptr);
}

TEST_F(KvmEngineTest, kicks_in_a_storm_neither_get_lost_nor_break_an_exit) {
  start({0xE4, 0x42, 0xE6, 0x43, 0xEB, 0xFA});  // in; out what came in; again
  std::atomic<bool> stop = false;
  std::jthread kicker([&] {
    while (!stop) {
      vcpu().kick();
      std::this_thread::sleep_for(500us);
    }
  });
  std::uint8_t value = 0;
  for (int exits = 0; exits < 100;) {
    auto exit = vcpu().run();
    ASSERT_TRUE(exit) << exit.error().text();
    auto* port = std::get_if<PortExit>(*exit);
    if (port == nullptr) continue;
    ++exits;
    if (port->is_write) {
      ASSERT_EQ(port->data[0], std::byte{value});
    } else {
      port->data[0] = std::byte{++value};
    }
  }
  stop = true;
}

TEST_F(KvmEngineTest, a_triple_fault_is_a_shutdown_and_reset_revives) {
  start({0x0F, 0x0B});  // ud2 without a descriptor table
  ASSERT_NE(run_to<ShutdownExit>(), nullptr);
  ASSERT_TRUE(vcpu().reset());
  start({0xE6, 0x80});
  EXPECT_NE(run_to<PortExit>(), nullptr);
}

TEST_F(KvmEngineTest, code_where_no_memory_is_ends_with_a_dump_and_not_the_process) {
  GeneralRegisters registers;
  registers[Gpr::kRax] = 0xC0000000;
  start({0xFF, 0xE0}, registers);  // jmp rax
  auto exit = vcpu().run();
  ASSERT_TRUE(exit);
  if (const auto* broken = std::get_if<UnrecoverableExit>(*exit)) {
    EXPECT_NE(broken->dump.find("rip=00000000c0000000"), std::string::npos) << broken->dump;
  }
  ASSERT_TRUE(vcpu().reset());
  start({0xE6, 0x80});
  EXPECT_NE(run_to<PortExit>(), nullptr);
}

TEST_F(KvmEngineTest, garbage_as_code_never_takes_the_host_along) {
  std::mt19937_64 random(20240607);
  for (int round = 0; round < 40; ++round) {
    std::array<std::uint8_t, 4096> code;
    for (auto& byte : code) byte = static_cast<std::uint8_t>(random());
    GeneralRegisters registers;
    for (auto& each : registers.gpr) each = random() & 0x7FFFFF;
    ASSERT_TRUE(vcpu().reset());
    start(std::span<const std::uint8_t>(code), registers);
    const auto deadline = std::chrono::steady_clock::now() + 20ms;
    std::jthread kicker([&] {
      std::this_thread::sleep_until(deadline);
      vcpu().kick();
    });
    while (std::chrono::steady_clock::now() < deadline) {
      auto exit = vcpu().run();
      ASSERT_TRUE(exit) << exit.error().text();
      if (auto* msr = std::get_if<MsrExit>(*exit)) msr->fault = true;
      if (std::holds_alternative<ShutdownExit>(**exit) || std::holds_alternative<UnrecoverableExit>(**exit)) break;
    }
  }
}

// mov edx, eax(low); rcx index; wrmsr of all-ones and zero, faults answered by the loop's own restart.
TEST_F(KvmEngineTest, every_register_can_be_written_without_harm_to_the_host) {
  for (const auto& [first, last] : {std::pair{0U, 0x400U}, {0x6E0U, 0x6E1U}, {0x800U, 0x840U}, {0x40000000U, 0x40000120U},
                                    {0xC0000080U, 0xC0000110U}, {0xC0010000U, 0xC0010020U}}) {
    for (std::uint32_t index = first; index < last; ++index) {
      if (index % 64 == 0) {
        ASSERT_TRUE(vcpu().reset());
      }
      GeneralRegisters registers;
      registers[Gpr::kRcx] = index;
      registers[Gpr::kRax] = registers[Gpr::kRdx] = index % 2 == 0 ? 0xFFFFFFFF : 0x00000001;
      start({0x0F, 0x30, 0xE6, 0x80}, registers);
      auto exit = vcpu().run();
      ASSERT_TRUE(exit) << exit.error().text();
      if (auto* msr = std::get_if<MsrExit>(*exit)) {
        EXPECT_TRUE(msr->is_write);
        EXPECT_EQ(msr->index, index);
        msr->fault = true;
        ASSERT_TRUE(vcpu().run());
      }
    }
  }
}

// All but this engine's hypercall port; every 61st is enough to see a hole.
TEST_F(KvmEngineTest, every_port_exits_with_its_number) {
  constexpr std::uint32_t kStep = 61;
  start({0xEE, 0x83, 0xC2, kStep, 0xEB, 0xFA});  // out dx, al; add edx, 61; again
  for (std::uint32_t port = 0; port < 0x10000; port += kStep) {
    auto* exit = run_to<PortExit>();
    ASSERT_NE(exit, nullptr);
    ASSERT_EQ(exit->port, port);
  }
}

TEST_F(KvmEngineTest, an_injected_exception_reaches_the_guest) {
  // A gate for vector 13, to kCode + 0x10.
  constexpr std::uint64_t kGates = 0x9000;
  struct Gate {
    std::uint16_t low, selector;
    std::uint8_t stack, type;
    std::uint16_t middle;
    std::uint32_t high, reserved;
  };
  constexpr std::uint64_t kHandler = kCode + 0x10;
  const Gate gate{kHandler & 0xFFFF, kEntryCode, 0, 0x8E, kHandler >> 16, 0, 0};
  ASSERT_TRUE(memory_.write_object({kGates + 13 * sizeof(Gate)}, gate));
  std::array<std::uint8_t, 0x20> code = {0xE6, 0x80, 0xEB, 0xFE};
  std::memcpy(code.data() + 0x10, "\x58\xE6\x81", 3);  // pop rax: the error code; out 0x81, al
  start(std::span<const std::uint8_t>(code));
  auto system = vcpu().system_registers();
  ASSERT_TRUE(system);
  system->idt = {kGates, 0xFFF};
  ASSERT_TRUE(vcpu().set_system_registers(*system));
  ASSERT_NE(run_to<PortExit>(), nullptr);
  ASSERT_TRUE(vcpu().inject_exception(13, 0x42));
  auto* out = run_to<PortExit>();
  ASSERT_NE(out, nullptr);
  EXPECT_EQ(out->port, 0x81);
  EXPECT_EQ(out->data[0], std::byte{0x42});
}

// Breakpoints by debug register cannot be seen here: QEMU 7.2 does not arm them when VMRUN loads DR7.
TEST_F(KvmEngineTest, single_steps_stop_after_each_instruction) {
  start({0x90, 0x90, 0x90, 0xE6, 0x80});
  ASSERT_TRUE(vcpu().set_breakpoints({}, true));
  for (std::uint64_t done = 1; done <= 3; ++done) {
    const auto* stop = run_to<DebugExit>();
    ASSERT_NE(stop, nullptr);
    EXPECT_EQ(stop->rip, kCode + done);
  }
  ASSERT_TRUE(vcpu().set_breakpoints({}, false));
  EXPECT_NE(run_to<PortExit>(), nullptr);
}

TEST_F(KvmEngineTest, more_breakpoints_than_the_processor_has_are_refused) {
  const std::array<std::uint64_t, 5> addresses = {};
  const auto refused = vcpu().set_breakpoints(addresses, false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kExhausted);
}

TEST_F(KvmEngineTest, linear_addresses_are_translated) {
  start({0x90});
  const auto mapped = vcpu().translate(0x123456);
  ASSERT_TRUE(mapped);
  ASSERT_TRUE(mapped->has_value());
  EXPECT_EQ((*mapped)->value, 0x123456U);
  const auto unmapped = vcpu().translate(0x0000700000000000);
  ASSERT_TRUE(unmapped);
  EXPECT_FALSE(unmapped->has_value());
}

TEST_F(KvmEngineTest, the_guests_tsc_is_known_outside) {
  start({0x0F, 0x31, 0x48, 0xC1, 0xE2, 0x20, 0x48, 0x09, 0xD0, 0xE6, 0x80});  // rdtsc; rax = edx:eax; out
  const std::uint64_t before = partition_->guest_tsc();
  ASSERT_NE(run_to<PortExit>(), nullptr);
  const std::uint64_t after = partition_->guest_tsc();
  const auto registers = vcpu().general_registers();
  ASSERT_TRUE(registers);
  EXPECT_GE((*registers)[Gpr::kRax], before);
  EXPECT_LE((*registers)[Gpr::kRax], after);
}

TEST_F(KvmEngineTest, the_guests_tsc_is_known_outside_right_after_the_guest_wrote_it) {
  // mov ecx, 0x10; mov eax, 0x1000; cdq; wrmsr; rdtsc; rax = edx:eax; out
  start({0xB9, 0x10, 0x00, 0x00, 0x00, 0xB8, 0x00, 0x10, 0x00, 0x00, 0x99, 0x0F, 0x30, 0x0F, 0x31,
         0x48, 0xC1, 0xE2, 0x20, 0x48, 0x09, 0xD0, 0xE6, 0x80});
  const std::uint64_t before = partition_->guest_tsc();
  ASSERT_NE(run_to<PortExit>(), nullptr);
  const std::uint64_t after = partition_->guest_tsc();
  const auto registers = vcpu().general_registers();
  ASSERT_TRUE(registers);
  EXPECT_GE((*registers)[Gpr::kRax], 0x1000U);
  EXPECT_LE((*registers)[Gpr::kRax], after);
  EXPECT_LT(after, before + partition_->tsc_frequency()) << "the write is not taken for time that passed";
}

TEST_F(KvmEngineTest, the_dirty_log_tells_the_pages_that_the_guest_wrote) {
  // mov [0x200000], al; out; mov [0x300000], al; out; again
  start({0x88, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00, 0xE6, 0x80, 0x88, 0x04, 0x25, 0x00, 0x00, 0x30, 0x00, 0xE6, 0x81, 0xEB, 0xEC});
  ASSERT_NE(run_to<PortExit>(), nullptr);
  ASSERT_NE(run_to<PortExit>(), nullptr);
  ASSERT_TRUE(partition_->start_dirty_log());
  memory::PageSet pages(memory_);
  ASSERT_TRUE(partition_->take_dirty_pages(pages));
  EXPECT_FALSE(pages.has({0x300000})) << "written before the log began";
  pages.clear();
  ASSERT_NE(run_to<PortExit>(), nullptr);
  ASSERT_TRUE(partition_->take_dirty_pages(pages));
  EXPECT_TRUE(pages.has({0x200000}));
  EXPECT_FALSE(pages.has({0x300000}));
  pages.clear();
  ASSERT_NE(run_to<PortExit>(), nullptr);
  ASSERT_TRUE(partition_->take_dirty_pages(pages));
  EXPECT_FALSE(pages.has({0x200000})) << "taken before";
  EXPECT_TRUE(pages.has({0x300000}));
  partition_->stop_dirty_log();
  EXPECT_FALSE(partition_->take_dirty_pages(pages));
}

TEST_F(KvmEngineTest, a_held_processor_runs_no_guest_code) {
  start({0xFF, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00, 0xEB, 0xF7});  // inc dword [0x200000]; again
  const auto count = [this] { return memory_.read_object<std::uint32_t>({0x200000}).value_or(0); };
  std::atomic<bool> stop = false;
  std::jthread runner([&] {
    while (!stop) {
      if (!vcpu().run()) break;
    }
  });
  auto& held = dynamic_cast<KvmVcpu&>(vcpu());
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(2ms);
    held.hold();
    const std::uint32_t first = count();
    std::this_thread::sleep_for(2ms);
    EXPECT_EQ(count(), first);
    held.release();
  }
  stop = true;
  vcpu().kick();
}

TEST(KvmEngineErrorTest, a_partition_without_memory_or_processors_is_refused) {
  const auto engine = create_engine();
  EXPECT_FALSE(engine->create_partition({}));
  memory::GuestMemory memory;
  PartitionOptions options;
  options.memory = &memory;
  options.vcpu_count = 65;
  EXPECT_FALSE(engine->create_partition(std::move(options)));
}

}  // namespace
}  // namespace bygone::cpu::kvm
