#include "support/result.h"

#include <gtest/gtest.h>

namespace bygone {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return fail(ErrorCode::kInvalidArgument, "{} is odd", value);
  return value / 2;
}

Result<int> quarter(int value) {
  BYGONE_ASSIGN(int first, half(value));
  BYGONE_ASSIGN(const int second, half(first));
  return second;
}

TEST(Result, assign_passes_value_on) { EXPECT_EQ(quarter(12).value(), 3); }

TEST(Result, assign_passes_error_on) {
  auto result = quarter(6);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(result.error().message, "3 is odd");
}

TEST(Result, within_puts_context_first) {
  Error error{ErrorCode::kCorrupt, "the log is torn", "Run the check"};
  EXPECT_EQ(std::move(error).within("opening a.vhdx").text(), "opening a.vhdx: the log is torn. Run the check");
}

TEST(Result, errno_maps_to_code) {
  EXPECT_EQ(error_from_errno(ENOSPC, "writing a").code, ErrorCode::kNoSpace);
  EXPECT_EQ(error_from_errno(EACCES, "opening a").code, ErrorCode::kPermissionDenied);
}

}  // namespace
}  // namespace bygone
