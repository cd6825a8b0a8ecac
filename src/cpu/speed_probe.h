// How fast an engine runs ring-0 code: a loop of loads, stores and vector instructions that ends in an exit, timed in a guest of
// its own and, the same bytes, on the bare processor.
//
//   prepare_probe_memory(memory) → engine's partition over it → measure_speed(memory, vcpu, …) for as long as there is time
//
// Threading: any thread.
#pragma once

#include <chrono>

#include "cpu/vcpu.h"
#include "memory/guest_memory.h"
#include "support/result.h"

namespace bygone::cpu {

using ProbeClock = std::chrono::steady_clock;

struct Speed {
  double million_instructions_per_second = 0;  ///< 0 when the loop did not run
  bool is_beyond_engine = false;               ///< the engine gave up on one of the loop's instructions
};

/// Which loop. The integer one is for emulators that do not even know the vector instructions of the other.
enum class ProbeLoop : std::uint8_t { kVector, kInteger };

/// Adds 2 MiB of RAM at 0 with the loops in it.
[[nodiscard]] Result<void> prepare_probe_memory(memory::GuestMemory& memory);

/// The best of some measurements on the only processor of a partition over that memory: on a busy host any one may be held up. Stops
/// when `wanted` (million a second) is reached, after three, or at `deadline`, but makes one in any case, of at most 200 ms.
/// Errors: the engine's; kUnsupported: the loop ended in a triple fault.
[[nodiscard]] Result<Speed> measure_speed(memory::GuestMemory& memory, Vcpu& vcpu, ProbeLoop loop, double wanted,
                                          ProbeClock::time_point deadline);

/// The vector loop on the bare processor, as this process may use it. Some 10 ms.
[[nodiscard]] double measure_native_speed();

}  // namespace bygone::cpu
