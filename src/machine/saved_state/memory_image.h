// Guest memory in a saved state: 1 MiB chunks, each with a map of its pages that are not zero and those pages, compressed (zstd).
//
// Memory that the guest has never touched is found by asking the memory's files for their holes, so that a large machine costs
// what it uses. All host processors work at once.
// Threading: one thread calls; `progress` is called on it. No vCPU runs and nothing writes guest memory meanwhile.
#pragma once

#include <cstdint>
#include <functional>

#include "machine/saved_state/state_file.h"
#include "memory/guest_memory.h"

namespace bygone::machine::saved_state {

/// Bytes of guest memory that are done, and of all there are. False: stop, kCancelled.
using Progress = std::function<bool(std::uint64_t done, std::uint64_t total)>;

/// Errors: the file's, kCancelled.
[[nodiscard]] Result<void> save_memory(const memory::GuestMemory& memory, StateWriter& file, const Progress& progress);
/// Into memory that is all zero. Errors: kCorrupt (also: pages where there is no RAM), kCancelled; memory is useless then.
[[nodiscard]] Result<void> restore_memory(memory::GuestMemory& memory, const StateReader& file, const Progress& progress);

}  // namespace bygone::machine::saved_state
