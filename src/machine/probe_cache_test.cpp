#include "machine/probe_cache.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>

namespace bygone::machine {
namespace {

class ProbeCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "probe-cache-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  [[nodiscard]] std::filesystem::path file() const { return directory_ / "below" / "engines.json"; }
  void write(std::string_view text) const {
    std::filesystem::create_directories(file().parent_path());
    std::ofstream(file()) << text;
  }

  std::filesystem::path directory_;
  const cpu::EngineStatus status_{true, 1234.5, "fast", "none"};
};

TEST_F(ProbeCacheTest, a_measured_status_is_found_again) {
  ProbeCache(file(), "host").keep("kvm", status_);
  const auto found = ProbeCache(file(), "host").find("kvm");
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->is_usable);
  EXPECT_DOUBLE_EQ(found->million_instructions_per_second, 1234.5);
  EXPECT_EQ(found->reason, "fast");
  EXPECT_EQ(found->hint, "none");
}

TEST_F(ProbeCacheTest, another_host_knows_nothing_and_starts_afresh) {
  ProbeCache(file(), "host").keep("kvm", status_);
  const ProbeCache other(file(), "another kernel");
  EXPECT_FALSE(other.find("kvm"));
  other.keep("software", status_);
  EXPECT_FALSE(other.find("kvm"));
  EXPECT_TRUE(other.find("software"));
  EXPECT_FALSE(ProbeCache(file(), "host").find("kvm"));
}

TEST_F(ProbeCacheTest, two_engines_are_kept_side_by_side) {
  const ProbeCache cache(file(), "host");
  cache.keep("kvm", status_);
  cache.keep("software", {false, 1, "slow", ""});
  EXPECT_TRUE(cache.find("kvm")->is_usable);
  EXPECT_FALSE(cache.find("software")->is_usable);
}

TEST_F(ProbeCacheTest, a_status_without_a_measured_rate_is_not_kept) {
  const ProbeCache cache(file(), "host");
  cache.keep("kvm", {false, 0, "no permission", "join the group"});
  EXPECT_FALSE(cache.find("kvm"));
  EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST_F(ProbeCacheTest, a_damaged_file_is_as_good_as_none) {
  const ProbeCache cache(file(), "host");
  for (const char* text : {"", "{", "[]", "7", R"({"host":"host"})", R"({"host":"host","engines":[]})",
                           R"({"host":"host","engines":{"kvm":{"usable":"yes"}}})",
                           R"({"host":"host","engines":{"kvm":null}})", R"({"host":{},"engines":{}})"}) {
    write(text);
    EXPECT_FALSE(cache.find("kvm")) << text;
    cache.keep("kvm", status_);
    EXPECT_TRUE(cache.find("kvm")) << text;
  }
}

TEST_F(ProbeCacheTest, a_place_that_cannot_be_written_is_no_error) {
  const ProbeCache cache("/proc/no/such/place.json", "host");
  cache.keep("kvm", status_);
  EXPECT_FALSE(cache.find("kvm"));
}

}  // namespace
}  // namespace bygone::machine
