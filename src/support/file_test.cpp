#include "support/file.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace bygone {
namespace {

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/bygone-file-XXXXXX";
    folder_ = ::mkdtemp(pattern);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
};

TEST_F(FileTest, replaced_content_is_read_back_and_nothing_is_left_over) {
  const std::vector<std::byte> first(10, std::byte{1}), second(200000, std::byte{2});
  ASSERT_TRUE(replace_file(folder_ / "a", first));
  ASSERT_TRUE(replace_file(folder_ / "a", second));
  EXPECT_EQ(read_file(folder_ / "a", 1 << 20).value(), second);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(FileTest, bound_and_absence_are_told_apart) {
  ASSERT_TRUE(replace_file(folder_ / "a", std::vector<std::byte>(11)));
  EXPECT_EQ(read_file(folder_ / "a", 10).error().code, ErrorCode::kExhausted);
  EXPECT_EQ(read_file(folder_ / "b", 10).error().code, ErrorCode::kNotFound);
}

TEST_F(FileTest, replace_in_a_missing_folder_fails) {
  EXPECT_EQ(replace_file(folder_ / "no" / "a", {}).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace bygone
