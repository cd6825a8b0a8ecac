// A value that can only be reached with its lock held.
#pragma once

#include <mutex>
#include <utility>

namespace bygone {

template <typename T>
class Guarded {
 public:
  template <typename... Args>
  explicit Guarded(Args&&... args) : value_(std::forward<Args>(args)...) {}

  /// Calls `work` with the value while the lock is held and returns what it returns.
  template <typename Work>
  decltype(auto) with(Work&& work) {
    const std::lock_guard lock(mutex_);
    return std::forward<Work>(work)(value_);
  }
  template <typename Work>
  decltype(auto) with(Work&& work) const {
    const std::lock_guard lock(mutex_);
    return std::forward<Work>(work)(value_);
  }

 private:
  mutable std::mutex mutex_;
  T value_;
};

}  // namespace bygone
