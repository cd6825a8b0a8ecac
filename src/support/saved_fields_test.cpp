#include "support/saved_fields.h"

#include <gtest/gtest.h>

namespace bygone {
namespace {

const nlohmann::json kState = {{"version", 3}, {"small", 200}, {"negative", -5}, {"on", true}, {"name", "com1"}, {"list", {1, 2, 3}}};

TEST(SavedFields, reads_what_is_there) {
  SavedFields fields(kState, "a device", 3);
  std::uint8_t small = 0;
  std::int16_t negative = 0;
  bool on = false;
  std::string name;
  std::array<std::uint16_t, 3> list = {};
  fields.read("small", small);
  fields.read("negative", negative);
  fields.read("on", on);
  fields.read("name", name);
  fields.read("list", list);
  ASSERT_TRUE(fields.finish());
  EXPECT_EQ(small, 200);
  EXPECT_EQ(negative, -5);
  EXPECT_TRUE(on);
  EXPECT_EQ(name, "com1");
  EXPECT_EQ(list[2], 3);
}

TEST(SavedFields, another_version_is_unsupported_and_says_so) {
  SavedFields fields(kState, "a device", 4);
  const auto result = fields.finish();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(result.error().message.find("version 3"), std::string::npos);
}

TEST(SavedFields, wrong_kinds_ranges_and_lengths_are_corrupt) {
  const auto error_of = [](auto read) {
    SavedFields fields(kState, "a device", 3);
    read(fields);
    const auto result = fields.finish();
    return result ? std::string("none") : result.error().message;
  };
  EXPECT_NE(error_of([](SavedFields& f) { std::int8_t v; f.read("small", v); }).find("small"), std::string::npos);
  EXPECT_NE(error_of([](SavedFields& f) { std::uint32_t v; f.read("negative", v); }).find("negative"), std::string::npos);
  EXPECT_NE(error_of([](SavedFields& f) { std::uint32_t v; f.read("name", v); }).find("name"), std::string::npos);
  EXPECT_NE(error_of([](SavedFields& f) { bool v; f.read("small", v); }).find("small"), std::string::npos);
  EXPECT_NE(error_of([](SavedFields& f) { std::array<int, 2> v; f.read("list", v); }).find("list"), std::string::npos);
  EXPECT_NE(error_of([](SavedFields& f) { std::vector<int> v; f.read("list", v, 2); }).find("list"), std::string::npos);
  EXPECT_NE(error_of([](SavedFields& f) { std::uint32_t v; f.read("absent", v); }).find("absent"), std::string::npos);
  EXPECT_NE(error_of([](SavedFields& f) { f.require(false, "rule seven"); }).find("rule seven"), std::string::npos);
}

TEST(SavedFields, the_first_error_is_the_one_told) {
  SavedFields fields(kState, "a device", 3);
  std::uint8_t value = 0;
  fields.read("first", value);
  fields.read("second", value);
  EXPECT_NE(fields.finish().error().message.find("first"), std::string::npos);
}

TEST(SavedFields, something_that_is_no_object_is_corrupt) {
  const nlohmann::json list = {1, 2};
  SavedFields fields(list, "a device", 3);
  EXPECT_EQ(fields.finish().error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace bygone
