#include "programs/bygone_window/host_keys.h"

#include <gtest/gtest.h>
#include <linux/input-event-codes.h>

#include <map>

namespace bygone::window {
namespace {

TEST(HostKeys, letters_keep_their_number) {
  ASSERT_EQ(scan_codes(KEY_A).size(), 1U);
  EXPECT_EQ(scan_codes(KEY_A)[0], (ScanCode{.code = 0x1E}));
}

TEST(HostKeys, right_hand_keys_have_the_prefix) {
  EXPECT_EQ(scan_codes(KEY_RIGHTCTRL)[0], (ScanCode{.code = 0x1D, .is_e0 = true}));
  EXPECT_EQ(scan_codes(KEY_DELETE)[0], (ScanCode{.code = 0x53, .is_e0 = true}));
}

TEST(HostKeys, pause_is_a_sequence) {
  ASSERT_EQ(scan_codes(KEY_PAUSE).size(), 2U);
  EXPECT_TRUE(scan_codes(KEY_PAUSE)[0].is_e1);
}

TEST(HostKeys, keys_that_no_pc_has_send_nothing) {
  EXPECT_TRUE(scan_codes(0).empty());
  EXPECT_TRUE(scan_codes(KEY_CAMERA).empty());
  EXPECT_TRUE(scan_codes(~0U).empty());
}

TEST(HostKeys, no_two_keys_send_the_same) {
  std::map<std::pair<std::uint8_t, bool>, std::uint32_t> seen;
  for (std::uint32_t key = 1; key < KEY_MAX; ++key) {
    const auto codes = scan_codes(key);
    if (codes.size() != 1) continue;
    EXPECT_LT(codes[0].code, 0x80) << "key " << key;
    const auto [place, is_new] = seen.try_emplace({codes[0].code, codes[0].is_e0}, key);
    EXPECT_TRUE(is_new) << "keys " << place->second << " and " << key;
  }
  EXPECT_GT(seen.size(), 130U);
}

}  // namespace
}  // namespace bygone::window
