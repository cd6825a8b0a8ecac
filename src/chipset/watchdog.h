// The guest watchdog behind the WDAT table: an index port and a data port, three registers, a count in seconds.
//
// Offsets: 0 register index, 4 data. Registers: 0 configuration, 1 resolution, 2 count. All accesses are 32 bits wide.
// Threading: any thread. The callback is called on the timer thread without the lock.
#pragma once

#include <functional>
#include <mutex>

#include "chipset/port_device.h"
#include "chipset/savable.h"
#include "support/clock.h"

namespace bygone::chipset {

class Watchdog final : public PortDevice, public Savable {
 public:
  static constexpr std::uint32_t kRegisterConfiguration = 0, kRegisterResolution = 1, kRegisterCount = 2;
  static constexpr std::uint32_t kConfigured = 1U << 0, kEnabled = 1U << 1, kOneShot = 1U << 4, kBootStatus = 1U << 8;

  /// `expired` is called when the guest has not come back in time; the machine resets it.
  Watchdog(TimerService& timers, std::function<void()> expired);

  [[nodiscard]] std::uint32_t read_port(std::uint16_t port, std::uint8_t size) override;
  void write_port(std::uint16_t port, std::uint8_t size, std::uint32_t value) override;

  [[nodiscard]] nlohmann::json save() const override;
  [[nodiscard]] Result<void> restore(const nlohmann::json& state) override;
  /// Keeps the boot status, by which the next system learns why it was reset.
  void reset() override;

 private:
  void write_configuration(std::uint32_t value);
  void start();
  void on_timer();

  const Clock& clock_;
  std::function<void()> expired_;
  mutable std::mutex mutex_;
  std::uint32_t index_ = 0;
  std::uint32_t configuration_ = 0;
  std::uint32_t count_;
  MachineTime deadline_{};
  std::unique_ptr<Timer> timer_;
};

}  // namespace bygone::chipset
