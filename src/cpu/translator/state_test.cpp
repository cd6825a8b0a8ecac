#include "cpu/translator/state.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <vector>

namespace bygone::cpu::translator {
namespace {

TEST(VcpuBlock, hot_words_have_short_displacements_from_the_middle_of_the_first_lines) {
  EXPECT_EQ(offset::kGpr, 0U);
  EXPECT_LT(offset::kInstructions, 256U);
}

TEST(VcpuBlock, tables_are_where_emitted_code_expects_them) {
  EXPECT_EQ(offset::kTlb % 64, 0U);
  EXPECT_EQ(offset::kZmm % 64, 0U);
  EXPECT_EQ(offset::kX87 % 64, 0U);
  EXPECT_EQ(tlb_index(0x1234'5678'9000) << 5, (0x1234'5678'9000ULL >> kTlbIndexShift) & kTlbIndexMask);
}

TEST(VcpuBlock, a_full_address_range_is_an_error_and_no_exception) {
  struct Hole {
    void* place;
    std::size_t size;
  };
  std::vector<Hole> holes;  // everything that is free below 2 GiB
  for (std::size_t size = 256 << 20; size >= 4096; size /= 2) {
    for (;;) {
      void* place = ::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_32BIT, -1, 0);
      if (place == MAP_FAILED) break;
      holes.push_back({place, size});
    }
  }
  const auto refused = VcpuBlock::create();
  for (const Hole& hole : holes) ::munmap(hole.place, hole.size);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kExhausted);
  EXPECT_NE(refused.error().message.find("below 2 GiB"), std::string::npos);
  EXPECT_TRUE(VcpuBlock::create());
}

TEST(TlbTable, fresh_entry_is_hit_by_no_address_that_indexes_it) {
  const TlbTable table;
  for (std::uint64_t linear = 0; linear < (4096 * kTlbEntries * 2); linear += 1023) {
    EXPECT_GT(linear - table.entries[tlb_index(linear)].read_tag, 4095U) << linear;
  }
  EXPECT_GT((1ULL << 63) - table.entries[0].write_tag, 4095U);
}

}  // namespace
}  // namespace bygone::cpu::translator
