#include "cpu/translator/jit/host_faults.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <array>
#include <mutex>

#include "cpu/translator/jit/assembler_words.h"

namespace bygone::cpu::translator::jit {
namespace {

constexpr std::size_t kStackBytes = 65536;
constexpr std::array kSignals = {SIGFPE, SIGILL, SIGSEGV, SIGBUS};
constexpr unsigned kAutoDisarm = 1U << 31;  // SS_AUTODISARM: rsp is the guest's and says nothing about the stack in use

// A signal handler gets no argument: the guard of this thread while it is armed, and who handled the signals before.
thread_local const HostFaultGuard* current_guard = nullptr;
std::array<struct sigaction, kSignals.size()> previous_actions;

class SignalStack {
 public:
  SignalStack() : place_(::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0)) {
    stack_t stack = {};
    stack.ss_sp = place_;
    stack.ss_size = kStackBytes;
    stack.ss_flags = static_cast<int>(kAutoDisarm);
    ::sigaltstack(&stack, nullptr);
    sigset_t others;
    ::sigfillset(&others);
    for (const int signal : kSignals) ::sigdelset(&others, signal);
    ::pthread_sigmask(SIG_BLOCK, &others, nullptr);
  }
  ~SignalStack() {
    stack_t none = {};
    none.ss_flags = SS_DISABLE;
    ::sigaltstack(&none, nullptr);
    ::munmap(place_, kStackBytes);
  }
  SignalStack(const SignalStack&) = delete;
  SignalStack& operator=(const SignalStack&) = delete;

 private:
  void* place_;
};

}  // namespace

HostFaultGuard::HostFaultGuard(VcpuBlock& block, const Cache& cache) : block_(block), cache_(cache) {
  static std::once_flag once;
  std::call_once(once, install);
}

void HostFaultGuard::install() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    struct sigaction action = {};
    action.sa_sigaction = &HostFaultGuard::handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    ::sigemptyset(&action.sa_mask);
    ::sigaction(kSignals[i], &action, &previous_actions[i]);
  }
}

void HostFaultGuard::arm() {
  static thread_local const SignalStack stack;
  current_guard = this;
}

void HostFaultGuard::disarm() { current_guard = nullptr; }

bool HostFaultGuard::redirect(void* context) const {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  std::uint64_t rip = 0;
  bool flags_in_hardware = false;
  if (!cache_.instruction_at(static_cast<std::uint64_t>(registers[REG_RIP]), rip, flags_in_hardware)) return false;
  block_.rip = rip;
  if (flags_in_hardware) {
    const auto flags = static_cast<std::uint64_t>(registers[REG_EFL]);
    block_.translator[static_cast<std::size_t>(Word::kFlags)] = (flags & 0xFF) << 8 | (flags >> 11 & 1);
  }
  registers[REG_RIP] = static_cast<greg_t>(reinterpret_cast<std::uint64_t>(cache_.pc(cache_.thunks().leave_interpret)));
  return true;
}

void HostFaultGuard::handle(int signal, siginfo_t* info, void* context) {
  if (current_guard != nullptr && current_guard->redirect(context)) return;
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    if (kSignals[i] != signal) continue;
    const struct sigaction& previous = previous_actions[i];
    if ((previous.sa_flags & SA_SIGINFO) != 0 && previous.sa_sigaction != nullptr) return previous.sa_sigaction(signal, info, context);
    if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) return previous.sa_handler(signal);
    ::sigaction(signal, &previous, nullptr);  // the default: the faulting instruction runs again and ends the process
    return;
  }
}

}  // namespace bygone::cpu::translator::jit
