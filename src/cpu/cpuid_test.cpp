#include "cpu/cpuid.h"

#include <gtest/gtest.h>

namespace bygone::cpu {
namespace {

TEST(CpuidTable, set_replaces_the_same_leaf) {
  CpuidTable table;
  table.set({1, {}, {1, 2, 3, 4}});
  table.set({1, {}, {5, 6, 7, 8}});
  EXPECT_EQ(table.query(1, 99), (CpuidResult{5, 6, 7, 8}));
  EXPECT_EQ(table.entries().size(), 1U);
}

TEST(CpuidTable, subleaves_are_apart_and_absent_ones_zero) {
  CpuidTable table;
  table.set({7, 0, {1, 0, 0, 0}});
  EXPECT_EQ(table.query(7, 0).eax, 1U);
  EXPECT_EQ(table.query(7, 1), CpuidResult{});
}

TEST(HostCpuid, tells_a_vendor) { EXPECT_NE(host_cpuid(0).ebx, 0U); }

}  // namespace
}  // namespace bygone::cpu
