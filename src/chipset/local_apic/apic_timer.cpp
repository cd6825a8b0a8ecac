// The local APIC's timer (Intel SDM volume 3, 11.5.4): counting down at the bus rate, or waiting for a TSC value.
#include <algorithm>

#include "chipset/local_apic/local_apic.h"

namespace bygone::chipset {

using spec::x86::ApicRegister;
using spec::x86::ApicTimerMode;

namespace {

// A guest that asks for a tick every nanosecond gets one every 100 us; it must not keep the timer thread busy for itself.
constexpr MachineTime kShortestPeriod = std::chrono::microseconds(100);
// Far deadlines are looked at again on the way, so that no product overflows.
constexpr std::uint64_t kFarthestSeconds = 3600;

/// Divide configuration, figure 11-10: bits 0, 1 and 3 give the power of two, all ones is 1.
constexpr std::uint64_t divisor(std::uint32_t configuration) {
  const std::uint32_t code = (configuration & 3U) | (configuration >> 1 & 4U);
  return code == 7 ? 1 : 2ULL << code;
}

}  // namespace

ApicTimerMode LocalApicModel::timer_mode() const {
  return static_cast<ApicTimerMode>(at(ApicRegister::kLvtTimer) >> spec::x86::kLvtTimerModeShift & 3);
}

MachineTime LocalApicModel::count_to_time(std::uint64_t count) const {
  static_assert(cpu::kLocalApicTimerFrequency == 1'000'000'000, "one count is one nanosecond");
  return MachineTime(static_cast<std::int64_t>(count * divisor(at(ApicRegister::kDivideConfiguration))));
}

std::uint32_t LocalApicModel::remaining_count() const {
  if (!is_counting_) return 0;
  const MachineTime now = clock_.now();
  if (now >= timer_end_) return 0;
  const auto nanoseconds = static_cast<std::uint64_t>((timer_end_ - now).count());
  const std::uint64_t step = divisor(at(ApicRegister::kDivideConfiguration));
  return static_cast<std::uint32_t>(std::min<std::uint64_t>((nanoseconds + step - 1) / step, 0xFFFFFFFF));
}

void LocalApicModel::start_timer(std::uint32_t count) {
  if (count == 0) {
    stop_timer();
    return;
  }
  is_counting_ = true;
  timer_end_ = clock_.now() + count_to_time(count);
  timer_->arm(timer_end_);
}

void LocalApicModel::stop_timer() {
  is_counting_ = false;
  timer_->disarm();
}

void LocalApicModel::arm_deadline(Effects& effects) {
  if (deadline_ == 0) {
    timer_->disarm();
    return;
  }
  const std::uint64_t tsc = host_.guest_tsc(vp_);
  if (tsc >= deadline_) {
    timer_->disarm();
    deadline_ = 0;
    raise_local(ApicRegister::kLvtTimer, effects);
    return;
  }
  const std::uint64_t frequency = std::max<std::uint64_t>(host_.guest_tsc_frequency(), 1);
  const std::uint64_t ticks = deadline_ - tsc;
  const std::uint64_t seconds = ticks / frequency;
  std::uint64_t nanoseconds = kFarthestSeconds * 1'000'000'000;
  if (seconds < kFarthestSeconds) {
    const std::uint64_t rest = ticks % frequency;  // below 2^34 at any real rate, so the product fits
    nanoseconds = seconds * 1'000'000'000 + (rest * 1'000'000'000 + frequency - 1) / frequency;
  }
  timer_->arm(clock_.now() + MachineTime(static_cast<std::int64_t>(nanoseconds)));
}

void LocalApicModel::on_timer() {
  Effects effects;
  {
    const std::lock_guard lock(mutex_);
    if (timer_mode() == ApicTimerMode::kTscDeadline) {
      arm_deadline(effects);  // fires when the TSC has passed it; a rewritten or far deadline is waited for again
    } else {
      expire_count(effects);
    }
  }
  carry_out(effects);
}

void LocalApicModel::expire_count(Effects& effects) {
  if (!is_counting_ || clock_.now() < timer_end_) return;
  is_counting_ = false;
  if (timer_mode() == ApicTimerMode::kPeriodic && at(ApicRegister::kInitialCount) != 0) {
    const MachineTime period = std::max(count_to_time(at(ApicRegister::kInitialCount)), kShortestPeriod);
    // Ticks that a stopped host missed are merged into this one.
    const MachineTime late = clock_.now() - timer_end_;
    timer_end_ += period * (1 + late / period);
    is_counting_ = true;
    timer_->arm(timer_end_);
  }
  raise_local(ApicRegister::kLvtTimer, effects);
}

}  // namespace bygone::chipset
