#include "support/pace.h"

#include <sched.h>

#include <algorithm>
#include <utility>

namespace bygone {
namespace {

constexpr std::uint32_t kLookEvery = 32;
constexpr std::uint32_t kAloneForQuick = 16;
constexpr std::uint32_t kLongestBackOff = 63;

}  // namespace

void Pace::woken() {
  waited_ = awaits_receipt_;
  if (is_patient_ || ++until_look_ < kLookEvery) return;
  until_look_ = 0;
  ::sched_yield();
}

void Pace::found(std::uint64_t requests, std::uint64_t receipts) {
  if (requests != 0 && std::exchange(waited_, false)) end_wait(requests == receipts);
  if (requests > 1) {
    alone_ = 0;
    is_patient_ = true;
  } else if (requests == 1 && ++alone_ >= kAloneForQuick) {
    alone_ = 0;
    is_patient_ = false;
  }
  apply();
}

void Pace::handed_over() {
  if (is_patient_ || awaits_receipt_) return;
  if (until_wait_ != 0) {
    --until_wait_;
    return;
  }
  awaits_receipt_ = true;
  apply();
}

void Pace::end_wait(bool was_for_receipt) {
  awaits_receipt_ = false;
  back_off_ = was_for_receipt ? 0 : std::min(back_off_ * 2 + 1, kLongestBackOff);
  until_wait_ = back_off_;
}

/// A thread of SCHED_BATCH that wakes up does not take the processor from another.
void Pace::apply() {
  const bool is_batch = is_patient_ || awaits_receipt_;
  if (std::exchange(is_batch_, is_batch) == is_batch) return;
  const sched_param parameters = {};
  ::sched_setscheduler(0, is_batch ? SCHED_BATCH : SCHED_OTHER, &parameters);  // refused: as ever
}

}  // namespace bygone
