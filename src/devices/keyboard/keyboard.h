// The synthetic keyboard: key strokes of scan code set 1 from the host, lock lights from the guest.
// Threading: as vmbus::Device; strike() on the device's loop.
#pragma once

#include <cstdint>
#include <functional>

#include "vmbus/packet_device.h"

namespace bygone::devices::keyboard {

/// One press or release. `code` is the set-1 make code without its prefix.
struct KeyStroke {
  std::uint8_t code = 0;
  bool is_release = false;
  bool is_e0 = false;
  bool is_e1 = false;
};

class Keyboard final : public vmbus::PacketDevice {
 public:
  /// `on_leds` hears the guest's lock lights (bit 0 scroll, 1 num, 2 caps); may be empty.
  explicit Keyboard(std::function<void(std::uint8_t leds)> on_leds = {});

  /// False: no driver listens, the stroke is lost.
  bool strike(KeyStroke stroke);
  [[nodiscard]] bool is_ready() const { return is_ready_; }

  [[nodiscard]] nlohmann::json inspect() const override;

 private:
  [[nodiscard]] Result<nlohmann::json> save_state() override;
  [[nodiscard]] Result<void> restore_state(const nlohmann::json& state) override;
  [[nodiscard]] Result<void> on_open(const vmbus::ChannelParameters& parameters) override;
  void on_close() override;
  [[nodiscard]] Result<void> on_message(std::span<const std::byte> message) override;

  std::function<void(std::uint8_t)> on_leds_;
  bool is_ready_ = false;
  std::uint64_t strokes_ = 0;
};

}  // namespace bygone::devices::keyboard
