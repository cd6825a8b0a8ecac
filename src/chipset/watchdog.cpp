#include "chipset/watchdog.h"

#include <algorithm>

#include "spec/gen2/platform.h"
#include "support/saved_fields.h"

namespace bygone::chipset {

namespace {

constexpr std::uint32_t kSavedVersion = 1;
constexpr std::uint32_t kDefaultCount = 120;  // seconds
constexpr std::uint32_t kKnownBits = Watchdog::kConfigured | Watchdog::kEnabled | Watchdog::kOneShot | Watchdog::kBootStatus;

}  // namespace

Watchdog::Watchdog(TimerService& timers, std::function<void()> expired)
    : clock_(timers.clock()), expired_(std::move(expired)), count_(kDefaultCount),
      timer_(timers.create_timer([this] { on_timer(); })) {}

void Watchdog::start() {
  deadline_ = clock_.now() + std::chrono::seconds(count_);
  timer_->arm(deadline_);
}

void Watchdog::write_configuration(std::uint32_t value) {
  if ((value & ~kKnownBits) != 0) return;
  // The boot status is cleared by writing it as one and stays otherwise.
  const std::uint32_t boot_status = (value & kBootStatus) != 0 ? 0 : configuration_ & kBootStatus;
  configuration_ = (value & ~kBootStatus) | boot_status;
  if ((configuration_ & kConfigured) == 0) count_ = kDefaultCount;
  if ((configuration_ & (kConfigured | kEnabled)) == (kConfigured | kEnabled)) {
    start();
  } else {
    timer_->disarm();
  }
}

void Watchdog::on_timer() {
  {
    const std::lock_guard lock(mutex_);
    if ((configuration_ & (kConfigured | kEnabled)) != (kConfigured | kEnabled)) return;
    if (clock_.now() < deadline_) {  // restarted while this call was under way
      timer_->arm(deadline_);
      return;
    }
    configuration_ = kBootStatus;
  }
  if (expired_) expired_();
}

std::uint32_t Watchdog::read_port(std::uint16_t port, std::uint8_t size) {
  const auto offset = static_cast<std::uint16_t>(port - spec::gen2::kWatchdogPorts.first);
  const std::lock_guard lock(mutex_);
  if (size != 4) return 0xFFFFFFFF;
  if (offset == 0) return index_;
  if (offset != 4) return 0xFFFFFFFF;
  switch (index_) {
    case kRegisterConfiguration: return configuration_;
    case kRegisterResolution: return 1;  // second
    case kRegisterCount: return count_;
    default: return 0xFFFFFFFF;
  }
}

void Watchdog::write_port(std::uint16_t port, std::uint8_t size, std::uint32_t value) {
  const auto offset = static_cast<std::uint16_t>(port - spec::gen2::kWatchdogPorts.first);
  const std::lock_guard lock(mutex_);
  if (size != 4) return;
  if (offset == 0) index_ = value;
  if (offset != 4) return;
  if (index_ == kRegisterConfiguration) write_configuration(value);
  if (index_ == kRegisterCount) count_ = std::max(value, 1U);
}

nlohmann::json Watchdog::save() const {
  const std::lock_guard lock(mutex_);
  return {{"version", kSavedVersion},
          {"index", index_},
          {"configuration", configuration_},
          {"count", count_},
          {"deadline", deadline_.count()}};
}

Result<void> Watchdog::restore(const nlohmann::json& state) {
  SavedFields fields(state, "the watchdog", kSavedVersion);
  std::uint32_t index = 0, configuration = 0, count = 0;
  std::int64_t deadline = 0;
  fields.read("index", index);
  fields.read("configuration", configuration);
  fields.read("count", count);
  fields.read("deadline", deadline);
  fields.require((configuration & ~kKnownBits) == 0 && count != 0 && deadline >= 0, "the registers make no sense");
  BYGONE_CHECK(fields.finish());
  const std::lock_guard lock(mutex_);
  index_ = index;
  configuration_ = configuration;
  count_ = count;
  deadline_ = MachineTime(deadline);
  timer_->disarm();
  if ((configuration_ & (kConfigured | kEnabled)) == (kConfigured | kEnabled)) timer_->arm(deadline_);
  return {};
}

void Watchdog::reset() {
  const std::lock_guard lock(mutex_);
  index_ = 0;
  configuration_ &= kBootStatus;
  count_ = kDefaultCount;
  timer_->disarm();
}

}  // namespace bygone::chipset
