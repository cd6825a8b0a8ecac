// The signal that takes a vCPU thread out of KVM_RUN. It does nothing itself: the interruption is the message.
// Threading: any thread.
#pragma once

#include "support/result.h"

namespace bygone::cpu::kvm {

[[nodiscard]] int kick_signal();
/// Gives the signal its empty handler, for the process; harmless when done again.
[[nodiscard]] Result<void> install_kick_signal();
/// Lets the signal reach the calling thread, whatever ran on it before.
void unblock_kick_signal();

}  // namespace bygone::cpu::kvm
