// Shuts the machine's process in, before the guest runs: what the guest may one day make this process do is what is left open here.
//
//   no new privileges → Landlock: only these folders → seccomp: only these system calls, in every thread
// Files that are open stay usable. Threads that were there before (those of disk images) are under the system call filter and not under Landlock.
// Threading: call it once, on the main thread, before the machine starts its own.
#pragma once

#include <filesystem>
#include <vector>

#include "support/log.h"
#include "support/result.h"

namespace bygone::programs::vm {

struct SandboxOptions {
  std::vector<std::filesystem::path> writable;  ///< files may be made, changed and removed below these
  std::vector<std::filesystem::path> readable;
};

/// A kernel without Landlock is told in the log, and the rest holds. Errors: what the kernel refused.
[[nodiscard]] Result<void> enter_sandbox(const SandboxOptions& options, const Log& log);

}  // namespace bygone::programs::vm
