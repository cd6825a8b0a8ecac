// The local APIC's timer in its three modes, and x2APIC mode.
#include "runtime/runtime.h"

namespace guest {
namespace {

constexpr u8 kVector = 0x50;
constexpr u32 kMasked = 1 << 16, kPeriodic = 1 << 17, kDeadline = 2 << 17;
constexpr u32 kMsrApicBase = 0x1B, kMsrDeadline = 0x6E0;
volatile u32 ticks;

void tick(Frame&) {
  ticks = ticks + 1;
  apic_end_of_interrupt();
}
u32 counts_in(u64 milliseconds) { return static_cast<u32>(boot_info().apic_timer_hz / 1000 * milliseconds); }

void check_one_shot() {
  ticks = 0;
  apic_write(kApicDivide, 0xB);  // by 1
  apic_write(kApicLvtTimer, kVector);
  enable_interrupts();
  apic_write(kApicInitialCount, counts_in(2));
  check(wait_for(&ticks, 2000), "a one-shot timer fires");
  wait_milliseconds(6);
  check_equal(ticks, 1, "once");
  check_equal(apic_read(kApicCurrentCount), 0, "and its count is zero");
  disable_interrupts();
}

void check_count() {
  apic_write(kApicLvtTimer, kMasked | kVector);
  apic_write(kApicInitialCount, counts_in(1000));
  const u32 first = apic_read(kApicCurrentCount);
  const u64 start = read_tsc();
  wait_milliseconds(20);
  const u32 second = apic_read(kApicCurrentCount);
  const u64 passed_tsc = read_tsc() - start;
  check(second < first && first <= counts_in(1000), "the count goes down");
  // Its rate against the TSC's: far off is wrong, a little off is the host being busy.
  const u64 expected = boot_info().apic_timer_hz / 1000 * passed_tsc / (boot_info().tsc_hz / 1000);
  const u64 got = first - second;
  check(got > expected / 2 && got < expected * 2, "at the rate that was promised");
  apic_write(kApicDivide, 0x3);  // by 16
  apic_write(kApicInitialCount, counts_in(1000));
  const u32 slow = apic_read(kApicCurrentCount);
  const u64 slow_start = read_tsc();
  wait_milliseconds(20);
  const u64 slow_got = slow - apic_read(kApicCurrentCount);
  const u64 slow_expected = boot_info().apic_timer_hz / 16000 * (read_tsc() - slow_start) / (boot_info().tsc_hz / 1000);
  check(slow_got > slow_expected / 2 && slow_got < slow_expected * 2, "the divider slows it");
  apic_write(kApicInitialCount, 0);
  check_equal(apic_read(kApicCurrentCount), 0, "a count of zero stops it");
  apic_write(kApicDivide, 0xB);
}

void check_periodic() {
  ticks = 0;
  apic_write(kApicLvtTimer, kPeriodic | kVector);
  enable_interrupts();
  apic_write(kApicInitialCount, counts_in(3));
  const u64 start = read_tsc();
  while (ticks < 3 && read_tsc() - start < boot_info().tsc_hz * 5) pause();
  check(ticks >= 3, "a periodic timer fires again and again");
  apic_write(kApicLvtTimer, kMasked | kPeriodic | kVector);
  wait_milliseconds(1);
  const u32 then = ticks;
  wait_milliseconds(10);
  check_equal(ticks, then, "until it is masked");
  apic_write(kApicInitialCount, 0);
  disable_interrupts();
}

void check_deadline() {
  if ((cpuid(1).ecx & 1 << 24) == 0) return note_absent("TSC deadline");
  ticks = 0;
  apic_write(kApicLvtTimer, kDeadline | kVector);
  asm volatile("mfence" ::: "memory");
  u64 deadline, back;
  for (;;) {  // until it was read before its time: on a busy host much may come between two instructions
    deadline = read_tsc() + boot_info().tsc_hz / 1000 * 5;
    write_msr(kMsrDeadline, deadline);
    back = read_msr(kMsrDeadline);
    if (read_tsc() < deadline) break;
    enable_interrupts();
    (void)wait_for(&ticks, 2000);
    disable_interrupts();
    ticks = 0;
  }
  check_equal(back, deadline, "the deadline reads back");
  enable_interrupts();
  check(wait_for(&ticks, 2000), "the deadline fires");
  check(read_tsc() >= deadline, "not before its time");
  check_equal(read_msr(kMsrDeadline), 0, "and is zero then");
  write_msr(kMsrDeadline, 1);
  check(wait_for(&ticks, 1000), "a deadline in the past fires at once");
  u64 soon;
  do {  // until it was disarmed before its time: on a busy host much may come between two instructions
    ticks = 0;
    soon = read_tsc() + boot_info().tsc_hz / 200;
    write_msr(kMsrDeadline, soon);
    write_msr(kMsrDeadline, 0);
  } while (read_tsc() >= soon);
  wait_milliseconds(10);
  check_equal(ticks, 0, "zero disarms it");
  disable_interrupts();
  apic_write(kApicLvtTimer, kMasked);
}

void read_register(u64 index) { (void)read_msr(static_cast<u32>(index)); }
void write_ones(u64 index) { write_msr(static_cast<u32>(index), ~0ULL); }
void write_base(u64 value) { write_msr(kMsrApicBase, value); }
constexpr u64 kNone = 0xFF, kProtection = 13;
u64 code_of(const Fault& fault) { return fault.happened ? fault.vector : kNone; }

void check_x2apic() {
  const u64 base = read_msr(kMsrApicBase);
  check_equal(base & 0xFFFFF000, 0xFEE00000, "the APIC is where it belongs");
  check((base & 1 << 8) != 0, "this is the bootstrap processor");
  check_equal(apic_read(kApicVersion) & 0xFF, 0x14, "its version");
  check_equal(apic_read(kApicId) >> 24, cpuid(1).ebx >> 24, "its id is CPUID's");
  if ((cpuid(1).ecx & 1 << 21) == 0) return note_absent("x2APIC");
  check_equal(code_of(catch_fault(read_register, 0x802)), kProtection, "no x2APIC registers in xAPIC mode");
  write_msr(kMsrApicBase, base | 1 << 10);
  apic_enable();
  check_equal(read_msr(0x802), cpuid(0xB).edx, "the id in x2APIC mode");
  check_equal(read_msr(0x80D), 1, "the logical id follows from it");
  ticks = 0;
  write_msr(0x83F, kVector);
  enable_interrupts();
  pause();
  disable_interrupts();
  check_equal(ticks, 1, "the self IPI register");
  write_msr(0x830, 1ULL << 18 | kVector);
  enable_interrupts();
  pause();
  disable_interrupts();
  check_equal(ticks, 2, "the command register in one write");
  check_equal(code_of(catch_fault(read_register, 0x80E)), kProtection, "no destination format there");
  check_equal(code_of(catch_fault(read_register, 0x831)), kProtection, "no upper half of the command");
  check_equal(code_of(catch_fault(read_register, 0x83F)), kProtection, "self IPI is not read");
  check_equal(code_of(catch_fault(write_ones, 0x802)), kProtection, "the id is not written");
  check_equal(code_of(catch_fault(write_ones, 0x808)), kProtection, "reserved bits of the task priority");
  check_equal(code_of(catch_fault(write_ones, 0x80B)), kProtection, "EOI takes only zero");
  check_equal(code_of(catch_fault(write_base, base)), kProtection, "no way straight back to xAPIC mode");
  check_one_shot();
  write_msr(kMsrApicBase, base & ~(1ULL << 11 | 1 << 10));
  check((cpuid(1).edx & 1 << 9) == 0, "CPUID hides an APIC that is off");
  write_msr(kMsrApicBase, base);
  apic_enable();
  check_equal(apic_read(kApicVersion) & 0xFF, 0x14, "back in xAPIC mode over off");
}

}  // namespace

void run() {
  set_handler(kVector, tick);
  apic_enable();
  check_one_shot();
  check_count();
  check_periodic();
  check_deadline();
  check_x2apic();
}

}  // namespace guest
