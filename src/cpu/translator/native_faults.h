// Floating-point exceptions that the guest has not masked and that a thunk's instruction takes on the host: the signal becomes a
// way out of the thunk, and the interpreter raises the guest's exception. The host decides what is an exception and which of
// MXCSR's flags it leaves.
//
// Threading: a guard belongs to the thread that runs the thunks.
#pragma once

#include <signal.h>

#include "cpu/translator/thunks.h"

namespace bygone::cpu::translator {

class NativeFaultGuard {
 public:
  /// Once, before the first guard: signals from elsewhere go to the handler that was there before.
  static void install();

  explicit NativeFaultGuard(const Thunks& thunks);
  ~NativeFaultGuard();
  NativeFaultGuard(const NativeFaultGuard&) = delete;
  NativeFaultGuard& operator=(const NativeFaultGuard&) = delete;

 private:
  static void handle(int signal, siginfo_t* info, void* context);
};

}  // namespace bygone::cpu::translator
