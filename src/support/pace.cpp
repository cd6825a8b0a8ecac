#include "support/pace.h"

#include <sched.h>

namespace bygone {
namespace {

constexpr std::uint32_t kLookEvery = 32;
constexpr std::uint32_t kAloneForQuick = 16;

}  // namespace

void Pace::woken() {
  if (is_patient_ || ++until_look_ < kLookEvery) return;
  until_look_ = 0;
  ::sched_yield();
}

void Pace::found(std::uint64_t requests) {
  if (requests > 1) {
    alone_ = 0;
    set_patient(true);
  } else if (requests == 1 && ++alone_ >= kAloneForQuick) {
    alone_ = 0;
    set_patient(false);
  }
}

/// A thread of SCHED_BATCH that wakes up does not take the processor from another.
void Pace::set_patient(bool is_patient) {
  if (is_patient == is_patient_) return;
  is_patient_ = is_patient;
  const sched_param parameters = {};
  ::sched_setscheduler(0, is_patient ? SCHED_BATCH : SCHED_OTHER, &parameters);  // refused: as ever
}

}  // namespace bygone
