#include "cpu/kvm/probe.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <span>
#include <thread>
#include <utility>

#include "cpu/entry_state.h"
#include "cpu/kvm/device.h"
#include "cpu/kvm/partition.h"

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

namespace bygone::cpu::kvm {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::uint64_t kInstructionsPerTurn = 8;
constexpr milliseconds kSoftLimit(50);      // of one measurement: no further run is begun
constexpr milliseconds kLimit(200);         // the watchdog's
constexpr milliseconds kEnough(10);         // of guest time in one run for a good figure
constexpr std::uint64_t kFirstTurns = 250;  // 2000 instructions: 3 ms at 0.7 million a second

/// Below this share of the bare processor's rate guest code is not run by the processor itself.
constexpr double kNativeOrder = 0.1;

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
std::uint64_t integer_loop_offset() {
  return kLoopOffset +
         static_cast<std::uint64_t>(bytes_of(&bygone_probe_integer_loop) - bytes_of(&bygone_probe_loop));
}

// call *%rbx; out 0x80, al. The host sets RBX and RCX before each run.
Result<void> write_guest(memory::GuestMemory& memory) {
  const std::byte* loops = bytes_of(&bygone_probe_loop);
  constexpr std::array<std::uint8_t, 4> kDriver{0xFF, 0xD3, 0xE6, kPort};
  BYGONE_CHECK(memory.write(kCode, std::as_bytes(std::span(kDriver))));
  return memory.write(kCode + kLoopOffset, {loops, static_cast<std::size_t>(bygone_probe_end - loops)});
}

/// Kicks a processor when the time is up; the destructor calls it off.
class Watchdog {
 public:
  explicit Watchdog(Vcpu& vcpu)
      : thread_([this, &vcpu] {
          std::unique_lock lock(mutex_);
          if (!stop_.wait_for(lock, kLimit, [this] { return is_done_; })) vcpu.kick();
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

double rate(std::uint64_t turns, Clock::duration time) {
  const double microseconds = std::chrono::duration<double, std::micro>(time).count();
  return static_cast<double>(turns * kInstructionsPerTurn) / std::max(microseconds, 0.001);
}

/// Million instructions a second of the same loop on the bare processor, as this process may use it.
double native_rate() {
  alignas(64) std::array<std::byte, 64> bytes = {};
  double best = 0;
  std::uint64_t turns = 10'000;
  for (int run = 0; run < 100; ++run) {  // the first runs find their length, and warm up
    const auto start = Clock::now();
    bygone_probe_loop(bytes.data(), 0, 0, turns);
    const auto time = Clock::now() - start;
    best = std::max(best, rate(turns, time));
    if (time > milliseconds(5)) break;
    turns *= 2;
  }
  return best;
}

Result<std::unique_ptr<KvmPartition>> make_partition(const Device& device, memory::GuestMemory& memory) {
  BYGONE_CHECK(memory.add_ram({0}, kMemory));
  BYGONE_CHECK(write_guest(memory));
  PartitionOptions options;
  options.memory = &memory;
  BYGONE_ASSIGN(options.cpuid, device.supported_cpuid());
  BYGONE_ASSIGN(auto partition, KvmPartition::create(device, std::move(options)));
  BYGONE_ASSIGN(const SystemRegisters system, prepare_long_mode(memory, kPageTables, kDescriptors));
  Vcpu& vcpu = partition->vcpu(VpIndex{0});
  BYGONE_CHECK(vcpu.set_system_registers(system));
  return partition;
}

Result<void> start_turns(Vcpu& vcpu, std::uint64_t loop_offset, std::uint64_t turns) {
  GeneralRegisters registers;
  registers.rip = kCode.value;
  registers[Gpr::kRsp] = kStackTop.value;
  registers[Gpr::kRdi] = kData.value;
  registers[Gpr::kRbx] = kCode.value + loop_offset;
  registers[Gpr::kRcx] = turns;
  return vcpu.set_general_registers(registers);
}

/// A busy host holds measurements up, so a bad one is not believed at once; on an idle host an emulator takes 60 ms each time.
constexpr int kTries = 3;
constexpr int kVoidTries = 10;

struct Measurement {
  double rate = 0;                  ///< million instructions a second; 0 when the loop did not run
  bool is_beyond_emulator = false;  ///< KVM gave up on one of the loop's instructions
  bool is_void = false;             ///< there was time for the first run only, which pays for everything cold
};

Result<Measurement> measure_once(Vcpu& vcpu, std::uint64_t loop_offset) {
  const Watchdog watchdog(vcpu);
  const auto begin = Clock::now();
  std::uint64_t turns = kFirstTurns;
  double best = 0;  // of the runs: on a busy host any one of them may be held up
  for (;;) {
    BYGONE_CHECK(start_turns(vcpu, loop_offset, turns));
    const auto start = Clock::now();
    BYGONE_ASSIGN(const Exit* exit, vcpu.run());
    const auto now = Clock::now();
    if (std::holds_alternative<UnrecoverableExit>(*exit)) return Measurement{.is_beyond_emulator = true};
    if (std::holds_alternative<ShutdownExit>(*exit)) {
      return fail(ErrorCode::kUnsupported, "the probe's loop ended in a triple fault");
    }
    const bool is_stopped = !std::holds_alternative<PortExit>(*exit);  // by the watchdog: the true rate is lower still
    best = std::max(best, rate(turns, now - start));
    if (is_stopped || now - begin > kSoftLimit) return Measurement{.rate = best, .is_void = turns == kFirstTurns};
    if (now - start < kEnough) turns *= 4;
  }
}

/// The best of some measurements, if need be: one that reaches `wanted` is enough.
Result<Measurement> measure_guest(Vcpu& vcpu, std::uint64_t loop_offset, double wanted) {
  Measurement best;
  int tries = 0;
  for (int all_tries = 0; tries < kTries && all_tries < kVoidTries; ++all_tries) {
    BYGONE_ASSIGN(const Measurement measurement, measure_once(vcpu, loop_offset));
    if (measurement.is_beyond_emulator) return measurement;
    if (!measurement.is_void) ++tries;
    if (measurement.rate > best.rate) best = measurement;
    if (best.rate >= wanted) break;
  }
  return best;
}

EngineStatus unusable(const Error& error) {
  return {.is_usable = false, .million_instructions_per_second = 0, .reason = error.message, .hint = error.hint};
}

EngineStatus judge(const std::string& device_path, double guest, double native, bool is_beyond_emulator) {
  EngineStatus status;
  status.million_instructions_per_second = guest;
  status.is_usable = !is_beyond_emulator && guest >= native * kNativeOrder;
  if (status.is_usable) {
    status.reason = fmt::format("kernel mode runs at {:.0f} million instructions a second, {:.0f} % of the bare processor",
                                guest, guest / native * 100);
    return status;
  }
  status.reason = fmt::format(
      "{} is there, but kernel mode is emulated{}: {:.2f} million instructions a second where the bare processor does {:.0f}",
      device_path, is_beyond_emulator ? " and has no vector instructions" : "", guest, native);
  status.hint = "This host is itself a virtual machine without nested virtualization; its owner can turn that on";
  return status;
}

}  // namespace

EngineStatus probe(const std::string& device_path) {
  auto device = Device::open(device_path);
  if (!device) return unusable(device.error());
  memory::GuestMemory memory;
  auto partition = make_partition(*device, memory);
  if (!partition) return unusable(partition.error());
  Vcpu& vcpu = (*partition)->vcpu(VpIndex{0});
  const double native = native_rate();
  auto guest = measure_guest(vcpu, kLoopOffset, native * kNativeOrder);
  const bool is_beyond_emulator = guest && guest->is_beyond_emulator;
  if (is_beyond_emulator) guest = measure_once(vcpu, integer_loop_offset());
  if (!guest) return unusable(guest.error());
  return judge(device_path, guest->rate, native, is_beyond_emulator);
}

}  // namespace bygone::cpu::kvm
