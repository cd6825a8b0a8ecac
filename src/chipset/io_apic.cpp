#include "chipset/io_apic.h"

#include "support/saved_fields.h"

namespace bygone::chipset {

namespace {

constexpr std::uint32_t kSavedVersion = 1;
constexpr std::uint32_t kVersionRegister = (IoApic::kPinCount - 1) << 16 | 0x11;

// Redirection entry, section 3.2.4.
constexpr std::uint64_t kDeliveryStatus = 1U << 12;
constexpr std::uint64_t kRemoteIrr = 1U << 14;
constexpr std::uint64_t kLevel = 1U << 15;
constexpr std::uint64_t kMasked = 1U << 16;
constexpr std::uint64_t kLogical = 1U << 11;
constexpr std::uint64_t kEntryWritable = 0xFF0000000001FFFF & ~(kDeliveryStatus | kRemoteIrr);

cpu::InterruptRequest to_request(std::uint64_t entry) {
  cpu::InterruptRequest request;
  request.delivery = static_cast<cpu::DeliveryMode>(entry >> 8 & 7);
  request.destination_mode = (entry & kLogical) != 0 ? cpu::DestinationMode::kLogical : cpu::DestinationMode::kPhysical;
  request.trigger = (entry & kLevel) != 0 ? cpu::TriggerMode::kLevel : cpu::TriggerMode::kEdge;
  request.vector = static_cast<std::uint8_t>(entry);
  request.destination = static_cast<std::uint32_t>(entry >> 56);
  if (request.destination_mode == cpu::DestinationMode::kPhysical && request.destination == 0xFF) request.destination = 0xFFFFFFFF;
  return request;
}

}  // namespace

IoApic::IoApic(Output output) : output_(std::move(output)) {
  for (unsigned i = 0; i < kPinCount; ++i) {
    pins_[i].owner = this;
    pins_[i].number = i;
  }
}

/// Sends the pin's message. Level: once until its EOI. With the lock held.
void IoApic::deliver(unsigned pin) {
  std::uint64_t& entry = entries_[pin];
  if ((entry & kMasked) != 0) return;
  if ((entry & kLevel) != 0) {
    if ((entry & kRemoteIrr) != 0) return;
    entry |= kRemoteIrr;
  }
  output_(to_request(entry));
}

void IoApic::set_pin(unsigned pin, bool asserted) {
  if (pin >= kPinCount) return;
  const std::lock_guard lock(mutex_);
  const bool was_asserted = (asserted_ >> pin & 1U) != 0;
  if (asserted == was_asserted) return;
  asserted_ ^= 1U << pin;
  if (asserted) deliver(pin);  // an edge on a masked pin is lost, a level waits
}

void IoApic::end_of_interrupt(std::uint8_t vector) {
  const std::lock_guard lock(mutex_);
  for (unsigned pin = 0; pin < kPinCount; ++pin) {
    std::uint64_t& entry = entries_[pin];
    if ((entry & (kLevel | kRemoteIrr)) != (kLevel | kRemoteIrr) || static_cast<std::uint8_t>(entry) != vector) continue;
    entry &= ~kRemoteIrr;
    if ((asserted_ >> pin & 1U) != 0) deliver(pin);
  }
}

std::optional<cpu::InterruptRequest> IoApic::route(unsigned pin) const {
  const std::lock_guard lock(mutex_);
  if (pin >= kPinCount || (entries_[pin] & kMasked) != 0) return std::nullopt;
  return to_request(entries_[pin]);
}

std::uint32_t IoApic::load() const {
  switch (selector_) {
    case 0:
    case 2: return static_cast<std::uint32_t>(id_) << 24;
    case 1: return kVersionRegister;
    default: break;
  }
  const unsigned pin = (selector_ - 0x10U) / 2;
  if (selector_ < 0x10 || pin >= kPinCount) return 0xFFFFFFFF;
  return static_cast<std::uint32_t>(selector_ % 2 == 0 ? entries_[pin] : entries_[pin] >> 32);
}

std::optional<unsigned> IoApic::store(std::uint32_t value) {
  if (selector_ == 0) id_ = static_cast<std::uint8_t>(value >> 24 & 0xF);
  const unsigned pin = (selector_ - 0x10U) / 2;
  if (selector_ < 0x10 || pin >= kPinCount) return std::nullopt;
  std::uint64_t& entry = entries_[pin];
  const std::uint64_t read_only = entry & ~kEntryWritable;
  const bool is_low_half = selector_ % 2 == 0;
  const std::uint64_t wanted = is_low_half ? (entry & 0xFFFFFFFF00000000) | value : (entry & 0xFFFFFFFF) | static_cast<std::uint64_t>(value) << 32;
  entry = (wanted & kEntryWritable) | read_only;
  if ((entry & kLevel) == 0) {
    entry &= ~kRemoteIrr;  // guests turn a stuck level input into an edge and back to free it
  } else if ((asserted_ >> pin & 1U) != 0) {
    deliver(pin);  // unmasked while asserted
  }
  return pin;
}

std::uint64_t IoApic::read_mmio(std::uint64_t offset, std::uint8_t) {
  const std::lock_guard lock(mutex_);
  if (offset == 0x00) return selector_;
  if (offset == 0x10) return load();
  return 0xFFFFFFFF;
}

void IoApic::write_mmio(std::uint64_t offset, std::uint8_t, std::uint64_t value) {
  std::optional<unsigned> changed;
  {
    const std::lock_guard lock(mutex_);
    if (offset == 0x00) selector_ = static_cast<std::uint8_t>(value);
    if (offset == 0x10) changed = store(static_cast<std::uint32_t>(value));
  }
  if (changed && route_observer_) route_observer_(*changed);
}

nlohmann::json IoApic::save() const {
  const std::lock_guard lock(mutex_);
  return {{"version", kSavedVersion}, {"selector", selector_}, {"id", id_}, {"entries", entries_}, {"asserted", asserted_}};
}

Result<void> IoApic::restore(const nlohmann::json& state) {
  SavedFields fields(state, "the I/O APIC", kSavedVersion);
  std::uint8_t selector = 0, id = 0;
  std::array<std::uint64_t, kPinCount> entries = {};
  std::uint32_t asserted = 0;
  fields.read("selector", selector);
  fields.read("id", id);
  fields.read("entries", entries);
  fields.read("asserted", asserted);
  for (const std::uint64_t entry : entries) {
    fields.require((entry & ~(kEntryWritable | kDeliveryStatus | kRemoteIrr)) == 0, "a redirection entry has reserved bits");
  }
  fields.require(asserted >> kPinCount == 0, "there are too many pins");
  BYGONE_CHECK(fields.finish());
  {
    const std::lock_guard lock(mutex_);
    selector_ = selector;
    id_ = id & 0xF;
    entries_ = entries;
    asserted_ = asserted;
  }
  for (unsigned pin = 0; pin < kPinCount; ++pin) {
    if (route_observer_) route_observer_(pin);
  }
  return {};
}

void IoApic::reset() {
  const std::lock_guard lock(mutex_);
  selector_ = 0;
  id_ = 0;
  entries_ = filled_with_masked();
  asserted_ = 0;
}

nlohmann::json IoApic::inspect() const {
  const std::lock_guard lock(mutex_);
  nlohmann::json pins = nlohmann::json::object();
  for (unsigned pin = 0; pin < kPinCount; ++pin) {
    if ((entries_[pin] & kMasked) != 0) continue;
    pins[std::to_string(pin)] = {{"vector", entries_[pin] & 0xFF},
                                 {"destination", entries_[pin] >> 56},
                                 {"trigger", (entries_[pin] & kLevel) != 0 ? "level" : "edge"},
                                 {"asserted", (asserted_ >> pin & 1U) != 0},
                                 {"in_service", (entries_[pin] & kRemoteIrr) != 0}};
  }
  return {{"pins", pins}};
}

}  // namespace bygone::chipset
