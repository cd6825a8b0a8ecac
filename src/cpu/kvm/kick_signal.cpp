#include "cpu/kvm/kick_signal.h"

#include <signal.h>

namespace bygone::cpu::kvm {

int kick_signal() { return SIGRTMIN + 4; }

Result<void> install_kick_signal() {
  struct sigaction action = {};
  action.sa_handler = [](int) {};  // no SA_RESTART: KVM_RUN has to come back
  if (::sigaction(kick_signal(), &action, nullptr) != 0) return fail_errno(errno, "installing the vCPU kick signal");
  return {};
}

void unblock_kick_signal() {
  sigset_t kick;
  ::sigemptyset(&kick);
  ::sigaddset(&kick, kick_signal());
  ::pthread_sigmask(SIG_UNBLOCK, &kick, nullptr);
}

}  // namespace bygone::cpu::kvm
