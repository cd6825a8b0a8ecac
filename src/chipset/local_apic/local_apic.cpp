#include "chipset/local_apic/local_apic.h"

#include <algorithm>

namespace bygone::chipset {

using cpu::DeliveryMode;
using cpu::DestinationMode;
using cpu::TriggerMode;
using spec::x86::ApicRegister;
using spec::x86::ApicTimerMode;
using spec::x86::IcrShorthand;

namespace {

constexpr std::uint32_t kVersion = 0x00050014;  // integrated APIC, six local vectors, no EOI-broadcast suppression
constexpr std::uint64_t kBaseWritable = 0x000FFFFFFFFFF000 | spec::x86::kApicBaseIsBootProcessor |
                                        spec::x86::kApicBaseX2Apic | spec::x86::kApicBaseEnabled;
// Where saved state keeps the vectors that bypass in-service, one word each.
constexpr std::array<std::uint16_t, 8> kAutoEoiWords = {0x290, 0x2A0, 0x2B0, 0x2C0, 0x2D0, 0x2E0, 0x3A0, 0x3B0};
constexpr std::array kLocalVectors = {ApicRegister::kLvtTimer, ApicRegister::kLvtThermal, ApicRegister::kLvtPerformance,
                                      ApicRegister::kLvtLint0, ApicRegister::kLvtLint1,   ApicRegister::kLvtError};

constexpr std::uint32_t offset_of(ApicRegister which) { return static_cast<std::uint32_t>(which); }

/// The index in a group of eight registers that starts at `first`; nullopt: outside it.
constexpr std::optional<std::size_t> index_in(ApicRegister first, std::uint32_t offset) {
  if (offset < offset_of(first) || offset >= offset_of(first) + 0x80) return std::nullopt;
  return (offset - offset_of(first)) / 16;
}

/// The bits of a local vector table entry that software may write.
constexpr std::uint32_t writable_bits(std::uint32_t offset) {
  using namespace spec::x86;
  constexpr std::uint32_t kDelivery = 7U << kLvtDeliveryShift;
  switch (static_cast<ApicRegister>(offset)) {
    case ApicRegister::kLvtTimer: return kLvtVectorMask | kLvtMasked | 3U << kLvtTimerModeShift;
    case ApicRegister::kLvtLint0:
    case ApicRegister::kLvtLint1: return kLvtVectorMask | kDelivery | kLvtActiveLow | kLvtLevel | kLvtMasked;
    case ApicRegister::kLvtError: return kLvtVectorMask | kLvtMasked;
    default: return kLvtVectorMask | kDelivery | kLvtMasked;
  }
}

constexpr std::uint32_t x2apic_logical_id(std::uint32_t id) { return (id >> 4) << 16 | 1U << (id & 0xF); }

}  // namespace

LocalApicModel::LocalApicModel(LocalApicModelSet& set, cpu::LocalApicHost& host, TimerService& timers, cpu::VpIndex vp)
    : set_(set), host_(host), clock_(timers.clock()), vp_(vp), timer_(timers.create_timer([this] { on_timer(); })) {
  reset(false);
}

// ---- reset and saved state ----

void LocalApicModel::reset_registers() {
  registers_ = {};
  requested_.clear_all();
  in_service_.clear_all();
  level_.clear_all();
  auto_eoi_.clear_all();
  pending_errors_ = 0;
  at(ApicRegister::kSpuriousVector) = 0xFF;
  at(ApicRegister::kDestinationFormat) = 0xFFFFFFFF;
  for (const ApicRegister entry : kLocalVectors) at(entry) = spec::x86::kLvtMasked;
  deadline_ = 0;
  stop_timer();
}

void LocalApicModel::reset(bool is_init) {
  const std::lock_guard lock(mutex_);
  if (!is_init) {
    base_ = spec::x86::kLocalApicDefaultBase | spec::x86::kApicBaseEnabled |
            (vp_.value == 0 ? spec::x86::kApicBaseIsBootProcessor : 0);
  }
  reset_registers();
  Effects none;
  refresh(none);
}

cpu::LocalApicState LocalApicModel::save() {
  // A count that has come to its end while the timer's thread has not come to it would be lost: zero says "no timer runs".
  on_timer();
  const std::lock_guard lock(mutex_);
  cpu::LocalApicState state{registers_};
  auto word = [&](std::uint32_t offset) -> std::uint32_t& { return state.registers[offset / 16]; };
  for (std::uint32_t i = 0; i < 8; ++i) {
    word(offset_of(ApicRegister::kInService) + i * 16) = in_service_.word(i);
    word(offset_of(ApicRegister::kTriggerMode) + i * 16) = level_.word(i);
    word(offset_of(ApicRegister::kInterruptRequest) + i * 16) = requested_.word(i);
    word(kAutoEoiWords[i]) = auto_eoi_.word(i);
  }
  word(offset_of(ApicRegister::kId)) = is_x2apic() ? vp_.value : vp_.value << 24;
  word(offset_of(ApicRegister::kVersion)) = kVersion;
  word(offset_of(ApicRegister::kProcessorPriority)) = current_priority();
  word(offset_of(ApicRegister::kCurrentCount)) = remaining_count();
  if (is_x2apic()) word(offset_of(ApicRegister::kLogicalDestination)) = x2apic_logical_id(vp_.value);
  return state;
}

void LocalApicModel::restore(const cpu::LocalApicState& state) {
  Effects effects;
  {
    const std::lock_guard lock(mutex_);
    const auto word = [&](std::uint32_t offset) { return state.registers[offset / 16]; };
    registers_ = state.registers;
    for (std::uint32_t i = 0; i < 8; ++i) {
      in_service_.set_word(i, word(offset_of(ApicRegister::kInService) + i * 16));
      level_.set_word(i, word(offset_of(ApicRegister::kTriggerMode) + i * 16));
      requested_.set_word(i, word(offset_of(ApicRegister::kInterruptRequest) + i * 16));
      auto_eoi_.set_word(i, word(kAutoEoiWords[i]));
      registers_[kAutoEoiWords[i] / 16] = 0;
    }
    at(ApicRegister::kTaskPriority) &= 0xFF;
    at(ApicRegister::kInterruptCommandLow) &= spec::x86::kIcrWritable;
    for (const ApicRegister entry : kLocalVectors) at(entry) &= writable_bits(offset_of(entry));
    at(ApicRegister::kDivideConfiguration) &= 0xB;
    stop_timer();
    if (timer_mode() != ApicTimerMode::kTscDeadline) {
      const std::uint32_t count = word(offset_of(ApicRegister::kCurrentCount));
      // A periodic timer never rests at zero; a state from elsewhere may have caught it there.
      start_timer(count == 0 && timer_mode() == ApicTimerMode::kPeriodic ? at(ApicRegister::kInitialCount) : count);
    }
    refresh(effects);
  }
  carry_out(effects);
}

// ---- priorities ----

bool LocalApicModel::is_software_enabled() const {
  return (base_ & spec::x86::kApicBaseEnabled) != 0 &&
         (at(ApicRegister::kSpuriousVector) & spec::x86::kSpuriousSoftwareEnable) != 0;
}

std::uint8_t LocalApicModel::current_priority() const {  // PPR, 11.8.3.1
  const auto task = static_cast<std::uint8_t>(at(ApicRegister::kTaskPriority));
  const std::uint8_t service = in_service_.highest().value_or(0);
  return (task >> 4) >= (service >> 4) ? task : static_cast<std::uint8_t>(service & 0xF0);
}

/// Recomputes what pending() answers; asks for the processor's attention when there is something new for it.
void LocalApicModel::refresh(Effects& effects) {
  std::int16_t next = -1;
  if ((base_ & spec::x86::kApicBaseEnabled) != 0) {
    const auto candidate = requested_.highest();
    if (candidate && (*candidate >> 4) > (current_priority() >> 4)) next = *candidate;
  }
  const std::int16_t before = deliverable_.exchange(next, std::memory_order_release);
  if (next >= 0 && next != before) effects.notify = true;
}

std::optional<std::uint8_t> LocalApicModel::pending() {
  const std::int16_t vector = deliverable_.load(std::memory_order_acquire);
  return vector < 0 ? std::nullopt : std::optional(static_cast<std::uint8_t>(vector));
}

std::optional<std::uint8_t> LocalApicModel::acknowledge() {
  if (deliverable_.load(std::memory_order_acquire) < 0) return std::nullopt;
  const std::lock_guard lock(mutex_);
  const std::int16_t found = deliverable_.load(std::memory_order_relaxed);
  if (found < 0) return std::nullopt;
  const auto vector = static_cast<std::uint8_t>(found);
  requested_.clear(vector);
  if (auto_eoi_.test(vector)) {
    auto_eoi_.clear(vector);
  } else {
    in_service_.set(vector);
  }
  Effects ignored;  // the caller is the processor itself and asks again
  refresh(ignored);
  return vector;
}

std::uint8_t LocalApicModel::processor_priority() const {
  const std::lock_guard lock(mutex_);
  return current_priority();
}

bool LocalApicModel::is_accepting() const {
  const std::lock_guard lock(mutex_);
  return is_software_enabled();
}

std::uint64_t LocalApicModel::read_cr8() {
  const std::lock_guard lock(mutex_);
  return at(ApicRegister::kTaskPriority) >> 4;
}

void LocalApicModel::write_cr8(std::uint64_t value) {
  Effects effects;
  {
    const std::lock_guard lock(mutex_);
    at(ApicRegister::kTaskPriority) = static_cast<std::uint32_t>(value & 0xF) << 4;
    refresh(effects);
  }
  carry_out(effects);
}

// ---- interrupts in ----

void LocalApicModel::request(std::uint8_t vector, TriggerMode trigger, bool auto_eoi, Effects& effects) {
  if (!is_software_enabled()) return;
  if (vector < spec::x86::kFirstApicVector) {
    raise_error(spec::x86::kErrorReceiveIllegalVector, effects);
    return;
  }
  // A request that is already there keeps its way of ending unless one that needs an EOI joins it.
  auto_eoi_.assign(vector, auto_eoi && (!requested_.test(vector) || auto_eoi_.test(vector)));
  requested_.set(vector);
  level_.assign(vector, trigger == TriggerMode::kLevel);
  refresh(effects);
}

void LocalApicModel::accept(DeliveryMode delivery, std::uint8_t vector, TriggerMode trigger) {
  switch (delivery) {
    case DeliveryMode::kFixed:
    case DeliveryMode::kLowestPriority:
    case DeliveryMode::kExtInt: {  // there is no 8259: an ExtINT message carries its vector
      Effects effects;
      {
        const std::lock_guard lock(mutex_);
        request(vector, trigger, false, effects);
      }
      carry_out(effects);
      return;
    }
    case DeliveryMode::kNmi: host_.deliver_nmi(vp_); return;
    case DeliveryMode::kInit: host_.deliver_init(vp_); return;
    case DeliveryMode::kStartUp: host_.deliver_start_up(vp_, vector); return;
    case DeliveryMode::kSmi: return;  // the machine has no system management mode
  }
}

void LocalApicModel::accept_auto_eoi(std::uint8_t vector) {
  Effects effects;
  {
    const std::lock_guard lock(mutex_);
    request(vector, TriggerMode::kEdge, true, effects);
  }
  carry_out(effects);
}

void LocalApicModel::raise_local_pin(unsigned pin) {
  Effects effects;
  {
    const std::lock_guard lock(mutex_);
    raise_local(pin == 0 ? ApicRegister::kLvtLint0 : ApicRegister::kLvtLint1, effects);
  }
  carry_out(effects);
}

void LocalApicModel::raise_local(ApicRegister entry, Effects& effects) {
  const std::uint32_t value = at(entry);
  if ((value & spec::x86::kLvtMasked) != 0) return;
  const auto delivery = static_cast<DeliveryMode>(value >> spec::x86::kLvtDeliveryShift & 7);
  switch (delivery) {
    case DeliveryMode::kFixed:
    case DeliveryMode::kExtInt:
      request(static_cast<std::uint8_t>(value), TriggerMode::kEdge, false, effects);
      break;
    case DeliveryMode::kNmi:
    case DeliveryMode::kInit: effects.local_delivery = delivery; break;
    default: break;
  }
}

void LocalApicModel::raise_error(std::uint32_t bits, Effects& effects) {
  const bool is_new = (pending_errors_ & bits) != bits;
  pending_errors_ |= bits;
  // An error vector that is itself illegal must not raise errors without end.
  if (is_new && static_cast<std::uint8_t>(at(ApicRegister::kLvtError)) >= spec::x86::kFirstApicVector) {
    raise_local(ApicRegister::kLvtError, effects);
  }
}

void LocalApicModel::end_of_interrupt(Effects& effects) {
  const auto vector = in_service_.highest();
  if (!vector) return;
  in_service_.clear(*vector);
  if (level_.test(*vector)) effects.level_eoi = vector;
  refresh(effects);
}

void LocalApicModel::carry_out(const Effects& effects) {
  if (effects.level_eoi) host_.level_eoi(*effects.level_eoi);
  if (effects.local_delivery == DeliveryMode::kNmi) host_.deliver_nmi(vp_);
  if (effects.local_delivery == DeliveryMode::kInit) host_.deliver_init(vp_);
  if (effects.command) send(*effects.command);
  if (effects.notify) host_.notify(vp_);
}

// ---- interrupts out ----

bool LocalApicModel::is_addressed_by(DestinationMode mode, std::uint32_t destination) const {
  const std::lock_guard lock(mutex_);
  if ((base_ & spec::x86::kApicBaseEnabled) == 0) {
    // INIT and start-up reach a processor whose APIC was turned off only by a broadcast or its initial id.
    return mode == DestinationMode::kPhysical && destination == vp_.value;
  }
  if (destination == 0xFFFFFFFF) return true;
  if (mode == DestinationMode::kPhysical) return destination == vp_.value || destination == 0xFF;
  if (is_x2apic()) {
    const std::uint32_t own = x2apic_logical_id(vp_.value);
    return (own >> 16) == (destination >> 16) && (own & destination & 0xFFFF) != 0;
  }
  if (destination == 0xFF) return true;
  const std::uint32_t own = at(ApicRegister::kLogicalDestination) >> 24;
  if (at(ApicRegister::kDestinationFormat) >> 28 == 0xF) return (own & destination & 0xFF) != 0;  // flat model
  return (own >> 4) == (destination >> 4 & 0xF) && (own & destination & 0xF) != 0;                // cluster model
}

void LocalApicModel::send(std::uint64_t command) {
  const auto low = static_cast<std::uint32_t>(command);
  cpu::InterruptRequest request;
  request.delivery = static_cast<DeliveryMode>(low >> spec::x86::kIcrDeliveryShift & 7);
  request.destination_mode = (low & spec::x86::kIcrLogical) != 0 ? DestinationMode::kLogical : DestinationMode::kPhysical;
  request.vector = static_cast<std::uint8_t>(low);
  request.destination = static_cast<std::uint32_t>(command >> 32);
  // INIT level de-assert does nothing on these processors (11.6.1).
  if (request.delivery == DeliveryMode::kInit && (low & spec::x86::kIcrLevel) != 0 && (low & spec::x86::kIcrAssert) == 0) return;
  const bool has_vector = request.delivery == DeliveryMode::kFixed || request.delivery == DeliveryMode::kLowestPriority;
  if (has_vector && request.vector < spec::x86::kFirstApicVector) {
    Effects effects;
    {
      const std::lock_guard lock(mutex_);
      raise_error(spec::x86::kErrorSendIllegalVector, effects);
    }
    carry_out(effects);
    return;
  }
  switch (static_cast<IcrShorthand>(low >> spec::x86::kIcrShorthandShift & 3)) {
    case IcrShorthand::kNone: set_.deliver(request, nullptr); return;
    case IcrShorthand::kSelf: accept(request.delivery, request.vector, TriggerMode::kEdge); return;
    case IcrShorthand::kAll:
      request.destination_mode = DestinationMode::kPhysical;
      request.destination = 0xFFFFFFFF;
      set_.deliver(request, nullptr);
      return;
    case IcrShorthand::kAllButSelf:
      request.destination_mode = DestinationMode::kPhysical;
      request.destination = 0xFFFFFFFF;
      set_.deliver(request, this);
      return;
  }
}

// ---- registers ----

std::optional<std::uint32_t> LocalApicModel::load(std::uint32_t offset) {
  if (const auto i = index_in(ApicRegister::kInService, offset)) return in_service_.word(*i);
  if (const auto i = index_in(ApicRegister::kTriggerMode, offset)) return level_.word(*i);
  if (const auto i = index_in(ApicRegister::kInterruptRequest, offset)) return requested_.word(*i);
  switch (static_cast<ApicRegister>(offset)) {
    case ApicRegister::kId: return is_x2apic() ? vp_.value : vp_.value << 24;
    case ApicRegister::kVersion: return kVersion;
    case ApicRegister::kProcessorPriority: return current_priority();
    case ApicRegister::kCurrentCount: return remaining_count();
    case ApicRegister::kLogicalDestination: return is_x2apic() ? x2apic_logical_id(vp_.value) : at(ApicRegister::kLogicalDestination);
    case ApicRegister::kArbitrationPriority:
    case ApicRegister::kRemoteRead:
    case ApicRegister::kDestinationFormat:
    case ApicRegister::kInterruptCommandHigh:
      if (is_x2apic()) return std::nullopt;
      [[fallthrough]];
    case ApicRegister::kTaskPriority:
    case ApicRegister::kSpuriousVector:
    case ApicRegister::kErrorStatus:
    case ApicRegister::kInterruptCommandLow:
    case ApicRegister::kLvtTimer:
    case ApicRegister::kLvtThermal:
    case ApicRegister::kLvtPerformance:
    case ApicRegister::kLvtLint0:
    case ApicRegister::kLvtLint1:
    case ApicRegister::kLvtError:
    case ApicRegister::kInitialCount:
    case ApicRegister::kDivideConfiguration: return registers_[offset / 16];
    default: return std::nullopt;
  }
}

void LocalApicModel::store_local_vector(std::uint32_t offset, std::uint32_t value, Effects& effects) {
  const std::uint32_t writable = writable_bits(offset);
  if (is_x2apic() && (value & ~(writable | spec::x86::kLvtDeliveryPending | spec::x86::kLvtRemoteIrr)) != 0) {
    effects.fault = true;
    return;
  }
  const ApicTimerMode old_mode = timer_mode();
  value &= writable;
  if (!is_software_enabled()) value |= spec::x86::kLvtMasked;  // 11.4.7.2
  registers_[offset / 16] = value;
  if (static_cast<ApicRegister>(offset) != ApicRegister::kLvtTimer) return;
  const ApicTimerMode new_mode = timer_mode();
  // Moving into or out of deadline mode disarms the timer (11.5.4.1).
  if ((old_mode == ApicTimerMode::kTscDeadline) != (new_mode == ApicTimerMode::kTscDeadline)) {
    deadline_ = 0;
    at(ApicRegister::kInitialCount) = 0;
    stop_timer();
  }
}

void LocalApicModel::store_error_status() {
  at(ApicRegister::kErrorStatus) = pending_errors_;
  pending_errors_ = 0;
}

void LocalApicModel::store(std::uint32_t offset, std::uint32_t value, Effects& effects) {
  switch (static_cast<ApicRegister>(offset)) {
    case ApicRegister::kTaskPriority:
      if (is_x2apic() && value > 0xFF) break;
      at(ApicRegister::kTaskPriority) = value & 0xFF;
      refresh(effects);
      return;
    case ApicRegister::kEoi:
      if (is_x2apic() && value != 0) break;
      end_of_interrupt(effects);
      return;
    case ApicRegister::kLogicalDestination:
      if (is_x2apic()) break;
      at(ApicRegister::kLogicalDestination) = value & 0xFF000000;
      return;
    case ApicRegister::kDestinationFormat:
      if (is_x2apic()) break;
      at(ApicRegister::kDestinationFormat) = value | 0x0FFFFFFF;
      return;
    case ApicRegister::kSpuriousVector:
      if (is_x2apic() && (value & ~0x1FFU) != 0) break;
      at(ApicRegister::kSpuriousVector) = value & 0x1FF;
      if ((value & spec::x86::kSpuriousSoftwareEnable) == 0) {
        for (const ApicRegister entry : kLocalVectors) at(entry) |= spec::x86::kLvtMasked;
      }
      return;
    case ApicRegister::kErrorStatus:
      if (is_x2apic() && value != 0) break;
      store_error_status();
      return;
    case ApicRegister::kInterruptCommandLow:
      at(ApicRegister::kInterruptCommandLow) = value & spec::x86::kIcrWritable;
      effects.command = static_cast<std::uint64_t>(at(ApicRegister::kInterruptCommandHigh) >> 24) << 32 |
                        (value & spec::x86::kIcrWritable);
      // Eight bits cannot name more; the all-ones of a physical broadcast keeps its meaning.
      if (*effects.command >> 32 == 0xFF) *effects.command |= 0xFFFFFFFF00000000;
      return;
    case ApicRegister::kInterruptCommandHigh: at(ApicRegister::kInterruptCommandHigh) = value & 0xFF000000; return;
    case ApicRegister::kLvtTimer:
    case ApicRegister::kLvtThermal:
    case ApicRegister::kLvtPerformance:
    case ApicRegister::kLvtLint0:
    case ApicRegister::kLvtLint1:
    case ApicRegister::kLvtError: store_local_vector(offset, value, effects); return;
    case ApicRegister::kInitialCount:
      if (timer_mode() == ApicTimerMode::kTscDeadline) return;  // ignored in that mode
      at(ApicRegister::kInitialCount) = value;
      start_timer(value);
      return;
    case ApicRegister::kDivideConfiguration: {
      if (is_x2apic() && (value & ~0xBU) != 0) break;
      const std::uint32_t remaining = remaining_count();
      at(ApicRegister::kDivideConfiguration) = value & 0xB;
      if (is_counting_) start_timer(remaining);
      return;
    }
    case ApicRegister::kSelfIpi:
      if (!is_x2apic() || value > 0xFF) break;
      if (value < spec::x86::kFirstApicVector) {
        raise_error(spec::x86::kErrorSendIllegalVector, effects);
      } else {
        request(static_cast<std::uint8_t>(value), TriggerMode::kEdge, false, effects);
      }
      return;
    case ApicRegister::kId:
    case ApicRegister::kVersion:
    case ApicRegister::kCurrentCount:
      if (!is_x2apic()) return;  // read-only
      break;
    default: break;
  }
  if (is_x2apic()) {
    effects.fault = true;
  } else {
    raise_error(spec::x86::kErrorIllegalRegister, effects);
  }
}

std::uint32_t LocalApicModel::read_register(std::uint32_t offset) {
  Effects effects;
  std::uint32_t value = 0;
  {
    const std::lock_guard lock(mutex_);
    offset &= 0xFF0;
    if (const auto found = load(offset)) {
      value = *found;
    } else if (offset != offset_of(ApicRegister::kEoi) && offset != offset_of(ApicRegister::kSelfIpi)) {
      raise_error(spec::x86::kErrorIllegalRegister, effects);
    }
  }
  carry_out(effects);
  return value;
}

void LocalApicModel::write_register(std::uint32_t offset, std::uint32_t value) {
  Effects effects;
  {
    const std::lock_guard lock(mutex_);
    store(offset & 0xFF0, value, effects);
  }
  carry_out(effects);
}

std::optional<std::uint64_t> LocalApicModel::mmio_base() const {
  const std::lock_guard lock(mutex_);
  if ((base_ & spec::x86::kApicBaseEnabled) == 0 || is_x2apic()) return std::nullopt;
  return base_ & 0x000FFFFFFFFFF000;
}

std::optional<std::uint64_t> LocalApicModel::read_msr(std::uint32_t index) {
  const std::lock_guard lock(mutex_);
  if (index == spec::x86::kMsrApicBase) return base_;
  if (index == spec::x86::kMsrTscDeadline) return timer_mode() == ApicTimerMode::kTscDeadline ? deadline_ : 0;
  if (index < spec::x86::kX2ApicMsrFirst || index > spec::x86::kX2ApicMsrLast || !is_x2apic()) return std::nullopt;
  const std::uint32_t offset = (index - spec::x86::kX2ApicMsrFirst) * 16;
  if (offset > offset_of(ApicRegister::kSelfIpi)) return std::nullopt;
  if (offset == offset_of(ApicRegister::kInterruptCommandLow)) {
    return static_cast<std::uint64_t>(at(ApicRegister::kInterruptCommandHigh)) << 32 | at(ApicRegister::kInterruptCommandLow);
  }
  const auto value = load(offset);
  return value ? std::optional<std::uint64_t>(*value) : std::nullopt;
}

bool LocalApicModel::write_msr(std::uint32_t index, std::uint64_t value) {
  Effects effects;
  {
    const std::lock_guard lock(mutex_);
    if (index == spec::x86::kMsrApicBase) {
      if (!write_base(value)) return false;
      refresh(effects);
    } else if (index == spec::x86::kMsrTscDeadline) {
      if (timer_mode() != ApicTimerMode::kTscDeadline) return true;  // ignored (11.5.4.1)
      deadline_ = value;
      arm_deadline(effects);
    } else if (index < spec::x86::kX2ApicMsrFirst || index > spec::x86::kX2ApicMsrLast || !is_x2apic()) {
      return false;
    } else if (const std::uint32_t offset = (index - spec::x86::kX2ApicMsrFirst) * 16;
               offset == offset_of(ApicRegister::kInterruptCommandLow)) {
      const auto low = static_cast<std::uint32_t>(value);
      if ((low & ~(spec::x86::kIcrWritable | spec::x86::kIcrDeliveryPending)) != 0) return false;
      at(ApicRegister::kInterruptCommandLow) = low & spec::x86::kIcrWritable;
      at(ApicRegister::kInterruptCommandHigh) = static_cast<std::uint32_t>(value >> 32);
      effects.command = value;
    } else {
      if (value >> 32 != 0 || offset > offset_of(ApicRegister::kSelfIpi) ||
          offset == offset_of(ApicRegister::kInterruptCommandHigh)) {
        return false;
      }
      store(offset, static_cast<std::uint32_t>(value), effects);
    }
  }
  carry_out(effects);
  return !effects.fault;
}

bool LocalApicModel::write_base(std::uint64_t value) {  // 11.12.5: the legal moves between modes
  if ((value & ~kBaseWritable) != 0) return false;
  const bool enable = (value & spec::x86::kApicBaseEnabled) != 0;
  const bool x2apic = (value & spec::x86::kApicBaseX2Apic) != 0;
  const bool was_enabled = (base_ & spec::x86::kApicBaseEnabled) != 0;
  if (x2apic && !enable) return false;
  if (is_x2apic() && enable && !x2apic) return false;
  if (!was_enabled && x2apic) return false;
  const bool enters_x2apic = x2apic && !is_x2apic();
  base_ = value;
  if (was_enabled && !enable) reset_registers();
  if (enters_x2apic) {
    at(ApicRegister::kInterruptCommandHigh) = 0;
    at(ApicRegister::kLogicalDestination) = 0;
    at(ApicRegister::kDestinationFormat) = 0xFFFFFFFF;
  }
  return true;
}

}  // namespace bygone::chipset
