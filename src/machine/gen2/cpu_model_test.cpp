#include "machine/gen2/cpu_model.h"

#include <gtest/gtest.h>

namespace bygone::machine::gen2 {
namespace {

TEST(CpuModel, topology_is_the_machines_and_foreign_hypervisors_vanish) {
  cpu::CpuidTable engine;
  engine.set({0, {}, {0x16, 0, 0, 0}});
  engine.set({1, {}, {0, 0x00640800, 0, 0}});
  engine.set({0xB, 0, {1, 2, 0x100, 0}});
  engine.set({0x40000000, {}, {0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D}});
  engine.set({0x40000100, {}, {1, 1, 1, 1}});
  const cpu::CpuidTable table = make_machine_cpuid(engine, 4);
  EXPECT_EQ(table.query(1, 0).ebx, 0x00040800U);
  EXPECT_NE(table.query(1, 0).ecx & (1U << 31), 0U);
  EXPECT_EQ(table.query(0xB, 0).ebx, 1U);
  EXPECT_EQ(table.query(0xB, 1).eax, 2U);
  EXPECT_EQ(table.query(0xB, 1).ebx, 4U);
  EXPECT_EQ(table.query(0x40000000, 0), cpu::CpuidResult{});
  EXPECT_EQ(table.query(0x40000100, 0), cpu::CpuidResult{});
}

cpu::CpuidTable modern_engine() {
  cpu::CpuidTable engine;
  engine.set({0, {}, {0x16, 0x68747541, 0x444D4163, 0x69746E65}});
  engine.set({1, {}, {0x00B00F21, 0x00640800, ~0U, 0x178BFBFF}});
  engine.set({7, 0, {0, ~0U, ~0U, ~0U}});
  engine.set({0xB, 0, {1, 2, 0x100, 0}});
  engine.set({0xD, 0, {0xE7, 2688, 2688, 0}});
  engine.set({0x80000000, {}, {0x80000021, 0, 0, 0}});
  engine.set({0x80000001, {}, {0x00B00F21, 0, ~0U, 0x2FD3FBFF}});
  engine.set({0x80000008, {}, {0x302E, ~0U, 0, 0}});
  engine.set({0x80000021, {}, {~0U, 0, 0, 0}});
  return engine;
}

TEST(CpuModel, legacy_is_a_processor_of_its_time) {
  const cpu::CpuidTable table = make_machine_cpuid(apply_cpu_model(modern_engine(), CpuModel::kLegacy), 2);
  EXPECT_EQ(table.query(0, 0).eax, 5U);
  EXPECT_EQ(table.query(0, 0).ecx, 0x444D4163U);
  EXPECT_EQ(table.query(1, 0).eax, 0x00100F42U);
  constexpr std::uint32_t kNewer = 1U << 12 | 1U << 17 | 1U << 21 | 1U << 24 | 1U << 25 | 1U << 26 | 1U << 27 | 1U << 28 | 1U << 30;
  EXPECT_EQ(table.query(1, 0).ecx & kNewer, 0U) << "FMA, PCID, x2APIC, deadline, AES, XSAVE, AVX, RDRAND";
  EXPECT_NE(table.query(1, 0).ecx & (1U << 31), 0U);
  EXPECT_EQ((table.query(1, 0).ebx >> 16) & 0xFF, 2U);
  for (const std::uint32_t leaf : {7U, 0xBU, 0xDU, 0x80000021U}) EXPECT_EQ(table.query(leaf, 0), cpu::CpuidResult{}) << leaf;
  EXPECT_NE(table.query(0x80000001, 0).edx & (1U << 20), 0U) << "NX stays";
  EXPECT_NE(table.query(0x80000001, 0).edx & (1U << 29), 0U) << "64-bit mode stays";
  EXPECT_EQ(table.query(0x80000001, 0).edx & (1U << 26), 0U);
  EXPECT_EQ(table.query(0x80000008, 0).eax, 0x3028U);
}

TEST(CpuModel, legacy_promises_nothing_that_only_one_engine_has) {
  cpu::CpuidTable everything = modern_engine();
  for (const std::uint32_t leaf : {1U, 0x80000001U}) {
    cpu::CpuidEntry entry = *everything.find(leaf, 0);
    entry.result.ecx = entry.result.edx = ~0U;
    everything.set(entry);
  }
  const cpu::CpuidTable table = apply_cpu_model(everything, CpuModel::kLegacy);
  EXPECT_EQ(table.query(1, 0).edx & 1U << 27, 0U) << "self-snoop";
  EXPECT_EQ(table.query(0x80000001, 0).ecx & 1U << 6, 0U) << "SSE4A";
  EXPECT_EQ(table.query(0x80000001, 0).edx & (1U << 22 | 1U << 30 | 1U << 31), 0U) << "AMD's MMX extensions, 3DNow!";
}

TEST(CpuModel, host_is_everything_and_other_names_are_refused) {
  const cpu::CpuidTable engine = modern_engine();
  EXPECT_EQ(apply_cpu_model(engine, CpuModel::kHost).query(7, 0), engine.query(7, 0));
  EXPECT_EQ(parse_cpu_model("legacy").value_or(CpuModel::kHost), CpuModel::kLegacy);
  EXPECT_FALSE(parse_cpu_model("pentium"));
}

}  // namespace
}  // namespace bygone::machine::gen2
