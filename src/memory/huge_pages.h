// What the host gave to who asked for huge pages (PageSizeHint::kHuge). Threading: pure functions over the system's state.
#pragma once

#include "memory/guest_memory.h"

namespace bygone::memory {

enum class HugePages {
  kNone,
  kTransparent,  ///< made of ordinary ones as they are touched (shmem_enabled)
  kReserved,     ///< of the host's pool (nr_hugepages), taken at once
};

/// Of a slot that was added with kHuge.
[[nodiscard]] HugePages huge_pages_of(const Slot& slot);

/// Whether the kernel makes huge pages of a memfd's when it is advised to.
[[nodiscard]] bool shared_memory_may_be_huge();

}  // namespace bygone::memory
