// Finds the one device behind an I/O port or a guest physical address.
// Threading: devices are attached before the machine runs; after that every call is from any thread and takes no lock.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "chipset/port_device.h"
#include "cpu/exit.h"
#include "spec/gen2/platform.h"
#include "support/log.h"

namespace bygone::machine::gen2 {

class PortBus {
 public:
  explicit PortBus(Log log) : log_(std::move(log)) {}
  /// A later device takes ports over from an earlier one. At most 254 devices.
  void attach(spec::gen2::Ports ports, chipset::PortDevice& device);
  /// Answers the exit: fills `data` for reads, element by element.
  void handle(cpu::PortExit& exit);

 private:
  static constexpr std::uint8_t kNobody = 0, kAbsorbed = 1;
  [[nodiscard]] std::uint32_t read(std::uint16_t port, std::uint8_t size);
  void write(std::uint16_t port, std::uint8_t size, std::uint32_t value);
  void report_unknown(std::uint16_t port, bool is_write);

  struct Owners {
    Owners();
    std::array<std::uint8_t, 0x10000> by_port = {};  ///< an index into devices_, kNobody or kAbsorbed
  };
  std::unique_ptr<Owners> owners_ = std::make_unique<Owners>();
  std::vector<chipset::PortDevice*> devices_ = {nullptr, nullptr};
  Log log_;
  RateLimit limit_;
};

class MmioBus {
 public:
  explicit MmioBus(Log log) : log_(std::move(log)) {}
  void attach(std::uint64_t base, std::uint64_t size, chipset::MmioDevice& device);
  void handle(cpu::MmioExit& exit);

 private:
  struct Range {
    std::uint64_t base, size;
    chipset::MmioDevice* device;
  };
  std::vector<Range> ranges_;
  Log log_;
  RateLimit limit_;
};

}  // namespace bygone::machine::gen2
