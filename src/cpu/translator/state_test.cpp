#include "cpu/translator/state.h"

#include <gtest/gtest.h>

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

TEST(TlbEntry, fresh_entry_matches_no_page) {
  const TlbEntry entry;
  EXPECT_NE(entry.read_tag, entry.read_tag & ~0xFFFULL);
}

}  // namespace
}  // namespace bygone::cpu::translator
