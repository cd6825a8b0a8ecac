#include "cpu/translator/jit/cache.h"

#include <gtest/gtest.h>
#include <xbyak/xbyak.h>

#include <fstream>
#include <sstream>
#include <string>

#include "cpu/translator/jit/test_machine.h"

namespace bygone::cpu::translator::jit {
namespace {

using namespace Xbyak::util;

constexpr std::uint64_t kDriver = TestMachine::kCode, kHot = TestMachine::kCode + 0x2000, kMany = TestMachine::kCode + 0x4000;
constexpr std::uint64_t kSlot = 16;

/// A program of `count` functions, each of which adds its own number to rax; between any two of them a hot one is called.
class SmallCacheTest : public testing::Test {
 protected:
  static constexpr std::uint32_t kCount = 20'000;

  void load_program(TestMachine& machine) {
    Xbyak::CodeGenerator driver(4096);
    driver.mov(rbx, kMany);
    driver.mov(ecx, kCount);
    Xbyak::Label top;
    driver.L(top);
    driver.call(rbx);
    driver.mov(r8d, static_cast<std::uint32_t>(kHot));
    driver.call(r8);
    driver.add(rbx, static_cast<std::uint32_t>(kSlot));
    driver.dec(ecx);
    driver.jnz(top);
    driver.hlt();
    machine.load(kDriver, {driver.getCode(), driver.getSize()});
    end_ = kDriver + driver.getSize() - 1;
    const std::uint8_t hot[] = {0x48, 0xFF, 0xC2, 0xC3};  // inc rdx; ret
    machine.load(kHot, hot);
    for (std::uint32_t i = 0; i < kCount; ++i) {
      std::uint8_t function[] = {0x48, 0x05, 0, 0, 0, 0, 0x74, 0x00, 0xC3};  // add rax, i; jz next; ret
      std::memcpy(function + 2, &i, 4);
      machine.load(kMany + i * kSlot, function);
    }
  }
  std::uint64_t end_ = 0;
};

TEST_F(SmallCacheTest, program_far_larger_than_the_cache_runs_as_written_and_hot_code_stays) {
  constexpr std::size_t kBytes = 256U << 10;
  TestMachine machine(64, false, {.code_cache_bytes = kBytes, .threshold = 0});
  load_program(machine);
  for (std::uint64_t round = 1; round <= 3; ++round) {
    machine.gpr(0) = machine.gpr(2) = 0;
    ASSERT_EQ(machine.run(kDriver), Tier1Result::kInterpret);
    ASSERT_EQ(machine.block().rip, end_);
    ASSERT_EQ(machine.gpr(0), std::uint64_t{kCount} * (kCount - 1) / 2) << "round " << round;
    ASSERT_EQ(machine.gpr(2), kCount);
    ASSERT_LE(machine.tier().cache().code_used(), kBytes);
  }
  const CacheStatistics& numbers = machine.tier().cache().statistics();
  EXPECT_GT(numbers.evictions, 20U);
  EXPECT_GT(numbers.kept_blocks, numbers.evictions / 2) << "the driver and the hot function are in use all the time";
  EXPECT_LT(numbers.kept_blocks, numbers.evicted_blocks / 4) << "what ran once is not worth keeping";
}

TEST_F(SmallCacheTest, large_cache_evicts_nothing) {
  TestMachine machine(64, false, {.code_cache_bytes = 32U << 20, .threshold = 0});
  load_program(machine);
  ASSERT_EQ(machine.run(kDriver), Tier1Result::kInterpret);
  EXPECT_EQ(machine.gpr(0), std::uint64_t{kCount} * (kCount - 1) / 2);
  EXPECT_EQ(machine.tier().cache().statistics().evictions, 0U);
}

TEST_F(SmallCacheTest, cache_grows_to_what_a_program_needs_and_not_for_code_that_runs_once) {
  constexpr std::size_t kFirst = 2U << 20;
  TestMachine machine(64, false, {.code_cache_bytes = 64U << 20, .first_bytes = kFirst, .threshold = 0});
  load_program(machine);
  const Cache& cache = machine.tier().cache();
  ASSERT_EQ(machine.run(kDriver), Tier1Result::kInterpret);
  EXPECT_GT(cache.statistics().evictions, 2U);
  EXPECT_EQ(cache.open_bytes(), kFirst) << "every function ran once";
  std::uint64_t made = 0;
  for (std::uint32_t round = 0; round < 30; ++round) {
    const std::uint64_t before = cache.statistics().blocks;
    machine.gpr(0) = 0;
    ASSERT_EQ(machine.run(kDriver), Tier1Result::kInterpret);
    ASSERT_EQ(machine.gpr(0), std::uint64_t{kCount} * (kCount - 1) / 2) << "round " << round;
    made = cache.statistics().blocks - before;
  }
  EXPECT_GT(cache.open_bytes(), kFirst);
  EXPECT_LT(cache.open_bytes(), 32U << 20) << "much more than the program's translations take";
  EXPECT_LT(made, 100U) << "the last round found everything translated";
}

TEST_F(SmallCacheTest, code_that_is_overwritten_while_areas_are_emptied_is_never_run_old) {
  TestMachine machine(64, false, {.code_cache_bytes = 256U << 10, .threshold = 0});
  load_program(machine);
  for (std::uint32_t round = 1; round <= 3; ++round) {
    // Every function's number grows by one.
    for (std::uint32_t i = 0; i < kCount; ++i) {
      const std::uint64_t at = kMany + i * kSlot + 2;
      const std::uint32_t number = i + round;
      std::memcpy(machine.host(at), &number, 4);
    }
    for (std::uint64_t page = kMany >> 12; page <= (kMany + kCount * kSlot) >> 12; ++page) (void)machine.pages().wrote(nullptr, page, 0, 4095);
    machine.gpr(0) = machine.gpr(2) = 0;
    machine.block().attention = 0;  // a run loop has served it: code was overwritten
    ASSERT_EQ(machine.run(kDriver), Tier1Result::kInterpret);
    ASSERT_EQ(machine.gpr(0), std::uint64_t{kCount} * (kCount - 1) / 2 + std::uint64_t{round} * kCount) << "round " << round;
  }
}

TEST(CodeMemoryTest, cache_too_small_for_two_areas_is_refused) {
  auto block = std::make_unique<VcpuBlock>();
  EXPECT_FALSE(Cache::create(block->tlb, 64U << 10, 64U << 10));
  EXPECT_TRUE(Cache::create(block->tlb, 256U << 10, 256U << 10));
}

/// The lines of /proc/self/maps that mention `name`, each with its rights.
std::vector<std::string> rights_of_mappings(const std::string& name) {
  std::ifstream maps("/proc/self/maps");
  std::vector<std::string> rights;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(name) == std::string::npos) continue;
    rights.push_back(line.substr(line.find(' ') + 1, 4));
  }
  return rights;
}

TEST(CodeMemoryTest, no_mapping_of_translated_code_is_writable_and_executable) {
  const TestMachine machine;
  const auto rights = rights_of_mappings("bygone-code");
  ASSERT_GE(rights.size(), 2U);
  std::size_t writable = 0;
  std::size_t executable = 0;
  for (const std::string& each : rights) {
    EXPECT_FALSE(each[1] == 'w' && each[2] == 'x') << each;
    writable += each[1] == 'w' ? 1 : 0;
    executable += each[2] == 'x' ? 1 : 0;
  }
  EXPECT_EQ(writable, executable);
  EXPECT_GE(executable, 1U);
}

TEST(CodeMemoryDeathTest, executable_mapping_takes_no_write) {
  auto memory = CodeMemory::create(4096);
  ASSERT_TRUE(memory);
  (*memory)->writable(0)[0] = 0xC3;
  EXPECT_EQ((*memory)->executable(0)[0], 0xC3) << "both mappings show one file";
  EXPECT_DEATH(*const_cast<volatile std::uint8_t*>((*memory)->executable(0)) = 0x90, "");
}

}  // namespace
}  // namespace bygone::cpu::translator::jit
