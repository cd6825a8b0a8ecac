// Ports of hardware that this machine does not have and that operating systems probe all the same: reads give all ones,
// writes vanish, nobody is told.
#pragma once

#include <array>
#include <cstdint>

#include "spec/gen2/platform.h"

namespace bygone::chipset {

struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;  ///< inclusive
  [[nodiscard]] constexpr bool contains(std::uint16_t port) const { return port >= first && port <= last; }
};

inline constexpr std::array kAbsorbedPorts = {
    PortRange{0x020, 0x021},    // first interrupt controller
    PortRange{0x040, 0x043},    // interval timer
    PortRange{0x060, 0x061},    // keyboard data, system control B
    PortRange{0x064, 0x064},    // keyboard controller
    PortRange{0x080, 0x087},    // diagnostics, DMA pages
    PortRange{0x0A0, 0x0A1},    // second interrupt controller
    PortRange{0x0ED, 0x0ED},    // I/O delay
    PortRange{0x201, 0x201},    // game port
    PortRange{0x2E8, 0x2EF},    // COM4
    PortRange{spec::gen2::kCom2Ports.first, spec::gen2::kCom2Ports.last()},  // COM2 when it is absent
    PortRange{0x3B0, 0x3DF},    // VGA
    PortRange{0x3E8, 0x3EF},    // COM3
    PortRange{spec::gen2::kCom1Ports.first, spec::gen2::kCom1Ports.last()},  // COM1 when it is absent
    PortRange{0x4D0, 0x4D1},    // edge/level control
    PortRange{0xCF8, 0xCFF},    // PCI configuration
    PortRange{0x5658, 0x5659},  // another hypervisor's back door
};

[[nodiscard]] constexpr bool is_absorbed_port(std::uint16_t port) {
  for (const PortRange& range : kAbsorbedPorts) {
    if (range.contains(port)) return true;
  }
  return false;
}

}  // namespace bygone::chipset
