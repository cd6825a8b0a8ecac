// How a long operation tells how far it is and learns that it shall stop. Threading: called from the operation's own thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "support/result.h"

namespace bygone::disk {

struct Progress {
  /// Bytes of the disk done, of how many; may be empty.
  std::function<void(std::uint64_t done, std::uint64_t total)> report;
  /// Set from outside; may be null.
  const std::atomic<bool>* cancelled = nullptr;

  [[nodiscard]] Result<void> step(std::uint64_t done, std::uint64_t total) const {
    if (report) report(done, total);
    if (cancelled != nullptr && cancelled->load(std::memory_order_relaxed)) {
      return fail(ErrorCode::kCancelled, "stopped; nothing was changed");
    }
    return {};
  }
};

}  // namespace bygone::disk
