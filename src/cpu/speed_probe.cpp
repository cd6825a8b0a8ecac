#include "cpu/speed_probe.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <mutex>
#include <span>
#include <thread>

#include "cpu/entry_state.h"

// The measured loops, RCX times eight instructions on the 64 bytes at RDI; position-independent, so that the same bytes run
// in the guest and here, as functions of the System V ABI with (bytes, unused, unused, times). The second one is for
// emulators that do not even know the vector instructions of the first.
asm(R"(
  .pushsection .text
  .globl bygone_probe_loop, bygone_probe_integer_loop, bygone_probe_end
  .hidden bygone_probe_loop, bygone_probe_integer_loop, bygone_probe_end
  .balign 64
bygone_probe_loop:
  mov (%rdi), %rax
  add %rcx, %rax
  mov %rax, 8(%rdi)
  movups (%rdi), %xmm0
  paddq %xmm0, %xmm0
  movups %xmm0, 16(%rdi)
  dec %rcx
  jnz bygone_probe_loop
  ret
  .balign 64
bygone_probe_integer_loop:
  mov (%rdi), %rax
  add %rcx, %rax
  mov %rax, 8(%rdi)
  mov 16(%rdi), %rdx
  lea 1(%rdx,%rax), %rdx
  mov %rdx, 24(%rdi)
  dec %rcx
  jnz bygone_probe_integer_loop
  ret
bygone_probe_end:
  .popsection
)");
extern "C" void bygone_probe_loop(void* bytes, std::uint64_t unused2, std::uint64_t unused3, std::uint64_t times);
extern "C" void bygone_probe_integer_loop(void* bytes, std::uint64_t, std::uint64_t, std::uint64_t times);
extern "C" const std::byte bygone_probe_end[];

