// The ACPI power management block: PM1 events and control, the 32-bit timer, general purpose events, the reset register.
// ACPI 6.5 section 4.8; the layout is Hyper-V's.
//
// The offsets are in spec/gen2/platform.h.
// Threading: any thread; the timer is read without the lock, because older guests read it all the time. Callbacks are called
// without the lock on the vCPU's thread.
#pragma once

#include <functional>
#include <mutex>

#include "chipset/port_device.h"
#include "chipset/savable.h"
#include "support/clock.h"

namespace bygone::chipset {

/// The types in \_S4 and \_S5; anything else is the guest's mistake.
enum class SleepState { kHibernate, kOff };
inline constexpr std::uint8_t kSleepTypeOff = 0;
inline constexpr std::uint8_t kSleepTypeHibernate = 1;

/// Bits of GPE0.
enum class GeneralEvent : std::uint8_t { kGenerationId = 0, kBattery = 9, kProcessorAggregator = 0xB };

class PowerManagement final : public PortDevice, public Savable {
 public:
  static constexpr std::uint64_t kTimerFrequency = 3'579'545;

  struct Callbacks {
    std::function<void(SleepState)> sleep;
    std::function<void()> reset;
  };
  PowerManagement(TimerService& timers, InterruptLine& line, Callbacks callbacks);

  [[nodiscard]] std::uint32_t read_port(std::uint16_t port, std::uint8_t size) override;
  void write_port(std::uint16_t port, std::uint8_t size, std::uint32_t value) override;

  void raise(GeneralEvent event);
  /// The fixed power button, for guests that have it enabled.
  void press_power_button();

  [[nodiscard]] nlohmann::json save() const override;
  [[nodiscard]] Result<void> restore(const nlohmann::json& state) override;
  void reset() override;

 private:
  [[nodiscard]] std::uint64_t timer_ticks() const;
  [[nodiscard]] std::uint8_t read_byte(std::uint16_t offset);
  void write_byte(std::uint16_t offset, std::uint8_t value);
  void note_timer_carry();
  void arm_timer_carry();
  void update_line();
  void on_timer_carry();

  const Clock& clock_;
  InterruptLine& line_;
  Callbacks callbacks_;
  mutable std::mutex mutex_;
  std::uint16_t pm1_status_ = 0, pm1_enable_ = 0, pm1_control_ = 0;
  std::uint16_t gpe_status_ = 0, gpe_enable_ = 0;
  std::uint64_t seen_carries_ = 0;  // times that the timer's top bit had toggled when last looked at
  std::unique_ptr<Timer> carry_timer_;
};

}  // namespace bygone::chipset
