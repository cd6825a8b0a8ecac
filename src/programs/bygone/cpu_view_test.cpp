#include "programs/bygone/cpu_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bygone::programs {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(CpuView, says_blocks_cache_misses_exits_and_time_of_each_tier) {
  const auto tree = nlohmann::json::parse(R"({"processors":[{"instructions_interpreted":12,"tlb_fills":7,"tlb_flushes":3,"tlb_entries_kept":5,
      "thunks":2,"cycles":1000,"cycles_halted":100,"cycles_interpreting":200,"exits":{"port":4,"mmio":0,"halt":9},
      "translator":{"blocks":40,"code_bytes":1048576,"code_bytes_open":12582912,"code_cache_bytes":134217728,"cache_evictions":1,"blocks_evicted":10,"blocks_kept":6,
      "blocks_returned":2,
      "tlb_misses":33,"lookups":8,"links":9,"left_for":{"lookup":3},"cycles_in_translations":650,"cycles_translating":50}}]})");
  const std::string text = cpu_view(tree);
  EXPECT_THAT(text, HasSubstr("65.0 % in translations, 5.0 % translating, 20.0 % interpreting, 10.0 % halted"));
  EXPECT_THAT(text, HasSubstr("40 made, 10 evicted, 6 of them kept by translating them again, 2 needed after all"));
  EXPECT_THAT(text, HasSubstr("1 MiB of 12 MiB, 128 MiB allowed"));
  EXPECT_THAT(text, HasSubstr("33 misses"));
  EXPECT_THAT(text, HasSubstr("halt 9, port 4"));
  EXPECT_THAT(text, Not(HasSubstr("mmio")));
}

TEST(CpuView, tree_of_an_engine_that_counts_nothing_is_shown_as_it_is) {
  EXPECT_EQ(cpu_view(nlohmann::json::parse(R"({"engine":1})")), "{\n  \"engine\": 1\n}");
}

}  // namespace
}  // namespace bygone::programs
