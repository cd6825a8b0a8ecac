#include "support/pace.h"

#include <sched.h>

#include <algorithm>
#include <utility>

namespace bygone {
namespace {

constexpr std::uint32_t kTryEvery = 32;
constexpr std::uint32_t kAloneForQuick = 16;
constexpr std::uint32_t kLongestBackOff = 63;

}  // namespace

void Pace::woken() { waited_ = awaits_receipt_; }

void Pace::found(std::uint64_t requests, std::uint64_t receipts) {
  if (requests != 0 && std::exchange(waited_, false)) end_wait(requests == receipts);
  if (requests != 0) is_trying_ = false;
  if (requests > 1) {
    alone_ = 0;
    is_patient_ = true;
  } else if (requests == 1) {
    found_one(receipts == 0);
  }
  apply();
}

void Pace::found_one(bool is_request) {
  ++alone_;
  if (is_patient_ && alone_ >= kAloneForQuick) {
    alone_ = 0;
    is_patient_ = false;
  } else if (!is_patient_ && is_request && alone_ >= kTryEvery) {
    alone_ = 0;
    is_trying_ = true;
  }
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
  const bool is_batch = is_patient_ || is_trying_ || awaits_receipt_;
  if (std::exchange(is_batch_, is_batch) == is_batch) return;
  const sched_param parameters = {};
  ::sched_setscheduler(0, is_batch ? SCHED_BATCH : SCHED_OTHER, &parameters);  // refused: as ever
}

}  // namespace bygone
