#include "programs/bygone_vm/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <thread>

#include "disk/test_folder.h"

namespace bygone::programs::vm {
namespace {

namespace fs = std::filesystem;

bool kernel_has_landlock() { return ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0; }

/// Runs `what` in a process of its own that has shut itself in; what it returns, or -1 when it ended otherwise.
int in_sandbox(const SandboxOptions& options, int (*what)(const fs::path& folder), const fs::path& folder) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(enter_sandbox(options, Log()) ? what(folder) : 99);
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int open_errno(const fs::path& path, int flags) {
  const int opened = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
  if (opened < 0) return errno;
  ::close(opened);
  return 0;
}

class Sandbox : public testing::Test {
 protected:
  Sandbox() : root_(folder_.path("")), options_{.writable = {root_ / "own"}, .readable = {root_ / "read"}} {
    for (const char* name : {"own", "read", "other"}) {
      fs::create_directory(root_ / name);
      std::ofstream(root_ / name / "file") << name;
    }
  }

  disk::TestFolder folder_;
  fs::path root_;
  SandboxOptions options_;
};

TEST_F(Sandbox, only_the_folders_that_were_named_are_within_reach) {
  if (!kernel_has_landlock()) GTEST_SKIP() << "this kernel has no Landlock";
  const auto own = [](const fs::path& root) { return open_errno(root / "own/new", O_RDWR | O_CREAT); };
  EXPECT_EQ(in_sandbox(options_, own, root_), 0);
  EXPECT_EQ(in_sandbox(options_, [](const fs::path& root) { return open_errno(root / "read/file", O_RDONLY); }, root_), 0);
  EXPECT_EQ(in_sandbox(options_, [](const fs::path& root) { return open_errno(root / "read/file", O_RDWR); }, root_), EACCES);
  EXPECT_EQ(in_sandbox(options_, [](const fs::path& root) { return open_errno(root / "other/file", O_RDONLY); }, root_), EACCES);
  EXPECT_EQ(in_sandbox(options_, [](const fs::path& root) { return open_errno(root / "other/new", O_RDWR | O_CREAT); }, root_), EACCES);
}

TEST_F(Sandbox, starts_threads_but_no_process_and_no_program) {
  const auto thread = [](const fs::path&) {
    int ran = 1;
    std::thread([&] { ran = 0; }).join();
    return ran;
  };
  EXPECT_EQ(in_sandbox(options_, thread, root_), 0);
  EXPECT_EQ(in_sandbox(options_, [](const fs::path&) { return ::fork() < 0 ? errno : 0; }, root_), EPERM);
  const auto program = [](const fs::path&) {
    ::execl("/bin/true", "true", nullptr);
    return errno;
  };
  EXPECT_EQ(in_sandbox(options_, program, root_), EPERM);
}

}  // namespace
}  // namespace bygone::programs::vm
