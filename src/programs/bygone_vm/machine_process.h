// The life of one machine's process: takes the machine's lock, opens what its definition names, serves its control socket while it runs.
//
//   lock → definition → machine → control socket → sandbox → start → ready … requests … → the machine's end
// Threading: run() on the main thread, which is the control loop's; the machine has threads of its own.
#pragma once

#include <filesystem>

#include "library/library.h"
#include "support/result.h"

namespace bygone::programs::vm {

struct ProcessOptions {
  library::MachineFolder machine;
  int ready_fd = -1;  ///< where the starter waits for word; -1: nowhere
  bool is_verbose = false;
  bool is_sandboxed = true;
};

/// Returns when the machine has ended. Errors: why it could not start, which the starter has been told too, or how it failed.
[[nodiscard]] Result<void> run_machine(const ProcessOptions& options);

}  // namespace bygone::programs::vm
