// The I/O APIC: 24 inputs, each routed to processors by a redirection entry. Intel 82093AA data sheet (290566-001), section 3;
// version 0x11, so guests end level interrupts through their local APIC and there is no EOI register.
//
// Threading: any thread. Messages are sent with the lock held (see port_device.h for the order).
#pragma once

#include <array>
#include <functional>
#include <mutex>
#include <optional>

#include "chipset/port_device.h"
#include "chipset/savable.h"
#include "cpu/interrupt.h"

namespace bygone::chipset {

class IoApic final : public MmioDevice, public Savable {
 public:
  static constexpr unsigned kPinCount = 24;

  using Output = std::function<void(const cpu::InterruptRequest&)>;
  explicit IoApic(Output output);

  [[nodiscard]] std::uint64_t read_mmio(std::uint64_t offset, std::uint8_t size) override;
  void write_mmio(std::uint64_t offset, std::uint8_t size, std::uint64_t value) override;

  /// The line that a device drives; `pin` below kPinCount. One source a pin.
  [[nodiscard]] InterruptLine& line(unsigned pin) { return pins_[pin]; }
  void set_pin(unsigned pin, bool asserted);
  /// A processor ended a level-triggered interrupt with this vector.
  void end_of_interrupt(std::uint8_t vector);

  /// Where a pin's interrupts go; nullopt while it is masked. For engines that must know level vectors beforehand.
  [[nodiscard]] std::optional<cpu::InterruptRequest> route(unsigned pin) const;
  /// Called without the lock after a redirection entry changed. Set before the machine runs.
  void set_route_observer(std::function<void(unsigned pin)> observer) { route_observer_ = std::move(observer); }

  [[nodiscard]] nlohmann::json save() const override;
  [[nodiscard]] Result<void> restore(const nlohmann::json& state) override;
  void reset() override;
  [[nodiscard]] nlohmann::json inspect() const override;

 private:
  [[nodiscard]] std::uint32_t load() const;
  std::optional<unsigned> store(std::uint32_t value);
  void deliver(unsigned pin);

  class Pin final : public InterruptLine {
   public:
    void set_level(bool is_high) override { owner->set_pin(number, is_high); }
    IoApic* owner = nullptr;
    unsigned number = 0;
  };

  Output output_;
  std::array<Pin, kPinCount> pins_;
  std::function<void(unsigned)> route_observer_;
  mutable std::mutex mutex_;
  std::uint8_t selector_ = 0;
  std::uint8_t id_ = 0;
  std::array<std::uint64_t, kPinCount> entries_ = filled_with_masked();
  std::uint32_t asserted_ = 0;  // a bit a pin

  static constexpr std::array<std::uint64_t, kPinCount> filled_with_masked() {
    std::array<std::uint64_t, kPinCount> entries = {};
    entries.fill(1U << 16);
    return entries;
  }
};

}  // namespace bygone::chipset
