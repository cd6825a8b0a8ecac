#include "chipset/generation_counter.h"

#include <gtest/gtest.h>

namespace bygone::chipset {
namespace {

class GenerationCounterTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(memory_.add_ram({0}, 1 << 16)); }
  static GenerationCounter::Id id(std::uint8_t value) {
    GenerationCounter::Id made;
    made.fill(value);
    return made;
  }
  memory::GuestMemory memory_;
  int told_ = 0;
  GenerationCounter counter_{memory_, [this] { ++told_; }};
};

TEST_F(GenerationCounterTest, change_is_written_and_told_once_placed) {
  counter_.change(id(1));
  EXPECT_EQ(told_, 0);
  ASSERT_TRUE(counter_.place({0x2000}));
  EXPECT_EQ(memory_.read_object<GenerationCounter::Id>({0x2000}).value(), id(1));
  counter_.change(id(2));
  EXPECT_EQ(told_, 1);
  EXPECT_EQ(memory_.read_object<GenerationCounter::Id>({0x2000}).value(), id(2));
}

TEST_F(GenerationCounterTest, place_outside_ram_is_refused) {
  EXPECT_FALSE(counter_.place({0xFFF8}));
  counter_.change(id(3));
  EXPECT_EQ(told_, 0);
}

TEST_F(GenerationCounterTest, state_with_an_address_outside_ram_is_refused) {
  ASSERT_TRUE(counter_.place({0x2000}));
  nlohmann::json state = counter_.save();
  EXPECT_TRUE(counter_.restore(state));
  state["address"] = ~0ULL;
  EXPECT_FALSE(counter_.restore(state));
}

}  // namespace
}  // namespace bygone::chipset
