// What tests that run on one engine share: the engine that BYGONE_TEST_ENGINE names (kvm or software, which is what it is when not
// set), and a processor in 64-bit ring 0 with memory and nothing else.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string_view>
#include <vector>

#include "chipset/local_apic/local_apic.h"
#include "cpu/entry_state.h"
#include "cpu/kvm/engine.h"
#include "cpu/translator/engine.h"
#include "support/timer_service.h"

namespace bygone::guest_tests {

inline constexpr memory::Gpa kPageTables{0x1000}, kDescriptors{0x8000};
inline constexpr std::uint64_t kCode = 0x100000, kStack = 0x90000, kMemory = 8 << 20;
inline constexpr std::uint64_t kNowhere = 0xC0000000;  // mapped by the guest, backed by nobody

using Code = std::vector<std::uint8_t>;

inline std::unique_ptr<cpu::Engine> make_engine() {
  const char* name = std::getenv("BYGONE_TEST_ENGINE");
  if (name != nullptr && std::string_view(name) == "kvm") return cpu::kvm::create_engine();
  return cpu::translator::create_engine();
}

class OneEngineTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(memory_.add_ram({0}, kMemory));
    create_partition();
  }
  void create_partition() {
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

  /// Enters `code` in long mode at kCode with the given registers, after a reset.
  void start(const Code& code, cpu::GeneralRegisters registers = {}) {
    ASSERT_TRUE(vcpu().reset());
    const auto system = cpu::prepare_long_mode(memory_, kPageTables, kDescriptors);
    ASSERT_TRUE(system);
    ASSERT_TRUE(memory_.write({kCode}, std::as_bytes(std::span(code))));
    registers.rip = kCode;
    registers[cpu::Gpr::kRsp] = kStack;
    ASSERT_TRUE(vcpu().set_system_registers(*system));
    ASSERT_TRUE(vcpu().set_general_registers(registers));
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

  ThreadTimerService timers_;
  std::unique_ptr<cpu::Engine> engine_ = make_engine();
  memory::GuestMemory memory_;
  std::unique_ptr<cpu::Partition> partition_;
};

}  // namespace bygone::guest_tests
