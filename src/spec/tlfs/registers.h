// Model-specific registers of the hypervisor interface. Hypervisor Top-Level Functional Specification 6.0b, appendix F.
#pragma once

#include <cstdint>

namespace bygone::spec::tlfs {

enum class Msr : std::uint32_t {
  kGuestOsId = 0x40000000,
  kHypercall = 0x40000001,
  kVpIndex = 0x40000002,
  kReset = 0x40000003,
  kReferenceTime = 0x40000020,
  kReferenceTsc = 0x40000021,
  kTscFrequency = 0x40000022,
  kApicFrequency = 0x40000023,
  kEoi = 0x40000070,
  kIcr = 0x40000071,
  kTpr = 0x40000072,
  kVpAssistPage = 0x40000073,
  kSynicControl = 0x40000080,
  kSynicVersion = 0x40000081,
  kEventFlagsPage = 0x40000082,  ///< SIEFP
  kMessagePage = 0x40000083,     ///< SIMP
  kEndOfMessage = 0x40000084,    ///< EOM
  kSint0 = 0x40000090,
  kSint15 = 0x4000009F,
  kTimer0Configuration = 0x400000B0,  ///< configuration and count alternate
  kTimer3Count = 0x400000B7,
  kCrashParameter0 = 0x40000100,
  kCrashParameter4 = 0x40000104,
  kCrashControl = 0x40000105,
  kTscInvariantControl = 0x40000118,
};
inline constexpr std::uint32_t kFirstMsr = 0x40000000;
inline constexpr std::uint32_t kLastMsr = 0x400001FF;

// Registers that place a page: bit 0 enables, bits 12-63 are the page number, the rest is preserved.
inline constexpr std::uint64_t kPageEnabled = 1;
inline constexpr std::uint64_t kPageNumberShift = 12;
inline constexpr std::uint64_t kHypercallLocked = 2;

// Synthetic interrupt source, section 11.8.4.
inline constexpr std::uint64_t kSintVectorMask = 0xFF;
inline constexpr std::uint64_t kSintMasked = 1U << 16;
inline constexpr std::uint64_t kSintAutoEoi = 1U << 17;
inline constexpr std::uint64_t kSintPolling = 1U << 18;
inline constexpr std::uint8_t kFirstSintVector = 16;
inline constexpr std::uint32_t kSintCount = 16;
inline constexpr std::uint64_t kSynicEnabled = 1;
inline constexpr std::uint64_t kSynicVersion1 = 1;

// Synthetic timer configuration, section 12.4.1.
inline constexpr std::uint64_t kTimerEnabled = 1U << 0;
inline constexpr std::uint64_t kTimerPeriodic = 1U << 1;
inline constexpr std::uint64_t kTimerLazy = 1U << 2;
inline constexpr std::uint64_t kTimerAutoEnable = 1U << 3;
inline constexpr unsigned kTimerVectorShift = 4;
inline constexpr std::uint64_t kTimerDirect = 1U << 12;
inline constexpr unsigned kTimerSintShift = 16;
inline constexpr std::uint32_t kTimersPerVp = 4;

// Guest crash enlightenment, section 8.5.
inline constexpr std::uint64_t kCrashNotify = 1ULL << 63;
inline constexpr std::uint64_t kCrashMessage = 1ULL << 62;
inline constexpr std::uint32_t kCrashParameterCount = 5;

/// Reference time counts in 100 ns (section 12.3).
inline constexpr std::uint64_t kReferenceFrequency = 10'000'000;

}  // namespace bygone::spec::tlfs
