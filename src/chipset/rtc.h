// The real-time clock and its CMOS memory. Motorola MC146818A data sheet; an index port and a data port.
// The time is UTC and goes on while the machine is paused.
//
// The machine's WAET table tells guests that the clock's interrupts need no acknowledge. So an interrupt whose flags were
// never read is sent again as a new edge; a guest that reads register C sees the ordinary behaviour.
//
// Threading: any thread.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <mutex>

#include "chipset/port_device.h"
#include "chipset/savable.h"
#include "support/clock.h"

namespace bygone::chipset {

class Rtc final : public PortDevice, public Savable {
 public:

  /// Microseconds of UTC since 1970.
  using WallClock = std::function<std::chrono::microseconds()>;
  Rtc(TimerService& timers, InterruptLine& line, WallClock wall_clock = host_wall_clock());
  [[nodiscard]] static WallClock host_wall_clock();

  [[nodiscard]] std::uint32_t read_port(std::uint16_t port, std::uint8_t size) override;
  void write_port(std::uint16_t port, std::uint8_t size, std::uint32_t value) override;

  [[nodiscard]] nlohmann::json save() const override;
  [[nodiscard]] Result<void> restore(const nlohmann::json& state) override;
  /// Keeps the memory, the time and the alarm, as the battery does.
  void reset() override;

 private:
  static constexpr std::size_t kCmosBytes = 128;
  [[nodiscard]] std::chrono::microseconds guest_time() const;
  [[nodiscard]] std::uint8_t encode(unsigned value) const;
  [[nodiscard]] unsigned decode(std::uint8_t value) const;
  [[nodiscard]] std::uint8_t read_register(std::uint8_t index);
  void write_register(std::uint8_t index, std::uint8_t value);
  [[nodiscard]] std::uint8_t read_time(std::uint8_t index) const;
  void load_time_registers();
  void take_time_registers();
  [[nodiscard]] bool is_set_halted() const;
  [[nodiscard]] bool is_alarm_time(std::int64_t second) const;
  void raise(std::uint8_t flags);
  void note_seconds();
  void arm_second();
  void arm_periodic();
  void on_second();
  void on_periodic();
  [[nodiscard]] MachineTime period() const;

  const Clock& clock_;
  InterruptLine& line_;
  WallClock wall_clock_;
  mutable std::mutex mutex_;
  std::uint8_t index_ = 0;
  std::array<std::uint8_t, kCmosBytes> cmos_ = {};
  std::int64_t offset_us_ = 0;     // guest time minus wall clock
  std::int64_t seen_second_ = 0;   // guest second up to which the flags are right
  MachineTime next_periodic_{};
  std::unique_ptr<Timer> second_timer_;
  std::unique_ptr<Timer> periodic_timer_;
};

}  // namespace bygone::chipset
