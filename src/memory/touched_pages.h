// Which of a guest's memory was ever touched: all that there is to save of it. Threading: pure functions over the system's state.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/guest_memory.h"

namespace bygone::memory {

/// The offsets in the slot, multiples of `chunk_bytes` in order, of chunks in which some page was touched. Where the host does not tell
/// (/proc/self/pagemap is not there) all of them. `chunk_bytes`: a multiple of the page size. Errors: the host's.
[[nodiscard]] Result<std::vector<std::uint64_t>> touched_chunks(const Slot& slot, std::uint64_t chunk_bytes);

}  // namespace bygone::memory
