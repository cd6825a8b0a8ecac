// The synthetic mouse: an absolute HID pointer with five buttons, a wheel and a tilt wheel.
// Threading: as vmbus::Device; move() on the device's loop.
#pragma once

#include <cstdint>

#include "vmbus/packet_device.h"

namespace bygone::devices::mouse {

/// Where the pointer is and what is pressed.
struct PointerState {
  std::uint16_t x = 0, y = 0;   ///< 0-32767 over the screen
  std::uint8_t buttons = 0;     ///< bit 0 left, 1 right, 2 middle, 3 back, 4 forward
  std::int8_t wheel = 0;        ///< notches since the last report, away from the person positive
  std::int8_t pan = 0;          ///< to the right positive
};

class Mouse final : public vmbus::PacketDevice {
 public:
  Mouse();
  /// False: no driver listens.
  bool move(PointerState state);
  [[nodiscard]] bool is_ready() const { return is_ready_; }

  [[nodiscard]] nlohmann::json inspect() const override;

 private:
  [[nodiscard]] Result<nlohmann::json> save_state() override;
  [[nodiscard]] Result<void> restore_state(const nlohmann::json& state) override;
  [[nodiscard]] Result<void> on_open(const vmbus::ChannelParameters& parameters) override;
  void on_close() override;
  [[nodiscard]] Result<void> on_message(std::span<const std::byte> message) override;
  void send_device_info();

  bool is_ready_ = false;
  std::uint64_t reports_ = 0;
};

}  // namespace bygone::devices::mouse
