#include "session_user.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

namespace bygone::agent {
namespace {

constexpr std::string_view kPasswd =
    "root:x:0:0:root:/root:/bin/bash\n"
    "broken line\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    "demo:x:1000:1001:Demo,,,:/home/demo:/bin/bash";

TEST(session_user, is_found_by_name) {
  const auto user = find_user(kPasswd, "demo");
  ASSERT_TRUE(user) << user.error().text();
  EXPECT_EQ(user->uid, 1000U);
  EXPECT_EQ(user->gid, 1001U);
  EXPECT_EQ(user->home, "/home/demo");
  EXPECT_FALSE(find_user(kPasswd, "dem"));
  EXPECT_FALSE(find_user("", "demo"));
}

TEST(session_user, of_an_identifier_or_nameless) {
  EXPECT_EQ(user_of(kPasswd, 65534).name, "nobody");
  EXPECT_EQ(user_of(kPasswd, 4711).name, "4711");
}

TEST(start_as, runs_the_command_in_its_folder_with_the_display) {
  const SessionUser self{.name = "me", .uid = getuid(), .gid = getgid(), .home = std::filesystem::temp_directory_path(), .shell = "/bin/sh"};
  const auto process =
      start_as(self, ":42", "", {"sh", "-c", "[ \"$PWD\" = \"$HOME\" ] && [ \"$DISPLAY\" = :42 ] && [ \"$USER\" = me ] && exit 7"});
  ASSERT_TRUE(process) << process.error().text();
  int status = 0;
  ASSERT_EQ(waitpid(*process, &status, 0), *process);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST(start_as, says_why_a_program_cannot_be_executed) {
  const SessionUser self{.name = "me", .uid = getuid(), .gid = getgid(), .home = "/", .shell = "/bin/sh"};
  const auto process = start_as(self, "", "", {"/no/such/program"});
  ASSERT_FALSE(process);
  EXPECT_EQ(process.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(process.error().message, testing::HasSubstr("/no/such/program"));
  EXPECT_FALSE(start_as(self, "", "", {}));
}

}  // namespace
}  // namespace bygone::agent
