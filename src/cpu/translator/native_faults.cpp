#include "cpu/translator/native_faults.h"

#include <ucontext.h>

#include <mutex>

namespace bygone::cpu::translator {
namespace {

// A signal handler gets no argument: whose thunks this thread runs, and who handled the signal before.
thread_local const Thunks* running = nullptr;
struct sigaction previous_action;

}  // namespace

void NativeFaultGuard::install() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = &NativeFaultGuard::handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    ::sigemptyset(&action.sa_mask);
    ::sigaction(SIGFPE, &action, &previous_action);
  });
}

NativeFaultGuard::NativeFaultGuard(const Thunks& thunks) { running = &thunks; }
NativeFaultGuard::~NativeFaultGuard() { running = nullptr; }

void NativeFaultGuard::handle(int signal, siginfo_t* info, void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const std::uint64_t way_out = running == nullptr ? 0 : running->way_out(static_cast<std::uint64_t>(registers[REG_RIP]));
  if (way_out != 0) {
    registers[REG_RIP] = static_cast<greg_t>(way_out);
    return;
  }
  if ((previous_action.sa_flags & SA_SIGINFO) != 0 && previous_action.sa_sigaction != nullptr) {
    return previous_action.sa_sigaction(signal, info, context);
  }
  if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) return previous_action.sa_handler(signal);
  ::sigaction(signal, &previous_action, nullptr);  // the default: the instruction runs again and ends the process
}

}  // namespace bygone::cpu::translator
