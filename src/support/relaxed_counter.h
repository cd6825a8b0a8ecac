// A count that one thread raises and any thread reads. Raising it is a plain load and store: no locked instruction.
#pragma once

#include <atomic>
#include <cstdint>

namespace bygone {

class RelaxedCounter {
 public:
  RelaxedCounter& operator+=(std::uint64_t more) {
    value_.store(get() + more, std::memory_order_relaxed);
    return *this;
  }
  RelaxedCounter& operator++() { return *this += 1; }
  [[nodiscard]] std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_ = 0;
};

}  // namespace bygone
