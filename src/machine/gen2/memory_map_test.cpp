#include "machine/gen2/memory_map.h"

#include <gtest/gtest.h>

namespace bygone::machine::gen2 {
namespace {

TEST(MemoryMap, small_memory_is_one_range) {
  const auto layout = lay_out_memory(512ULL << 20).value();
  ASSERT_EQ(layout.ram.size(), 1U);
  EXPECT_EQ(layout.high_mmio.base, kFourGiB);
}

TEST(MemoryMap, large_memory_goes_around_the_gap) {
  for (const std::uint64_t gibibytes : {5ULL, 64ULL}) {
    const auto layout = lay_out_memory(gibibytes << 30).value();
    ASSERT_EQ(layout.ram.size(), 2U);
    EXPECT_EQ(layout.ram[0].size, kLowGapBase);
    EXPECT_EQ(layout.ram[1].base, kFourGiB);
    EXPECT_EQ(layout.ram[0].size + layout.ram[1].size, gibibytes << 30);
    EXPECT_GE(layout.high_mmio.base, layout.ram[1].base + layout.ram[1].size);
  }
}

TEST(MemoryMap, nonsense_sizes_are_refused) {
  for (const std::uint64_t bytes : {0ULL, 1ULL << 20, (512ULL << 20) + 1, 1ULL << 62, ~0ULL}) {
    EXPECT_EQ(lay_out_memory(bytes).error().code, ErrorCode::kInvalidArgument) << bytes;
  }
}

TEST(MemoryMap, framebuffers_have_memory_wherever_linux_puts_them) {
  const auto layout = lay_out_memory(5ULL << 30).value();
  const auto usual = framebuffer_memory(layout, 64);
  ASSERT_EQ(usual.size(), 1U);
  EXPECT_GE(usual[0].size, kFramebufferSize + (64ULL << 20)) << "beside the firmware's";
  const auto large = framebuffer_memory(layout, 127);  // 7680x4320
  ASSERT_EQ(large.size(), 2U);
  EXPECT_EQ(large[1].base, layout.high_mmio.base);
  EXPECT_GE(large[1].size, 7680ULL * 4320 * 4);
  EXPECT_EQ(large[1].size % (2ULL << 20), 0U);
}

}  // namespace
}  // namespace bygone::machine::gen2
