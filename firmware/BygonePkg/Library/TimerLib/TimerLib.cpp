// Time by the TSC: reading it never leaves the guest, unlike the reference counter and the PM timer. Its frequency comes from the
// hypervisor.
// SPDX-License-Identifier: Apache-2.0
#include <BygoneHyperV.h>

extern "C" {
#include <Library/TimerLib.h>
}

namespace {

constexpr UINT64 kDefaultFrequency = 1000000000;
constexpr UINT64 kMicrosecondsPerSecond = 1000000;
constexpr UINT64 kNanosecondsPerSecond = 1000000000;
constexpr UINT32 kTscLeaf = 0x15;

UINT64 known_frequency;

UINT64 from_hypervisor() {
  return bygone::hyperv::features().has_frequency_msrs() ? bygone::hyperv::read(bygone::hyperv::Msr::kTscFrequency) : 0;
}

/// Intel SDM volume 2A, CPUID: the crystal's frequency and the TSC's ratio to it.
UINT64 from_processor() {
  UINT32 maximum_leaf = 0;
  AsmCpuid(0, &maximum_leaf, nullptr, nullptr, nullptr);
  if (maximum_leaf < kTscLeaf) return 0;
  UINT32 denominator = 0;
  UINT32 numerator = 0;
  UINT32 crystal = 0;
  AsmCpuid(kTscLeaf, &denominator, &numerator, &crystal, nullptr);
  return denominator == 0 ? 0 : UINT64{crystal} * numerator / denominator;
}

/// Asked for once by each module: it costs exits from the guest.
UINT64 frequency() {
  if (known_frequency == 0) known_frequency = from_hypervisor();
  if (known_frequency == 0) known_frequency = from_processor();
  if (known_frequency == 0) known_frequency = kDefaultFrequency;
  return known_frequency;
}

/// `count * to / from`, which must fit itself, where the product need not.
constexpr UINT64 scale(UINT64 count, UINT64 from, UINT64 to) { return count / from * to + count % from * to / from; }

static_assert(scale(3000000000000, kNanosecondsPerSecond, 4000000000) == 12000000000000);
static_assert(scale(5999999999, 4000000000, kNanosecondsPerSecond) == 1499999999);

void delay(UINT64 ticks) {
  const UINT64 start = AsmReadTsc();
  while (AsmReadTsc() - start < ticks) CpuPause();
}

}  // namespace

UINTN EFIAPI MicroSecondDelay(UINTN microseconds) {
  delay(scale(microseconds, kMicrosecondsPerSecond, frequency()));
  return microseconds;
}

UINTN EFIAPI NanoSecondDelay(UINTN nanoseconds) {
  delay(scale(nanoseconds, kNanosecondsPerSecond, frequency()));
  return nanoseconds;
}

UINT64 EFIAPI GetPerformanceCounter() { return AsmReadTsc(); }

UINT64 EFIAPI GetPerformanceCounterProperties(UINT64* start, UINT64* end) {
  if (start != nullptr) *start = 0;
  if (end != nullptr) *end = MAX_UINT64;
  return frequency();
}

UINT64 EFIAPI GetTimeInNanoSecond(UINT64 ticks) { return scale(ticks, frequency(), kNanosecondsPerSecond); }