namespace bygone::cpu {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kInstructionsPerTurn = 8;
constexpr milliseconds kSoftLimit(50);      // of one measurement: no further run is begun
constexpr milliseconds kLimit(200);         // the watchdog's
constexpr milliseconds kEnough(10);         // of guest time in one run for a good figure
constexpr std::uint64_t kFirstTurns = 250;  // 2000 instructions: 3 ms at 0.7 million a second

// Guest layout, inside one 2 MiB slot.
constexpr memory::Gpa kPageTables{0x1000};
constexpr memory::Gpa kDescriptors{0x8000};
constexpr memory::Gpa kCode{0x9000};
constexpr memory::Gpa kData{0xA000};
constexpr memory::Gpa kStackTop{0xC000};
constexpr std::uint64_t kMemory = 2 << 20;
constexpr std::uint16_t kPort = 0x80;

constexpr std::uint64_t kLoopOffset = 0x40;

const std::byte* bytes_of(void (*loop)(void*, std::uint64_t, std::uint64_t, std::uint64_t)) {
  return reinterpret_cast<const std::byte*>(loop);
}

std::uint64_t address_of(ProbeLoop loop) {
  const std::uint64_t first = kCode.value + kLoopOffset;
  if (loop == ProbeLoop::kVector) return first;
  return first + static_cast<std::uint64_t>(bytes_of(&bygone_probe_integer_loop) - bytes_of(&bygone_probe_loop));
}

/// Kicks a processor at `deadline`; the destructor calls it off.
class Watchdog {
 public:
  Watchdog(Vcpu& vcpu, ProbeClock::time_point deadline)
      : thread_([this, &vcpu, deadline] {
          std::unique_lock lock(mutex_);
          if (!stop_.wait_until(lock, deadline, [this] { return is_done_; })) vcpu.kick();
        }) {}
  ~Watchdog() {
    {
      const std::lock_guard lock(mutex_);
      is_done_ = true;
    }
    stop_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable stop_;
  bool is_done_ = false;  // guarded by mutex_
  std::jthread thread_;
};

double rate(std::uint64_t turns, ProbeClock::duration time) {
  const double microseconds = std::chrono::duration<double, std::micro>(time).count();
  return static_cast<double>(turns * kInstructionsPerTurn) / std::max(microseconds, 0.001);
}

Result<void> start_turns(Vcpu& vcpu, ProbeLoop loop, std::uint64_t turns) {
  GeneralRegisters registers;
  registers.rip = kCode.value;
  registers[Gpr::kRsp] = kStackTop.value;
  registers[Gpr::kRdi] = kData.value;
  registers[Gpr::kRbx] = address_of(loop);
  registers[Gpr::kRcx] = turns;
  return vcpu.set_general_registers(registers);
}

/// A busy host holds measurements up, so a bad one is not believed at once; on an idle host an emulator takes 60 ms each time.
constexpr int kTries = 3;

/// The first run pays for everything cold: page tables of the host, a nested host's translations. It is not counted.
Result<void> warm_up(Vcpu& vcpu, ProbeLoop loop) {
  const Watchdog watchdog(vcpu, ProbeClock::now() + kLimit);
  BYGONE_CHECK(start_turns(vcpu, loop, kFirstTurns));
  BYGONE_CHECK(vcpu.run());
  return {};
}

Result<Speed> measure_once(Vcpu& vcpu, ProbeLoop loop, ProbeClock::time_point deadline) {
  const auto begin = ProbeClock::now();
  const auto limit = std::min(begin + kLimit, std::max(deadline, begin + kSoftLimit));
  const Watchdog watchdog(vcpu, limit);
  std::uint64_t turns = kFirstTurns;
  double best = 0;  // of the runs: on a busy host any one of them may be held up
  for (;;) {
    BYGONE_CHECK(start_turns(vcpu, loop, turns));
    const auto start = ProbeClock::now();
    BYGONE_ASSIGN(const Exit* exit, vcpu.run());
    const auto now = ProbeClock::now();
    if (std::holds_alternative<UnrecoverableExit>(*exit)) return Speed{.is_beyond_engine = true};
    if (std::holds_alternative<ShutdownExit>(*exit)) {
      return fail(ErrorCode::kUnsupported, "the probe's loop ended in a triple fault");
    }
    const bool is_stopped = !std::holds_alternative<PortExit>(*exit);  // by the watchdog: the true rate is lower still
    if (is_stopped && now < limit) continue;  // by a kick that was meant for an earlier run
    // A run that was stopped counts only when there is none that was not: it may just have begun.
    if (!is_stopped || best == 0) best = std::max(best, rate(turns, now - start));
    if (is_stopped || now - begin > kSoftLimit) return Speed{.million_instructions_per_second = best};
    if (now - start < kEnough) turns *= 4;
  }
}

}  // namespace

Result<void> prepare_probe_memory(memory::GuestMemory& memory) {
  BYGONE_CHECK(memory.add_ram({0}, kMemory));
  const std::byte* loops = bytes_of(&bygone_probe_loop);
  // call *%rbx; out 0x80, al. RBX and RCX are set before each run.
  constexpr std::array<std::uint8_t, 4> kDriver{0xFF, 0xD3, 0xE6, kPort};
  BYGONE_CHECK(memory.write(kCode, std::as_bytes(std::span(kDriver))));
  return memory.write(kCode + kLoopOffset, {loops, static_cast<std::size_t>(bygone_probe_end - loops)});
}

Result<Speed> measure_speed(memory::GuestMemory& memory, Vcpu& vcpu, ProbeLoop loop, double wanted, ProbeClock::time_point deadline) {
  BYGONE_ASSIGN(const SystemRegisters system, prepare_long_mode(memory, kPageTables, kDescriptors));
  BYGONE_CHECK(vcpu.set_system_registers(system));
  BYGONE_CHECK(warm_up(vcpu, loop));
  Speed best;
  int tries = 0;
  do {
    BYGONE_ASSIGN(const Speed speed, measure_once(vcpu, loop, deadline));
    if (speed.is_beyond_engine) return speed;
    if (speed.million_instructions_per_second > best.million_instructions_per_second) best = speed;
  } while (++tries < kTries && best.million_instructions_per_second < wanted && ProbeClock::now() + kSoftLimit < deadline);
  return best;
}

double measure_native_speed() {
  alignas(64) std::array<std::byte, 64> bytes = {};
  double best = 0;
  std::uint64_t turns = 10'000;
  for (int run = 0; run < 100; ++run) {  // the first runs find their length, and warm up
    const auto start = ProbeClock::now();
    bygone_probe_loop(bytes.data(), 0, 0, turns);
    const auto time = ProbeClock::now() - start;
    best = std::max(best, rate(turns, time));
    if (time > milliseconds(5)) break;
    turns *= 2;
  }
  return best;
}

}  // namespace bygone::cpu
