// A 16550A serial port: FIFOs, modem lines of a connected null modem, loopback. National Semiconductor PC16550D data sheet,
// section 8. Characters take no time: the transmitter is always empty, the receiver gives what the host has.
//
// Threading: any thread.
#pragma once

#include <deque>
#include <mutex>

#include "chipset/char_backend.h"
#include "chipset/port_device.h"
#include "chipset/savable.h"

namespace bygone::chipset {

class SerialPort final : public PortDevice, public Savable {
 public:
  /// Ports `base` to `base` + 7. `backend` may be nullptr (output vanishes) and outlives the port.
  SerialPort(std::uint16_t base, InterruptLine& line, CharBackend* backend);
  ~SerialPort() override;

  [[nodiscard]] std::uint32_t read_port(std::uint16_t port, std::uint8_t size) override;
  void write_port(std::uint16_t port, std::uint8_t size, std::uint32_t value) override;

  /// Characters from outside. What the guest has not read beyond 64 KiB is dropped.
  void receive(std::span<const std::byte> data);

  [[nodiscard]] nlohmann::json save() const override;
  [[nodiscard]] Result<void> restore(const nlohmann::json& state) override;
  void reset() override;

 private:
  struct Registers {
    std::uint8_t interrupt_enable = 0, fifo_control = 0, line_control = 0, modem_control = 0, scratch = 0;
    std::uint8_t modem_delta = 0;
    std::uint8_t divisor_low = 12, divisor_high = 0;  // 9600 baud
    bool transmitter_interrupt = false;
    bool overrun = false;
  };
  [[nodiscard]] std::uint8_t read_register(std::uint16_t offset);
  void write_register(std::uint16_t offset, std::uint8_t value);
  [[nodiscard]] std::uint8_t interrupt_cause() const;
  [[nodiscard]] std::uint8_t modem_lines() const;
  [[nodiscard]] bool has_fifo() const;
  void transmit(std::uint8_t value);
  void update_line();

  const std::uint16_t base_;
  InterruptLine& line_;
  CharBackend* backend_;
  mutable std::mutex mutex_;
  Registers registers_;
  std::deque<std::uint8_t> received_;
  std::uint64_t characters_sent_ = 0;
};

}  // namespace bygone::chipset
