#include "cpu/translator/state.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <bit>
#include <optional>
#include <utility>
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

/// Takes what is free between two addresses. Place by place: where the kernel itself looks below 2 GiB begins elsewhere at each call.
class Filling {
 public:
  Filling(std::uintptr_t begin, std::uintptr_t end) { take(begin, end); }
  ~Filling() {
    for (const auto& [place, size] : taken_) ::munmap(place, size);
  }
  Filling(const Filling&) = delete;
  Filling& operator=(const Filling&) = delete;

 private:
  void take(std::uintptr_t begin, std::uintptr_t end) {
    void* const wanted = std::bit_cast<void*>(begin);
    const std::size_t size = end - begin;
    void* place = ::mmap(wanted, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (place == wanted) {
      taken_.emplace_back(place, size);
    } else if (size > 4096) {
      const std::uintptr_t middle = begin + size / 2;
      take(begin, middle);
      take(middle, end);
    }
  }
  std::vector<std::pair<void*, std::size_t>> taken_;
};

TEST(VcpuBlock, a_full_address_range_is_an_error_and_no_exception) {
  std::optional<Filling> filling(std::in_place, 0x4000'0000, 0x8000'0000);  // where MAP_32BIT looks
  const auto refused = VcpuBlock::create();
  filling.reset();
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
