// A processor's four synthetic timers (TLFS 12.4-12.6): one-shot at an absolute reference time or periodic, telling the guest
// by a message or, in direct mode, by an interrupt alone.
//
// A message that finds its slot taken waits for the guest's EOM. Periods that passed meanwhile are merged into it.
//
// Threading: any thread; one lock a processor. Messages and interrupts are sent with it held (order: timers, SynIC, local APIC).
#pragma once

#include <array>
#include <memory>
#include <mutex>

#include "cpu/partition.h"
#include "hyperv/reference_time.h"
#include "hyperv/synic.h"
#include "support/clock.h"

namespace bygone::hyperv {

class SyntheticTimers {
 public:
  SyntheticTimers(cpu::VpIndex vp, Synic& synic, cpu::Partition& partition, const ReferenceTime& time, TimerService& timers,
                  bool direct_mode_offered);

  [[nodiscard]] std::uint64_t read_configuration(std::uint32_t timer) const;
  [[nodiscard]] std::uint64_t read_count(std::uint32_t timer) const;
  /// False: #GP.
  [[nodiscard]] bool write_configuration(std::uint32_t timer, std::uint64_t value);
  void write_count(std::uint32_t timer, std::uint64_t value);

  /// A message slot may be free again.
  void retry();
  /// Waits anew for what is armed: reference time went on from another value.
  void rearm();

  void reset();
  [[nodiscard]] nlohmann::json save() const;
  struct Saved {
    std::uint64_t configuration = 0;
    std::uint64_t count = 0;
    std::uint64_t expiration = 0;
    bool is_running = false;
    bool message_waits = false;
  };
  using SavedTimers = std::array<Saved, spec::tlfs::kTimersPerVp>;
  [[nodiscard]] static Result<SavedTimers> parse(const nlohmann::json& state);
  void restore(const SavedTimers& timers);
  [[nodiscard]] nlohmann::json inspect() const;

 private:
  struct State : Saved {
    std::uint64_t expirations = 0;
    std::unique_ptr<Timer> timer;
  };
  void restart(State& state);
  void start(State& state);
  void stop(State& state);
  void wait(State& state);
  void expire(State& state, std::uint64_t now);
  void deliver(State& state);
  void on_timer(std::uint32_t index);

  const cpu::VpIndex vp_;
  Synic& synic_;
  cpu::Partition& partition_;
  const ReferenceTime& time_;
  const Clock& clock_;
  const std::uint64_t writable_;
  mutable std::mutex mutex_;
  std::array<State, spec::tlfs::kTimersPerVp> states_;
};

}  // namespace bygone::hyperv
