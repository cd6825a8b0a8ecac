#include "hyperv/reference_time.h"

#include "spec/tlfs/registers.h"
#include "support/multiply_divide.h"

namespace bygone::hyperv {

ReferenceTime::ReferenceTime(const cpu::Partition& partition, const Clock& clock, bool tsc_is_stable,
                             cpu::HypervisorFacilities* engine)
    : partition_(partition), clock_(clock), engine_(engine) {
  if (engine_ != nullptr) return;
  const std::uint64_t frequency = partition.tsc_frequency();
  // Below 10 MHz the scale would not fit 64 bits; no processor is that slow.
  if (tsc_is_stable && frequency > spec::tlfs::kReferenceFrequency) {
    scale_ = static_cast<std::uint64_t>((static_cast<Uint128>(spec::tlfs::kReferenceFrequency) << 64) / frequency);
  }
  offset_ = 0 - raw();
}

std::uint64_t ReferenceTime::raw() const {
  if (engine_ != nullptr) return engine_->reference_time();
  return is_from_tsc() ? multiply_high(partition_.guest_tsc(), scale_) : static_cast<std::uint64_t>(clock_.now().count()) / 100;
}

std::uint64_t ReferenceTime::now() const {
  const std::uint64_t frozen = frozen_.load(std::memory_order_acquire);
  return frozen != kRunning ? frozen : raw() + offset();
}

void ReferenceTime::pause() {
  if (frozen_.load(std::memory_order_acquire) == kRunning) frozen_.store(now(), std::memory_order_release);
}

Result<void> ReferenceTime::go_on_from(std::uint64_t time) {
  if (engine_ != nullptr) return engine_->set_reference_time(time);
  offset_.store(time - raw(), std::memory_order_release);
  return {};
}

Result<void> ReferenceTime::resume() {
  const std::uint64_t frozen = frozen_.load(std::memory_order_acquire);
  if (frozen == kRunning) return {};
  auto outcome = go_on_from(frozen);
  frozen_.store(kRunning, std::memory_order_release);
  return outcome;
}

Result<void> ReferenceTime::set(std::uint64_t time) {
  if (frozen_.load(std::memory_order_acquire) == kRunning) return go_on_from(time);
  frozen_.store(time, std::memory_order_release);
  return {};
}

}  // namespace bygone::hyperv
