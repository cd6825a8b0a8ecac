// Routing of interrupt messages to the processors that they name (Intel SDM volume 3, 11.6.2).
#include "chipset/local_apic/local_apic.h"

namespace bygone::chipset {

using cpu::DeliveryMode;
using cpu::DestinationMode;

LocalApicModelSet::LocalApicModelSet(cpu::LocalApicHost& host, TimerService& timers, std::uint32_t count) {
  apics_.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    apics_.push_back(std::make_unique<LocalApicModel>(*this, host, timers, cpu::VpIndex{i}));
  }
}

void LocalApicModelSet::request(const cpu::InterruptRequest& request) { deliver(request, nullptr); }

void LocalApicModelSet::deliver(const cpu::InterruptRequest& request, const LocalApicModel* except) {
  if (request.delivery == DeliveryMode::kLowestPriority) {
    deliver_lowest(request);
    return;
  }
  // The usual case by far: one processor by its id.
  if (request.destination_mode == DestinationMode::kPhysical && request.destination < apics_.size()) {
    LocalApicModel& target = *apics_[request.destination];
    if (&target != except) target.accept(request.delivery, request.vector, request.trigger);
    return;
  }
  for (const auto& apic : apics_) {
    if (apic.get() == except || !apic->is_addressed_by(request.destination_mode, request.destination)) continue;
    apic->accept(request.delivery, request.vector, request.trigger);
  }
}

void LocalApicModelSet::deliver_lowest(const cpu::InterruptRequest& request) {
  LocalApicModel* best = nullptr;
  std::uint8_t best_priority = 0;
  // Starting behind the last choice spreads interrupts over processors of equal priority.
  const std::uint32_t count = static_cast<std::uint32_t>(apics_.size());
  const std::uint32_t start = next_lowest_.load(std::memory_order_relaxed);
  std::uint32_t chosen = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t index = (start + i) % count;
    LocalApicModel& apic = *apics_[index];
    if (!apic.is_accepting() || !apic.is_addressed_by(request.destination_mode, request.destination)) continue;
    const std::uint8_t priority = apic.processor_priority();
    if (best != nullptr && priority >= best_priority) continue;
    best = &apic;
    best_priority = priority;
    chosen = index;
  }
  if (best == nullptr) return;
  next_lowest_.store((chosen + 1) % count, std::memory_order_relaxed);
  best->accept(DeliveryMode::kFixed, request.vector, request.trigger);
}

cpu::LocalApicFactory local_apic_factory(TimerService& timers) {
  return [&timers](cpu::LocalApicHost& host, std::uint32_t count) -> std::unique_ptr<cpu::LocalApicSet> {
    return std::make_unique<LocalApicModelSet>(host, timers, count);
  };
}

}  // namespace bygone::chipset
