// What the host gave to who asked for huge pages (RamKind::kReserved). Threading: pure functions over the system's state.
#pragma once

#include "memory/guest_memory.h"

namespace bygone::memory {

enum class HugePages {
  kNone,
  kTransparent,  ///< made as they are touched, where the host has room (transparent_hugepage/enabled)
  kReserved,     ///< of the host's pool (nr_hugepages), taken at once
};

/// Of a slot of private memory.
[[nodiscard]] HugePages huge_pages_of(const Slot& slot);

}  // namespace bygone::memory
