// A processor's four synthetic timers (TLFS 12.4-12.6): one-shot at an absolute reference time or periodic, telling the guest
// by a message or, in direct mode, by an interrupt alone.
//
// A message that finds its slot taken waits for the guest's EOM. Periods that passed meanwhile are merged into it.
//
// An engine that keeps the timers (Facility::kTimers) counts and expires them; here they are only configured, saved and restored.
// Its message-mode timers write into the guest's message page by themselves, so the SynIC is told when there are any.
//
// Threading: any thread; with an engine that keeps the timers as HypervisorFacilities::set_register(). One lock a processor. Messages
// and interrupts are sent with it held (order: timers, SynIC, local APIC).
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
                  bool direct_mode_offered, cpu::HypervisorFacilities* engine = nullptr);

  [[nodiscard]] std::uint64_t read_configuration(std::uint32_t timer) const;
  [[nodiscard]] std::uint64_t read_count(std::uint32_t timer) const;
  /// False: #GP.
  [[nodiscard]] bool write_configuration(std::uint32_t timer, std::uint64_t value);
  void write_count(std::uint32_t timer, std::uint64_t value);

  /// A message slot may be free again.
  void retry();
  /// Waits anew for what is armed: reference time went on from another value.
  void rearm();
  /// The guest wrote EOM: the engine's timers whose message waits shall try again.
  void end_of_message();

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
  // With an engine that keeps the timers.
  [[nodiscard]] Saved ask_engine(std::uint32_t timer) const;
  void tell_engine(std::uint32_t timer, const Saved& state);
  void note_messages(std::uint32_t timer, std::uint64_t configuration);

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
  cpu::HypervisorFacilities* const engine_;  ///< null: the timers are kept here
  mutable std::mutex mutex_;
  std::array<State, spec::tlfs::kTimersPerVp> states_;
  std::uint32_t engine_writes_ = 0;  ///< a bit a timer: the engine's, in message mode
};

}  // namespace bygone::hyperv
