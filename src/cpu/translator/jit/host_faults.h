// Faults that guest instructions raise on the host while they run natively (division by zero, unmasked floating-point exceptions,
// misaligned vectors, unknown instructions) arrive as signals. The handler turns them into a way out of the translated code, with
// the guest's state as before the instruction; the interpreter then raises the guest's exception.
//
// While guest code runs, rsp is the guest's, so signals are taken on a stack of their own and all that could be delivered to
// another handler are blocked.
//
// Threading: one guard a vCPU; entered on its thread.
#pragma once

#include <signal.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cpu/translator/jit/cache.h"
#include "cpu/translator/state.h"

namespace bygone::cpu::translator::jit {

class HostFaultGuard {
 public:
  /// Installs the process's handler the first time; signals from elsewhere go to the handlers that were there before.
  HostFaultGuard(VcpuBlock& block, const Cache& cache);
  HostFaultGuard(const HostFaultGuard&) = delete;
  HostFaultGuard& operator=(const HostFaultGuard&) = delete;

  /// Around guest code. The first time on a thread gives it a signal stack and blocks what other handlers would take, for the
  /// rest of the thread's life.
  void arm();
  void disarm();

 private:
  static void handle(int signal, siginfo_t* info, void* context);
  static void install();
  [[nodiscard]] bool redirect(void* context) const;

  VcpuBlock& block_;
  const Cache& cache_;
};

}  // namespace bygone::cpu::translator::jit
