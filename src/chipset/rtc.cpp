#include "chipset/rtc.h"

#include <algorithm>

#include "spec/gen2/platform.h"
#include "support/saved_fields.h"

namespace bygone::chipset {

namespace {

using std::chrono::microseconds;

constexpr std::uint32_t kSavedVersion = 1;
constexpr std::int64_t kSecond = 1'000'000;     // microseconds
constexpr std::int64_t kUpdateWindow = 244;     // UIP is set this long before an update (data sheet, figure 13)
constexpr std::int64_t kOldest = -62'167'219'200;  // year 0
constexpr std::int64_t kNewest = 253'402'300'799;  // year 9999

enum : std::uint8_t {
  kSeconds = 0, kSecondsAlarm = 1, kMinutes = 2, kMinutesAlarm = 3, kHours = 4, kHoursAlarm = 5, kWeekday = 6, kDay = 7,
  kMonth = 8, kYear = 9, kA = 0xA, kB = 0xB, kC = 0xC, kD = 0xD
};
constexpr std::uint8_t kAUpdating = 0x80, kARate = 0x0F, kADivider = 0x70, kADividerRunning = 0x20;
constexpr std::uint8_t kBSet = 0x80, kBPeriodic = 0x40, kBAlarm = 0x20, kBUpdate = 0x10, kBBinary = 0x04, kB24Hours = 0x02;
constexpr std::uint8_t kCAny = 0x80, kCPeriodic = 0x40, kCAlarm = 0x20, kCUpdate = 0x10;
constexpr std::uint8_t kDValid = 0x80;
constexpr std::uint8_t kAfternoon = 0x80, kDoNotCare = 0xC0;

bool is_time_register(std::uint8_t index) {
  return index == kSeconds || index == kMinutes || index == kHours || (index >= kWeekday && index <= kYear) || index == spec::gen2::kRtcCenturyRegister;
}

struct Calendar {
  unsigned year, month, day, weekday, hour, minute, second;
};

Calendar to_calendar(std::int64_t second) {
  using namespace std::chrono;
  const sys_seconds time{seconds(second)};
  const sys_days date = floor<days>(time);
  const year_month_day ymd(date);
  const hh_mm_ss clock(time - date);
  return {static_cast<unsigned>(static_cast<int>(ymd.year())), static_cast<unsigned>(ymd.month()), static_cast<unsigned>(ymd.day()),
          weekday(date).c_encoding() + 1, static_cast<unsigned>(clock.hours().count()), static_cast<unsigned>(clock.minutes().count()),
          static_cast<unsigned>(clock.seconds().count())};
}

}  // namespace

Rtc::WallClock Rtc::host_wall_clock() {
  return [] { return std::chrono::duration_cast<microseconds>(std::chrono::system_clock::now().time_since_epoch()); };
}

Rtc::Rtc(TimerService& timers, InterruptLine& line, WallClock wall_clock)
    : clock_(timers.clock()), line_(line), wall_clock_(std::move(wall_clock)),
      second_timer_(timers.create_timer([this] { on_second(); })),
      periodic_timer_(timers.create_timer([this] { on_periodic(); })) {
  cmos_[kA] = kADividerRunning | 6;  // 1024 Hz
  cmos_[kB] = kB24Hours;
  cmos_[kD] = kDValid;
  seen_second_ = guest_time().count() / kSecond;
}

microseconds Rtc::guest_time() const {
  const std::int64_t now = wall_clock_().count() + offset_us_;
  return microseconds(std::clamp(now, kOldest * kSecond, kNewest * kSecond));
}

bool Rtc::is_set_halted() const { return (cmos_[kB] & kBSet) != 0; }

std::uint8_t Rtc::encode(unsigned value) const {
  value %= 100;
  return static_cast<std::uint8_t>((cmos_[kB] & kBBinary) != 0 ? value : (value / 10) << 4 | value % 10);
}

unsigned Rtc::decode(std::uint8_t value) const {
  return (cmos_[kB] & kBBinary) != 0 ? value : (value >> 4) * 10U + (value & 0xFU);
}

std::uint8_t Rtc::read_time(std::uint8_t index) const {
  const Calendar now = to_calendar(guest_time().count() / kSecond);
  switch (index) {
    case kSeconds: return encode(now.second);
    case kMinutes: return encode(now.minute);
    case kHours: {
      if ((cmos_[kB] & kB24Hours) != 0) return encode(now.hour);
      const unsigned hour = now.hour % 12 == 0 ? 12 : now.hour % 12;
      return static_cast<std::uint8_t>(encode(hour) | (now.hour >= 12 ? kAfternoon : 0));
    }
    case kWeekday: return encode(now.weekday);
    case kDay: return encode(now.day);
    case kMonth: return encode(now.month);
    case kYear: return encode(now.year % 100);
    default: return encode(now.year / 100);
  }
}

/// Freezes the running time into the registers, when the guest sets SET.
void Rtc::load_time_registers() {
  for (const std::uint8_t index : {kSeconds, kMinutes, kHours, kWeekday, kDay, kMonth, kYear}) cmos_[index] = read_time(index);
  cmos_[spec::gen2::kRtcCenturyRegister] = read_time(spec::gen2::kRtcCenturyRegister);
}

/// Starts time from the registers, when the guest clears SET or writes one of them while time runs.
void Rtc::take_time_registers() {
  using namespace std::chrono;
  unsigned hour = decode(static_cast<std::uint8_t>(cmos_[kHours] & 0x7F));
  if ((cmos_[kB] & kB24Hours) == 0) {
    hour = hour % 12 + ((cmos_[kHours] & kAfternoon) != 0 ? 12 : 0);
  } else {
    hour = decode(cmos_[kHours]);
  }
  const int written_year = static_cast<int>(decode(cmos_[spec::gen2::kRtcCenturyRegister]) * 100 + decode(cmos_[kYear]) % 100);
  const year_month_day date{year(written_year), month(decode(cmos_[kMonth])), day(decode(cmos_[kDay]))};
  if (!date.ok() || written_year > 9999 || hour > 23) return;  // nonsense leaves the time as it was
  const std::int64_t second = sys_seconds(sys_days(date)).time_since_epoch().count() + std::int64_t{hour} * 3600 +
                              std::int64_t{decode(cmos_[kMinutes]) % 60} * 60 + decode(cmos_[kSeconds]) % 60;
  // The divider chain keeps its phase: the fraction of the second stays.
  const std::int64_t wall = wall_clock_().count();
  const std::int64_t fraction = ((wall + offset_us_) % kSecond + kSecond) % kSecond;
  offset_us_ = second * kSecond + fraction - wall;
  seen_second_ = second;
}

bool Rtc::is_alarm_time(std::int64_t second) const {
  const Calendar now = to_calendar(second);
  const auto matches = [&](std::uint8_t alarm, unsigned value) { return (alarm & kDoNotCare) == kDoNotCare || decode(alarm) == value; };
  std::uint8_t hours = cmos_[kHoursAlarm];
  unsigned hour = now.hour;
  if ((cmos_[kB] & kB24Hours) == 0 && (hours & kDoNotCare) != kDoNotCare) {
    const bool afternoon = (hours & kAfternoon) != 0;
    hours = static_cast<std::uint8_t>(hours & 0x7F);
    if (afternoon != (now.hour >= 12)) return false;
    hour = now.hour % 12 == 0 ? 12 : now.hour % 12;
  }
  return matches(cmos_[kSecondsAlarm], now.second) && matches(cmos_[kMinutesAlarm], now.minute) && matches(hours, hour);
}

void Rtc::raise(std::uint8_t flags) {
  cmos_[kC] = static_cast<std::uint8_t>(cmos_[kC] | flags);
  if ((flags & cmos_[kB] & (kCPeriodic | kCAlarm | kCUpdate)) == 0) return;
  if ((cmos_[kC] & kCAny) != 0) line_.set_level(false);  // nobody acknowledged: a new edge
  cmos_[kC] |= kCAny;
  line_.set_level(true);
}

/// Brings the update and alarm flags up to the present second.
void Rtc::note_seconds() {
  if (is_set_halted()) return;
  const std::int64_t now = guest_time().count() / kSecond;
  if (now == seen_second_) return;
  std::uint8_t flags = kCUpdate;
  // After a long gap one day covers every alarm there can be.
  for (std::int64_t second = std::max(seen_second_ + 1, now - 86'400 + 1); second <= now; ++second) {
    if (is_alarm_time(second)) {
      flags |= kCAlarm;
      break;
    }
  }
  seen_second_ = now;
  raise(flags);
}

void Rtc::arm_second() {
  if ((cmos_[kB] & (kBAlarm | kBUpdate)) == 0 || is_set_halted()) {
    second_timer_->disarm();
    return;
  }
  const std::int64_t fraction = ((guest_time().count() % kSecond) + kSecond) % kSecond;
  second_timer_->arm(clock_.now() + microseconds(kSecond - fraction));
}

MachineTime Rtc::period() const {
  unsigned rate = cmos_[kA] & kARate;
  if (rate == 0 || (cmos_[kA] & kADivider) != kADividerRunning) return MachineTime(0);
  if (rate <= 2) rate += 7;  // the 32 kHz time base gives 256 and 128 Hz there (table 5)
  return MachineTime((1'000'000'000LL << (rate - 1)) / 32'768);
}

void Rtc::arm_periodic() {
  if ((cmos_[kB] & kBPeriodic) == 0 || period() == MachineTime(0)) {
    periodic_timer_->disarm();
    return;
  }
  next_periodic_ = clock_.now() + period();
  periodic_timer_->arm(next_periodic_);
}

void Rtc::on_second() {
  const std::lock_guard lock(mutex_);
  note_seconds();
  arm_second();
}

void Rtc::on_periodic() {
  const std::lock_guard lock(mutex_);
  const MachineTime step = period();
  if ((cmos_[kB] & kBPeriodic) == 0 || step == MachineTime(0)) return;
  const MachineTime late = clock_.now() - next_periodic_;
  if (late >= MachineTime(0)) {
    next_periodic_ += step * (1 + late / step);
    raise(kCPeriodic);
  }
  periodic_timer_->arm(next_periodic_);
}

std::uint8_t Rtc::read_register(std::uint8_t index) {
  if (is_time_register(index)) return is_set_halted() ? cmos_[index] : read_time(index);
  switch (index) {
    case kA: {
      const std::int64_t fraction = ((guest_time().count() % kSecond) + kSecond) % kSecond;
      const bool updating = !is_set_halted() && fraction >= kSecond - kUpdateWindow;
      return static_cast<std::uint8_t>(cmos_[kA] | (updating ? kAUpdating : 0));
    }
    case kC: {
      note_seconds();
      const std::uint8_t value = std::exchange(cmos_[kC], std::uint8_t{0});
      line_.set_level(false);
      return value;
    }
    case kD: return kDValid;
    default: return cmos_[index];
  }
}

void Rtc::write_register(std::uint8_t index, std::uint8_t value) {
  if (is_time_register(index)) {
    if (!is_set_halted()) load_time_registers();
    cmos_[index] = value;
    if (!is_set_halted()) take_time_registers();
    return;
  }
  switch (index) {
    case kA:
      cmos_[kA] = value & 0x7F;
      arm_periodic();
      return;
    case kB: {
      note_seconds();
      const std::uint8_t before = cmos_[kB];
      const bool starts = (value & kBSet) == 0 && (before & kBSet) != 0;
      if ((value & kBSet) != 0 && (before & kBSet) == 0) load_time_registers();
      cmos_[kB] = value;
      if (starts) take_time_registers();
      if ((value & kBSet) != 0) cmos_[kB] = static_cast<std::uint8_t>(cmos_[kB] & ~kBUpdate);  // data sheet: SET clears UIE
      // A flag that is already up interrupts as soon as it is enabled.
      if ((cmos_[kC] & cmos_[kB] & (kCPeriodic | kCAlarm | kCUpdate)) != 0) {
        raise(0x70 & cmos_[kC] & cmos_[kB]);
      } else {
        cmos_[kC] = static_cast<std::uint8_t>(cmos_[kC] & ~kCAny);
        line_.set_level(false);
      }
      arm_second();
      if (((before ^ value) & kBPeriodic) != 0) arm_periodic();
      return;
    }
    case kC:
    case kD: return;
    default: cmos_[index] = value;
  }
}

std::uint32_t Rtc::read_port(std::uint16_t port, std::uint8_t) {
  const auto offset = static_cast<std::uint16_t>(port - spec::gen2::kRtcPorts.first);
  const std::lock_guard lock(mutex_);
  return 0xFFFFFF00U | (offset == 1 ? read_register(index_) : std::uint32_t{0xFF});  // the index is write-only
}

void Rtc::write_port(std::uint16_t port, std::uint8_t size, std::uint32_t value) {
  const auto offset = static_cast<std::uint16_t>(port - spec::gen2::kRtcPorts.first);
  const std::lock_guard lock(mutex_);
  if (offset == 0) index_ = value & 0x7F;  // bit 7 masks NMI, of which there is none from here
  if (offset == 1) write_register(index_, static_cast<std::uint8_t>(value));
  if (offset == 0 && size >= 2) write_register(index_, static_cast<std::uint8_t>(value >> 8));
}

nlohmann::json Rtc::save() const {
  const std::lock_guard lock(mutex_);
  return {{"version", kSavedVersion},
          {"index", index_},
          {"cmos", cmos_},
          {"offset_us", offset_us_},
          {"seen_second", seen_second_},
          {"next_periodic", next_periodic_.count()}};
}

Result<void> Rtc::restore(const nlohmann::json& state) {
  SavedFields fields(state, "the real-time clock", kSavedVersion);
  std::uint8_t index = 0;
  std::array<std::uint8_t, kCmosBytes> cmos = {};
  std::int64_t offset = 0, seen = 0, periodic = 0;
  fields.read("index", index);
  fields.read("cmos", cmos);
  fields.read("offset_us", offset);
  fields.read("seen_second", seen);
  fields.read("next_periodic", periodic);
  fields.require(index < kCmosBytes, "the index is too large");
  fields.require(offset >= kOldest * 2 * kSecond && offset <= kNewest * 2 * kSecond, "the time is out of range");
  fields.require(seen >= kOldest && seen <= kNewest && periodic >= 0, "a time is out of range");
  BYGONE_CHECK(fields.finish());
  const std::lock_guard lock(mutex_);
  index_ = index;
  cmos_ = cmos;
  offset_us_ = offset;
  seen_second_ = seen;
  next_periodic_ = MachineTime(periodic);
  arm_second();
  periodic_timer_->disarm();
  if ((cmos_[kB] & kBPeriodic) != 0 && period() != MachineTime(0)) periodic_timer_->arm(next_periodic_);
  line_.set_level((cmos_[kC] & kCAny) != 0);
  return {};
}

void Rtc::reset() {
  const std::lock_guard lock(mutex_);
  // RESET clears the interrupt enables and flags (data sheet, RESET pin), and any time that was being set is let run.
  if (is_set_halted()) {
    cmos_[kB] = static_cast<std::uint8_t>(cmos_[kB] & ~kBSet);
    take_time_registers();
  }
  cmos_[kB] = static_cast<std::uint8_t>(cmos_[kB] & ~(kBPeriodic | kBAlarm | kBUpdate));
  cmos_[kC] = 0;
  index_ = 0;
  line_.set_level(false);
  arm_second();
  arm_periodic();
}

}  // namespace bygone::chipset
