// Starts a machine's process, bygone-vm, apart from whoever asked: a session of its own, no terminal, and it goes on when its starter ends.
//
//   fork → setsid → fork → exec bygone-vm --ready-fd N FOLDER; the process writes one JSON line to N when the guest runs, or why not
// Threading: any thread.
#pragma once

#include <filesystem>

#include "library/library.h"
#include "support/result.h"

namespace bygone::service {

/// bygone-vm beside this program, or in the libexec folder beside its folder. Errors: kNotFound.
[[nodiscard]] Result<std::filesystem::path> find_machine_program();

/// Returns when the guest runs. Errors: what stood in the way, as the machine's process told it; kAlreadyExists: it runs already.
[[nodiscard]] Result<void> launch(const library::MachineFolder& machine);

/// The machine's process tells its starter; the descriptor is closed after it. `outcome`'s error has code, message and hint.
void report_readiness(int fd, const Result<void>& outcome);

}  // namespace bygone::service
