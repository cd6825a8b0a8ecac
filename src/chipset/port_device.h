// What a device on the I/O port or memory bus is to the machine, and the lines that devices raise.
#pragma once

#include <cstdint>

namespace bygone::chipset {

/// Threading: from any vCPU thread; the device locks itself. A device may raise its line with its lock held: the order is
/// device, I/O APIC, local APIC, timer service.
class PortDevice {
 public:
  virtual ~PortDevice() = default;
  /// `port` is absolute; `size` is 1, 2 or 4 bytes. Ports that the device does not decode read all-ones.
  [[nodiscard]] virtual std::uint32_t read_port(std::uint16_t port, std::uint8_t size) = 0;
  virtual void write_port(std::uint16_t port, std::uint8_t size, std::uint32_t value) = 0;
};

/// Threading: from any vCPU thread; the device locks itself.
class MmioDevice {
 public:
  virtual ~MmioDevice() = default;
  /// `offset` from the device's base; `size` 1, 2, 4 or 8 bytes, inside one page.
  [[nodiscard]] virtual std::uint64_t read_mmio(std::uint64_t offset, std::uint8_t size) = 0;
  virtual void write_mmio(std::uint64_t offset, std::uint8_t size, std::uint64_t value) = 0;
};

/// One input of the interrupt controller; high asserts it, whatever the pin's electrical polarity. Threading: any thread.
class InterruptLine {
 public:
  virtual ~InterruptLine() = default;
  virtual void set_level(bool is_high) = 0;
};

}  // namespace bygone::chipset
