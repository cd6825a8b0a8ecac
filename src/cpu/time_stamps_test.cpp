#include "cpu/time_stamps.h"

#include <gtest/gtest.h>

namespace bygone::cpu {
namespace {

VcpuState processor_at(std::uint64_t value) {
  VcpuState processor;
  processor.msrs = {{0x174, 1}, {kMsrTimeStampCounter, value}};
  return processor;
}

TEST(TimeStamps, a_moment_apart_they_become_one) {
  std::vector<VcpuState> processors{processor_at(5000), processor_at(5900), processor_at(4100)};
  align_time_stamps(processors, 1000);
  EXPECT_EQ(time_stamp_of(processors[1]), 5000U);
  EXPECT_EQ(time_stamp_of(processors[2]), 5000U);
  processors[1].msrs[1].value = 900000;
  align_time_stamps(processors, 1000);
  EXPECT_EQ(time_stamp_of(processors[1]), 900000U) << "the guest set it so";
}

TEST(TimeStamps, processors_restored_one_after_the_other_count_as_one) {
  TimeStampOffsets offsets;
  const std::uint64_t first = offsets.offset_for({0}, 5000, 1'000'000);
  EXPECT_EQ(1'000'000 + first, 5000U);
  EXPECT_EQ(offsets.offset_for({1}, 5000, 1'000'300), first);
  EXPECT_EQ(offsets.offset_for({2}, 5000, 1'000'900), first);
}

TEST(TimeStamps, a_counter_of_its_own_stays_its_own) {
  TimeStampOffsets offsets;
  const std::uint64_t first = offsets.offset_for({0}, 5000, 1'000'000);
  const std::uint64_t other = offsets.offset_for({1}, 900'000, 1'000'300);
  EXPECT_NE(other, first);
  EXPECT_EQ(1'000'300 + other, 900'000U);
  EXPECT_EQ(1'000'400 + offsets.offset_for({0}, 5000, 1'000'400), 5000U) << "the first processor starts a restore of its own";
}

TEST(TimeStamps, a_state_without_a_counter_has_none) { EXPECT_FALSE(time_stamp_of(VcpuState())); }

}  // namespace
}  // namespace bygone::cpu
