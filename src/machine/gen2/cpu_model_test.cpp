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

}  // namespace
}  // namespace bygone::machine::gen2
