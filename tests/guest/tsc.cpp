// The time stamp counter: forward, writable, adjustable, at the promised rate.
#include "runtime/runtime.h"

namespace guest {

namespace {
constexpr u32 kMsrTsc = 0x10, kMsrAdjust = 0x3B;
constexpr u64 kProtection = 13;
extern "C" void user_rdtsc();
asm(R"(
user_rdtsc: rdtsc
  int $0x81
)");
}  // namespace

void run() {
  u64 last = read_tsc();
  bool is_forward = true;
  for (u32 i = 0; i < 20'000; ++i) {
    const u64 now = read_tsc();
    is_forward = is_forward && now >= last;
    last = now;
  }
  check(is_forward, "it never goes back");
  const u64 by_register = read_msr(kMsrTsc);
  check(by_register >= last && by_register - last < boot_info().tsc_hz, "its register reads the same counter");
  u64 rax = ~0ULL, rdx = ~0ULL;
  asm volatile("rdtsc" : "+a"(rax), "+d"(rdx));
  check(rax >> 32 == 0 && rdx >> 32 == 0, "RDTSC clears the upper halves");

  constexpr u64 kFar = 1ULL << 50;
  write_msr(kMsrTsc, kFar);
  const u64 moved = read_tsc();
  check(moved >= kFar && moved - kFar < boot_info().tsc_hz, "a write moves it");
  if ((cpuid(7).ebx & 2) != 0) {
    const u64 adjust = read_msr(kMsrAdjust);
    write_msr(kMsrAdjust, adjust + kFar);
    const u64 further = read_tsc();
    check(further >= 2 * kFar && further - 2 * kFar < boot_info().tsc_hz, "TSC_ADJUST moves it too");
  } else {
    note_absent("TSC_ADJUST");
  }
  open_to_user_mode();
  check_equal(run_in_user_mode(reinterpret_cast<u64>(&user_rdtsc)).vector, 0x81, "ring 3 may read it");
  write_cr4(read_cr4() | 4);
  check_equal(run_in_user_mode(reinterpret_cast<u64>(&user_rdtsc)).vector, kProtection, "unless CR4.TSD is set");
  (void)read_tsc();
  check(true, "ring 0 always may");
}

}  // namespace guest
