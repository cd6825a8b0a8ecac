#include "support/log.h"

#include <gtest/gtest.h>

#include <vector>

namespace bygone {
namespace {

TEST(Log, level_holds_lines_back) {
  std::vector<std::string> lines;
  const Log log([&](LogLevel, std::string_view part, std::string_view text) { lines.push_back(fmt::format("{}|{}", part, text)); },
                LogLevel::kWarning);
  log.part("disk").warning("slow {}", 3);
  log.info("unseen");
  EXPECT_EQ(lines, std::vector<std::string>{"disk|slow 3"});
}

TEST(RateLimit, stops_after_the_burst) {
  RateLimit limit(2, std::chrono::seconds(3600));
  EXPECT_TRUE(limit.allow());
  EXPECT_TRUE(limit.allow());
  EXPECT_FALSE(limit.allow());
}

}  // namespace
}  // namespace bygone
