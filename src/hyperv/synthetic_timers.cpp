#include "hyperv/synthetic_timers.h"

#include <algorithm>

#include "spec/tlfs/messages.h"
#include "spec/tlfs/registers.h"

namespace bygone::hyperv {

namespace {

namespace tlfs = spec::tlfs;
constexpr std::uint32_t kSavedVersion = 1;
// A guest that asks for a tick every 100 ns gets one every 100 us; the timer thread is not its alone.
constexpr std::uint64_t kShortestPeriod = 1'000;
// Far expirations are looked at again on the way, so that no product overflows.
constexpr std::uint64_t kFarthest = 36'000'000'000;  // an hour

constexpr std::uint64_t kMessageModeBits = tlfs::kTimerEnabled | tlfs::kTimerPeriodic | tlfs::kTimerLazy | tlfs::kTimerAutoEnable |
                                           0xFULL << tlfs::kTimerSintShift;
constexpr std::uint64_t kDirectModeBits = tlfs::kTimerDirect | 0xFFULL << tlfs::kTimerVectorShift;

std::uint8_t sint_of(std::uint64_t configuration) { return static_cast<std::uint8_t>(configuration >> tlfs::kTimerSintShift & 0xF); }
std::uint8_t vector_of(std::uint64_t configuration) { return static_cast<std::uint8_t>(configuration >> tlfs::kTimerVectorShift); }
bool is_direct(std::uint64_t configuration) { return (configuration & tlfs::kTimerDirect) != 0; }

constexpr std::uint32_t configuration_register(std::uint32_t timer) {
  return static_cast<std::uint32_t>(tlfs::Msr::kTimer0Configuration) + timer * 2;
}
constexpr std::uint32_t count_register(std::uint32_t timer) { return configuration_register(timer) + 1; }

/// Whether the timer would reach anyone: a message needs a source other than 0, an interrupt a vector above the exceptions.
bool has_target(std::uint64_t configuration) {
  return is_direct(configuration) ? vector_of(configuration) >= tlfs::kFirstSintVector : sint_of(configuration) != 0;
}

}  // namespace

SyntheticTimers::SyntheticTimers(cpu::VpIndex vp, Synic& synic, cpu::Partition& partition, const ReferenceTime& time,
                                 TimerService& timers, bool direct_mode_offered, cpu::HypervisorFacilities* engine)
    : vp_(vp), synic_(synic), partition_(partition), time_(time), clock_(timers.clock()),
      writable_(kMessageModeBits | (direct_mode_offered ? kDirectModeBits : 0)), engine_(engine) {
  for (std::uint32_t i = 0; i < states_.size(); ++i) states_[i].timer = timers.create_timer([this, i] { on_timer(i); });
}

// ---- kept by the engine ----

SyntheticTimers::Saved SyntheticTimers::ask_engine(std::uint32_t timer) const {
  Saved state;
  // The engine gives every register that it took; one that it does not give was never set.
  state.configuration = engine_->get_register(vp_, configuration_register(timer)).value_or(0);
  state.count = engine_->get_register(vp_, count_register(timer)).value_or(0);
  state.is_running = (state.configuration & tlfs::kTimerEnabled) != 0 && state.count != 0;
  const bool is_periodic = (state.configuration & tlfs::kTimerPeriodic) != 0;
  // Where in its period a timer is, no engine tells: it begins one anew.
  if (state.is_running) state.expiration = is_periodic ? time_.now() + state.count : state.count;
  return state;
}

/// Configuration last, and none while the count changes: a count would start a timer that starts by itself.
void SyntheticTimers::tell_engine(std::uint32_t timer, const Saved& state) {
  note_messages(timer, state.configuration);
  (void)engine_->set_register(vp_, configuration_register(timer), 0);
  (void)engine_->set_register(vp_, count_register(timer), state.count);
  (void)engine_->set_register(vp_, configuration_register(timer), state.configuration);
}

void SyntheticTimers::note_messages(std::uint32_t timer, std::uint64_t configuration) {
  const bool may_run = (configuration & (tlfs::kTimerEnabled | tlfs::kTimerAutoEnable)) != 0;
  const std::uint32_t bit = 1U << timer;
  const std::uint32_t before = engine_writes_;
  engine_writes_ = may_run && !is_direct(configuration) ? before | bit : before & ~bit;
  if ((before == 0) != (engine_writes_ == 0)) synic_.share_messages(vp_, engine_writes_ != 0);
}

void SyntheticTimers::end_of_message() {
  if (engine_ != nullptr) (void)engine_->set_register(vp_, static_cast<std::uint32_t>(tlfs::Msr::kEndOfMessage), 0);
}

// ---- kept here ----

std::uint64_t SyntheticTimers::read_configuration(std::uint32_t timer) const {
  const std::lock_guard lock(mutex_);
  if (engine_ != nullptr) return ask_engine(timer).configuration;
  return states_[timer].configuration;
}

std::uint64_t SyntheticTimers::read_count(std::uint32_t timer) const {
  const std::lock_guard lock(mutex_);
  if (engine_ != nullptr) return ask_engine(timer).count;
  return states_[timer].count;
}

bool SyntheticTimers::write_configuration(std::uint32_t timer, std::uint64_t value) {
  if ((value & ~writable_) != 0) return false;
  const std::lock_guard lock(mutex_);
  State& state = states_[timer];
  if (!has_target(value)) value &= ~tlfs::kTimerEnabled;
  if (engine_ != nullptr) {
    note_messages(timer, value);
    return engine_->set_register(vp_, configuration_register(timer), value).has_value();
  }
  state.configuration = value;
  restart(state);
  return true;
}

void SyntheticTimers::write_count(std::uint32_t timer, std::uint64_t value) {
  const std::lock_guard lock(mutex_);
  State& state = states_[timer];
  if (engine_ != nullptr) {
    (void)engine_->set_register(vp_, count_register(timer), value);
    return;
  }
  state.count = value;
  if (value == 0) {
    state.configuration &= ~tlfs::kTimerEnabled;
  } else if ((state.configuration & tlfs::kTimerAutoEnable) != 0 && has_target(state.configuration)) {
    state.configuration |= tlfs::kTimerEnabled;
  }
  restart(state);
}

void SyntheticTimers::stop(State& state) {
  state.is_running = false;
  state.message_waits = false;
  state.timer->disarm();
}

/// A timer that is only set to another time is rearmed without being disarmed: guests do that for every tick.
void SyntheticTimers::restart(State& state) {
  state.is_running = false;
  state.message_waits = false;
  start(state);
  if (!state.is_running) state.timer->disarm();
}

void SyntheticTimers::start(State& state) {
  if ((state.configuration & tlfs::kTimerEnabled) == 0 || state.count == 0) return;
  const std::uint64_t now = time_.now();
  const bool is_periodic = (state.configuration & tlfs::kTimerPeriodic) != 0;
  state.expiration = is_periodic ? now + std::max(state.count, kShortestPeriod) : state.count;
  state.is_running = true;
  if (state.expiration <= now) {
    expire(state, now);
  } else {
    wait(state);
  }
}

void SyntheticTimers::wait(State& state) {
  const std::uint64_t now = time_.now();
  const std::uint64_t left = state.expiration > now ? std::min(state.expiration - now, kFarthest) : 0;
  state.timer->arm(clock_.now() + MachineTime(static_cast<std::int64_t>(left * 100)));
}

void SyntheticTimers::on_timer(std::uint32_t index) {
  const std::lock_guard lock(mutex_);
  State& state = states_[index];
  if (!state.is_running) return;
  const std::uint64_t now = time_.now();
  if (now < state.expiration) {
    wait(state);  // rewritten, far away, or the two clocks differ by a hair
  } else {
    expire(state, now);
  }
}

/// With the lock held; `now` is at or past the expiration.
void SyntheticTimers::expire(State& state, std::uint64_t now) {
  ++state.expirations;
  if ((state.configuration & tlfs::kTimerPeriodic) == 0) {
    state.is_running = false;
    deliver(state);
    return;
  }
  deliver(state);
  const std::uint64_t period = std::max(state.count, kShortestPeriod);
  state.expiration += period * (1 + (now - state.expiration) / period);
  wait(state);
}

void SyntheticTimers::deliver(State& state) {
  const bool is_one_shot = (state.configuration & tlfs::kTimerPeriodic) == 0;
  if (is_direct(state.configuration)) {
    if (is_one_shot) state.configuration &= ~tlfs::kTimerEnabled;
    partition_.request_synic_interrupt(vp_, vector_of(state.configuration), false);
    return;
  }
  tlfs::TimerMessage message = {};
  message.timer_index = static_cast<std::uint32_t>(&state - states_.data());
  message.expiration_time = state.expiration;
  message.delivery_time = time_.now();
  const PostOutcome outcome = synic_.post_message(vp_, sint_of(state.configuration), tlfs::kMessageTypeTimerExpired, bytes_of(message));
  state.message_waits = outcome == PostOutcome::kSlotBusy;
  if (is_one_shot && !state.message_waits) state.configuration &= ~tlfs::kTimerEnabled;
}

void SyntheticTimers::retry() {
  const std::lock_guard lock(mutex_);
  for (State& state : states_) {
    if (state.message_waits) deliver(state);
  }
}

void SyntheticTimers::rearm() {
  const std::lock_guard lock(mutex_);
  for (State& state : states_) {
    if (state.is_running) wait(state);
  }
}

void SyntheticTimers::reset() {
  const std::lock_guard lock(mutex_);
  if (engine_ != nullptr) {
    for (std::uint32_t i = 0; i < states_.size(); ++i) tell_engine(i, {});
    return;
  }
  for (State& state : states_) {
    stop(state);
    state.configuration = state.count = state.expiration = 0;
  }
}

nlohmann::json SyntheticTimers::save() const {
  const std::lock_guard lock(mutex_);
  nlohmann::json timers = nlohmann::json::array();
  for (std::uint32_t i = 0; i < states_.size(); ++i) {
    const Saved state = engine_ != nullptr ? ask_engine(i) : static_cast<const Saved&>(states_[i]);
    timers.push_back({{"version", kSavedVersion},
                      {"configuration", state.configuration},
                      {"count", state.count},
                      {"expiration", state.expiration},
                      {"is_running", state.is_running},
                      {"message_waits", state.message_waits}});
  }
  return timers;
}

Result<SyntheticTimers::SavedTimers> SyntheticTimers::parse(const nlohmann::json& state) {
  if (!state.is_array() || state.size() != tlfs::kTimersPerVp) {
    return fail(ErrorCode::kCorrupt, "saved state of the synthetic timers is not a list of {}", tlfs::kTimersPerVp);
  }
  SavedTimers timers;
  for (std::size_t i = 0; i < timers.size(); ++i) {
    SavedFields fields(state[i], "a synthetic timer", kSavedVersion);
    fields.read("configuration", timers[i].configuration);
    fields.read("count", timers[i].count);
    fields.read("expiration", timers[i].expiration);
    fields.read("is_running", timers[i].is_running);
    fields.read("message_waits", timers[i].message_waits);
    fields.require((timers[i].configuration & ~(kMessageModeBits | kDirectModeBits)) == 0, "the configuration has reserved bits");
    fields.require(!timers[i].is_running || timers[i].count != 0, "it runs without a count");
    BYGONE_CHECK(fields.finish());
  }
  return timers;
}

void SyntheticTimers::restore(const SavedTimers& timers) {
  const std::lock_guard lock(mutex_);
  for (std::uint32_t i = 0; i < states_.size(); ++i) {
    if (engine_ != nullptr) {
      tell_engine(i, timers[i]);
      continue;
    }
    states_[i].timer->disarm();
    static_cast<Saved&>(states_[i]) = timers[i];
    if (states_[i].is_running) wait(states_[i]);
  }
}

nlohmann::json SyntheticTimers::inspect() const {
  const std::lock_guard lock(mutex_);
  nlohmann::json timers = nlohmann::json::array();
  // The engine's cannot be looked at while the processor runs.
  if (engine_ != nullptr) return "kept by the engine";
  for (const State& state : states_) {
    timers.push_back({{"configuration", state.configuration},
                      {"count", state.count},
                      {"running", state.is_running},
                      {"expirations", state.expirations}});
  }
  return timers;
}

}  // namespace bygone::hyperv
