// Partition reference time: 100 ns units since the machine was created, standing still while it is paused (TLFS 12.3).
//
// An engine that keeps the reference time itself (Facility::kReferenceTime) is asked for it. Otherwise, with a stable TSC, it is
// computed from the guest's TSC with the very scale and offset of the reference TSC page, so that the register, the page and the
// timers agree to the tick; without one it follows the machine's clock.
//
// Threading: now() from any thread, without a lock. pause(), resume() and set() by one thread while no guest code runs.
#pragma once

#include <atomic>
#include <cstdint>

#include "cpu/partition.h"
#include "support/clock.h"

namespace bygone::hyperv {

class ReferenceTime {
 public:
  /// `engine` keeps the time; null: none does.
  ReferenceTime(const cpu::Partition& partition, const Clock& clock, bool tsc_is_stable, cpu::HypervisorFacilities* engine = nullptr);

  [[nodiscard]] std::uint64_t now() const;
  [[nodiscard]] bool is_from_tsc() const { return scale_ != 0; }
  /// now() is (TSC * scale >> 64) + offset.
  [[nodiscard]] std::uint64_t scale() const { return scale_; }
  [[nodiscard]] std::uint64_t offset() const { return offset_.load(std::memory_order_acquire); }

  void pause();
  /// The offset may have changed: the page must be written anew. Errors: the engine's.
  [[nodiscard]] Result<void> resume();
  /// Continues from `time`, for a restored machine. Errors: the engine's.
  [[nodiscard]] Result<void> set(std::uint64_t time);

 private:
  [[nodiscard]] std::uint64_t raw() const;
  [[nodiscard]] Result<void> go_on_from(std::uint64_t time);

  static constexpr std::uint64_t kRunning = ~0ULL;
  const cpu::Partition& partition_;
  const Clock& clock_;
  cpu::HypervisorFacilities* const engine_;
  std::uint64_t scale_ = 0;
  std::atomic<std::uint64_t> offset_ = 0;
  std::atomic<std::uint64_t> frozen_ = kRunning;
};

}  // namespace bygone::hyperv
