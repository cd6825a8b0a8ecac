// The local APIC's registers. Intel SDM volume 3 (December 2023), chapter 11; tables 11-1 and 11-6.
#pragma once

#include <cstdint>

namespace bygone::spec::x86 {

inline constexpr std::uint64_t kLocalApicDefaultBase = 0xFEE00000;
inline constexpr std::uint32_t kLocalApicPageBytes = 0x1000;

/// Offsets in the xAPIC page; the x2APIC MSR is kX2ApicMsrBase + offset / 16.
enum class ApicRegister : std::uint16_t {
  kId = 0x020,
  kVersion = 0x030,
  kTaskPriority = 0x080,
  kArbitrationPriority = 0x090,
  kProcessorPriority = 0x0A0,
  kEoi = 0x0B0,
  kRemoteRead = 0x0C0,
  kLogicalDestination = 0x0D0,
  kDestinationFormat = 0x0E0,
  kSpuriousVector = 0x0F0,
  kInService = 0x100,     ///< eight registers
  kTriggerMode = 0x180,   ///< eight registers
  kInterruptRequest = 0x200,  ///< eight registers
  kErrorStatus = 0x280,
  kInterruptCommandLow = 0x300,
  kInterruptCommandHigh = 0x310,
  kLvtTimer = 0x320,
  kLvtThermal = 0x330,
  kLvtPerformance = 0x340,
  kLvtLint0 = 0x350,
  kLvtLint1 = 0x360,
  kLvtError = 0x370,
  kInitialCount = 0x380,
  kCurrentCount = 0x390,
  kDivideConfiguration = 0x3E0,
  kSelfIpi = 0x3F0,  ///< x2APIC only
};

// Model-specific registers.
inline constexpr std::uint32_t kMsrApicBase = 0x1B;
inline constexpr std::uint32_t kMsrTscDeadline = 0x6E0;
inline constexpr std::uint32_t kX2ApicMsrFirst = 0x800;
inline constexpr std::uint32_t kX2ApicMsrLast = 0x8FF;
inline constexpr std::uint64_t kApicBaseIsBootProcessor = 1U << 8;
inline constexpr std::uint64_t kApicBaseX2Apic = 1U << 10;
inline constexpr std::uint64_t kApicBaseEnabled = 1U << 11;

// Local vector table, figure 11-8.
inline constexpr std::uint32_t kLvtVectorMask = 0xFF;
inline constexpr std::uint32_t kLvtDeliveryShift = 8;  ///< three bits
inline constexpr std::uint32_t kLvtDeliveryPending = 1U << 12;
inline constexpr std::uint32_t kLvtActiveLow = 1U << 13;
inline constexpr std::uint32_t kLvtRemoteIrr = 1U << 14;
inline constexpr std::uint32_t kLvtLevel = 1U << 15;
inline constexpr std::uint32_t kLvtMasked = 1U << 16;
inline constexpr std::uint32_t kLvtTimerModeShift = 17;  ///< two bits
enum class ApicTimerMode : std::uint8_t { kOneShot = 0, kPeriodic = 1, kTscDeadline = 2, kReserved = 3 };

// Spurious interrupt vector register, figure 11-23.
inline constexpr std::uint32_t kSpuriousSoftwareEnable = 1U << 8;

// Interrupt command register, figures 11-12 and 11-28.
inline constexpr std::uint32_t kIcrDeliveryShift = 8;
inline constexpr std::uint32_t kIcrLogical = 1U << 11;
inline constexpr std::uint32_t kIcrDeliveryPending = 1U << 12;
inline constexpr std::uint32_t kIcrAssert = 1U << 14;
inline constexpr std::uint32_t kIcrLevel = 1U << 15;
inline constexpr std::uint32_t kIcrShorthandShift = 18;
enum class IcrShorthand : std::uint8_t { kNone = 0, kSelf = 1, kAll = 2, kAllButSelf = 3 };
inline constexpr std::uint32_t kIcrWritable = 0x000CCFFF & ~kIcrDeliveryPending;

// Error status register, figure 11-9.
inline constexpr std::uint32_t kErrorSendIllegalVector = 1U << 5;
inline constexpr std::uint32_t kErrorReceiveIllegalVector = 1U << 6;
inline constexpr std::uint32_t kErrorIllegalRegister = 1U << 7;

/// Vectors below this are reserved for exceptions and rejected (11.5.2).
inline constexpr std::uint8_t kFirstApicVector = 16;

}  // namespace bygone::spec::x86
