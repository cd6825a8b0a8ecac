#include "chipset/power_management.h"

#include <optional>

#include "spec/gen2/platform.h"
#include "support/multiply_divide.h"
#include "support/saved_fields.h"

namespace bygone::chipset {

namespace {

namespace gen2 = spec::gen2;

constexpr std::uint32_t kSavedVersion = 1;
constexpr std::uint64_t kNanosecondsPerSecond = 1'000'000'000;

// PM1 status and enable, ACPI 6.5 tables 4.11 and 4.12.
constexpr std::uint16_t kTimerStatus = 1U << 0;
constexpr std::uint16_t kPowerButton = 1U << 8;
constexpr std::uint16_t kStatusClearable = 0x8731;
constexpr std::uint16_t kEnableWritable = 0x4721;
// PM1 control, table 4.13. SCI_EN is set for good: the machine has no legacy mode.
constexpr std::uint16_t kSciEnable = 1U << 0;
constexpr std::uint16_t kSleepEnable = 1U << 13;
constexpr std::uint16_t kControlWritable = 0x1C06;

}  // namespace

PowerManagement::PowerManagement(TimerService& timers, InterruptLine& line, Callbacks callbacks)
    : clock_(timers.clock()), line_(line), callbacks_(std::move(callbacks)),
      carry_timer_(timers.create_timer([this] { on_timer_carry(); })) {}

std::uint64_t PowerManagement::timer_ticks() const {
  return multiply_divide(static_cast<std::uint64_t>(clock_.now().count()), kTimerFrequency, kNanosecondsPerSecond);
}

/// Brings TMR_STS up to date: it is set each time that bit 31 of the timer toggles.
void PowerManagement::note_timer_carry() {
  const std::uint64_t carries = timer_ticks() >> 31;
  if (carries != seen_carries_) pm1_status_ |= kTimerStatus;
  seen_carries_ = carries;
}

void PowerManagement::arm_timer_carry() {
  if ((pm1_enable_ & kTimerStatus) == 0) {
    carry_timer_->disarm();
    return;
  }
  const std::uint64_t next = ((timer_ticks() >> 31) + 1) << 31;
  carry_timer_->arm(MachineTime(static_cast<std::int64_t>(multiply_divide(next, kNanosecondsPerSecond, kTimerFrequency) + 1)));
}

void PowerManagement::on_timer_carry() {
  const std::lock_guard lock(mutex_);
  note_timer_carry();
  arm_timer_carry();
  update_line();
}

void PowerManagement::update_line() { line_.set_level((pm1_status_ & pm1_enable_) != 0 || (gpe_status_ & gpe_enable_) != 0); }

void PowerManagement::raise(GeneralEvent event) {
  const std::lock_guard lock(mutex_);
  gpe_status_ = static_cast<std::uint16_t>(gpe_status_ | 1U << static_cast<unsigned>(event));
  update_line();
}

void PowerManagement::press_power_button() {
  const std::lock_guard lock(mutex_);
  pm1_status_ |= kPowerButton;
  update_line();
}

std::uint8_t PowerManagement::read_byte(std::uint16_t offset) {
  const auto byte = [&](std::uint16_t value) { return static_cast<std::uint8_t>(value >> (offset % 2 * 8)); };
  switch (offset & ~1U) {
    case gen2::kPm1EventOffset: note_timer_carry(); return byte(pm1_status_);
    case gen2::kPm1EventOffset + 2: return byte(pm1_enable_);
    case gen2::kPm1ControlOffset: return byte(static_cast<std::uint16_t>(pm1_control_ | kSciEnable));
    case gen2::kGpe0Offset: return byte(gpe_status_);
    case gen2::kGpe0Offset + 2: return byte(gpe_enable_);
    default: return offset < gen2::kPowerPorts.count ? 0 : 0xFF;
  }
}

void PowerManagement::write_byte(std::uint16_t offset, std::uint8_t value) {
  const unsigned shift = offset % 2 * 8;
  const auto wide = static_cast<std::uint16_t>(value << shift);
  const auto merged = [&](std::uint16_t old, std::uint16_t writable) {
    const auto mask = static_cast<std::uint16_t>((0xFFU << shift) & writable);
    return static_cast<std::uint16_t>((old & ~mask) | (wide & mask));
  };
  switch (offset & ~1U) {
    case gen2::kPm1EventOffset:
      note_timer_carry();
      pm1_status_ = static_cast<std::uint16_t>(pm1_status_ & ~(wide & kStatusClearable));
      break;
    case gen2::kPm1EventOffset + 2:
      note_timer_carry();
      pm1_enable_ = merged(pm1_enable_, kEnableWritable);
      arm_timer_carry();
      break;
    case gen2::kPm1ControlOffset: pm1_control_ = merged(pm1_control_, kControlWritable); break;
    case gen2::kGpe0Offset: gpe_status_ = static_cast<std::uint16_t>(gpe_status_ & ~wide); break;
    case gen2::kGpe0Offset + 2: gpe_enable_ = merged(gpe_enable_, 0xFFFF); break;
    default: break;
  }
}

std::uint32_t PowerManagement::read_port(std::uint16_t port, std::uint8_t size) {
  const auto offset = static_cast<std::uint16_t>(port - gen2::kPowerPorts.first);
  if (offset >= gen2::kPmTimerOffset && offset < gen2::kPmTimerOffset + 4) {
    return static_cast<std::uint32_t>(static_cast<std::uint32_t>(timer_ticks()) >> (offset - gen2::kPmTimerOffset) * 8);
  }
  const std::lock_guard lock(mutex_);
  std::uint32_t value = 0;
  for (std::uint16_t i = 0; i < size; ++i) {
    value |= static_cast<std::uint32_t>(read_byte(static_cast<std::uint16_t>(offset + i))) << (i * 8);
  }
  return value;
}

void PowerManagement::write_port(std::uint16_t port, std::uint8_t size, std::uint32_t value) {
  const auto offset = static_cast<std::uint16_t>(port - gen2::kPowerPorts.first);
  std::optional<SleepState> sleep;
  {
    const std::lock_guard lock(mutex_);
    for (std::uint16_t i = 0; i < size; ++i) {
      write_byte(static_cast<std::uint16_t>(offset + i), static_cast<std::uint8_t>(value >> (i * 8)));
    }
    const bool wrote_control_high = offset <= 5 && offset + size > 5;
    if (wrote_control_high && (value >> ((5 - offset) * 8) & kSleepEnable >> 8) != 0) {
      const auto type = static_cast<std::uint8_t>(pm1_control_ >> 10 & 7);
      if (type == kSleepTypeOff) sleep = SleepState::kOff;
      if (type == kSleepTypeHibernate) sleep = SleepState::kHibernate;
    }
    update_line();
  }
  if (sleep && callbacks_.sleep) callbacks_.sleep(*sleep);
  const bool wrote_reset = offset <= gen2::kResetOffset && offset + size > gen2::kResetOffset;
  if (wrote_reset && (value >> ((gen2::kResetOffset - offset) * 8) & 0xFF) == 1 && callbacks_.reset) callbacks_.reset();
}

nlohmann::json PowerManagement::save() const {
  const std::lock_guard lock(mutex_);
  return {{"version", kSavedVersion},    {"pm1_status", pm1_status_}, {"pm1_enable", pm1_enable_},
          {"pm1_control", pm1_control_}, {"gpe_status", gpe_status_}, {"gpe_enable", gpe_enable_},
          {"seen_carries", seen_carries_}};
}

Result<void> PowerManagement::restore(const nlohmann::json& state) {
  SavedFields fields(state, "power management", kSavedVersion);
  std::uint16_t pm1_status = 0, pm1_enable = 0, pm1_control = 0, gpe_status = 0, gpe_enable = 0;
  std::uint64_t seen_carries = 0;
  fields.read("pm1_status", pm1_status);
  fields.read("pm1_enable", pm1_enable);
  fields.read("pm1_control", pm1_control);
  fields.read("gpe_status", gpe_status);
  fields.read("gpe_enable", gpe_enable);
  fields.read("seen_carries", seen_carries);
  BYGONE_CHECK(fields.finish());
  const std::lock_guard lock(mutex_);
  pm1_status_ = pm1_status & kStatusClearable;
  pm1_enable_ = pm1_enable & kEnableWritable;
  pm1_control_ = pm1_control & kControlWritable;
  gpe_status_ = gpe_status;
  gpe_enable_ = gpe_enable;
  seen_carries_ = seen_carries;
  arm_timer_carry();
  update_line();
  return {};
}

void PowerManagement::reset() {
  const std::lock_guard lock(mutex_);
  pm1_status_ = pm1_enable_ = pm1_control_ = gpe_status_ = gpe_enable_ = 0;
  seen_carries_ = timer_ticks() >> 31;
  carry_timer_->disarm();
  update_line();
}

}  // namespace bygone::chipset
