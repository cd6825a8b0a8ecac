// Where the fixed hardware of a Hyper-V Generation 2 machine answers: I/O ports, I/O APIC inputs, physical addresses. As its ACPI
// tables (build 22621) and the public sources of its firmware give them; guests and saved states know them, so they never move.
#pragma once

#include <cstdint>

namespace bygone::spec::gen2 {

struct Ports {
  std::uint16_t first = 0;
  std::uint8_t count = 0;
  [[nodiscard]] constexpr std::uint16_t last() const { return static_cast<std::uint16_t>(first + count - 1); }
};

inline constexpr Ports kHelperPorts{0x28, 8};  ///< between firmware and host
inline constexpr Ports kWatchdogPorts{0x30, 8};
inline constexpr Ports kRtcPorts{0x70, 2};
inline constexpr Ports kCom2Ports{0x2F8, 8};
inline constexpr Ports kCom1Ports{0x3F8, 8};
inline constexpr Ports kPowerPorts{0x400, 0x37};

// Registers within kPowerPorts.
inline constexpr std::uint16_t kPm1EventOffset = 0x00, kPm1ControlOffset = 0x04, kPmTimerOffset = 0x08, kGpe0Offset = 0x0C,
                               kResetOffset = 0x33;

inline constexpr std::uint8_t kRtcCenturyRegister = 0x32;  ///< of the CMOS memory; the FADT's CENTURY

// I/O APIC inputs.
inline constexpr std::uint8_t kCom2Interrupt = 3, kCom1Interrupt = 4, kVmbusInterrupt = 5, kRtcInterrupt = 8, kSciInterrupt = 9;

inline constexpr std::uint64_t kIoApicBase = 0xFEC00000, kIoApicSize = 0x1000;

}  // namespace bygone::spec::gen2
