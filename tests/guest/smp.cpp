// Several processors: start-up from real mode, atomic operations, IPIs both ways, one that changes another's code.
#include "runtime/processors.h"
#include "runtime/runtime.h"

namespace guest {
namespace {

constexpr u8 kPing = 0x71, kStop = 0x72, kLowest = 0x73, kSwitch = 0x74;
constexpr u32 kRounds = 20'000;
volatile u32 ids, go, finished_work, pings, stops, lowest, switched, code_round;
u64 locked_sum, spin_sum;
volatile u32 spin_lock;

void work() {
  for (u32 i = 0; i < kRounds; ++i) add_locked(locked_sum);
  for (u32 i = 0; i < kRounds / 10; ++i) {
    while (true) {
      u32 expected = 0;
      asm volatile("lock cmpxchgl %2, %1" : "+a"(expected), "+m"(spin_lock) : "r"(1U) : "memory");
      if (expected == 0) break;
      pause();
    }
    *const_cast<volatile u64*>(&spin_sum) = spin_sum + 1;  // not atomic: the lock guards it
    asm volatile("movl $0, %0" : "=m"(spin_lock)::"memory");
  }
  add_locked(finished_work);
}

void on_ping(Frame&) {
  add_locked(pings);
  apic_end_of_interrupt();
}
void on_stop(Frame&) {
  add_locked(stops);
  apic_end_of_interrupt();
}

void on_lowest(Frame&) {
  add_locked(lowest);
  apic_end_of_interrupt();
}

constexpr u32 kMsrApicBase = 0x1B, kMsrCommand = 0x830, kMsrLogicalId = 0x80D;
void enter_x2apic() { write_msr(kMsrApicBase, read_msr(kMsrApicBase) | 1 << 10); }
void on_switch(Frame&) {
  apic_end_of_interrupt();
  enter_x2apic();
  add_locked(switched);
}

alignas(64) u8 shared_code[64];
volatile u32 code_seen;

void application_processor() {
  const u32 bit = 1U << own_id();
  apic_write(kApicDfr, 0xFFFFFFFF);  // logical flat mode, a bit a processor
  apic_write(kApicLdr, bit << 24);
  asm volatile("lock orl %1, %0" : "+m"(ids) : "r"(bit));
  while (go == 0) pause();
  work();
  // The first processor rewrites the function; a serialising instruction makes the change ours.
  if (own_id() == 1) {
    u32 round = 0;
    while (round < 200) {
      while (code_round == round) pause();
      round = code_round;
      (void)cpuid(0);
      code_seen = reinterpret_cast<u32 (*)()>(shared_code)();
      asm volatile("mfence" ::: "memory");
      add_locked(finished_work);
    }
  }
}

void check_start() {
  const u32 others = boot_info().processors - 1;
  check_equal(start_processors(application_processor), others, "every processor starts from INIT and SIPI");
  const u64 begin = read_tsc();
  while (ids != (1U << boot_info().processors) - 2 && read_tsc() - begin < boot_info().tsc_hz * 5) pause();
  check_equal(ids, (1U << boot_info().processors) - 2, "each with its own APIC id");
}

void check_atomics() {
  go = 1;
  work();
  const u64 begin = read_tsc();
  while (finished_work < boot_info().processors && read_tsc() - begin < boot_info().tsc_hz * 30) pause();
  check_equal(locked_sum, u64{kRounds} * boot_info().processors, "LOCK INC loses nothing");
  check_equal(spin_sum, u64{kRounds / 10} * boot_info().processors, "a spin lock made with CMPXCHG excludes");
}

void check_code_change() {
  bool is_right = true;
  for (u32 round = 1; round <= 200; ++round) {
    const u32 value = round * 3;
    const u8 code[6] = {0xB8, static_cast<u8>(value), static_cast<u8>(value >> 8), 0, 0, 0xC3};
    for (u32 i = 0; i < 6; ++i) const_cast<volatile u8&>(shared_code[i]) = code[i];
    const u32 before = finished_work;
    code_round = round;
    const u64 begin = read_tsc();
    while (finished_work == before && read_tsc() - begin < boot_info().tsc_hz * 5) pause();
    is_right = is_right && code_seen == value;
    if (!is_right) break;
  }
  check(is_right, "code written by one processor runs on another as written");
  code_round = 200;
}

/// On an emulated host a processor may wait seconds for its turn; one that is lost never comes.
bool reaches(volatile u32& count, u32 wanted) {
  constexpr u64 kPatienceSeconds = 30;
  const u64 begin = read_tsc();
  while (count < wanted && read_tsc() - begin < boot_info().tsc_hz * kPatienceSeconds) pause();
  return count == wanted;
}

void check_messages() {
  const u32 others = boot_info().processors - 1;
  for (u32 id = 1; id <= others; ++id) send_ipi(id, 1 << 14 | kPing);
  check(reaches(pings, others), "an IPI reaches each processor out of HLT");
  send_ipi(0, 3 << 18 | 1 << 14 | kPing);
  check(reaches(pings, 2 * others), "a broadcast to all but self");
  enable_interrupts();
  send_ipi(0, 2 << 18 | 1 << 14 | kStop);
  check(reaches(stops, others + 1), "a broadcast to all, self included");
  // Logical flat mode: each processor sets one bit, here only this one.
  apic_write(kApicDfr, 0xFFFFFFFF);
  apic_write(kApicLdr, 0x80U << 24);
  send_ipi(0x80, 1 << 11 | 1 << 14 | kStop);
  check(reaches(stops, others + 2), "a logical destination");
  disable_interrupts();
}

// To all of a set, for one of them: whichever it is, it comes once.
void check_lowest_priority() {
  constexpr u32 kOthers = 0x0E, kLowestPriority = 1 << 8, kRounds = 8;
  for (u32 round = 1; round <= kRounds; ++round) {
    out32(kPortInterrupt, 1U << 24 | kOthers << 16 | kLowestPriority | kLowest);
    if (!reaches(lowest, round)) break;
  }
  wait_milliseconds(5);
  check_equal(lowest, kRounds, "a device's lowest-priority interrupt comes to one of a set, once");
  for (u32 round = 1; round <= kRounds; ++round) {
    send_ipi(kOthers, 1 << 14 | 1 << 11 | kLowestPriority | kLowest);
    if (!reaches(lowest, kRounds + round)) break;
  }
  wait_milliseconds(5);
  check_equal(lowest, 2ULL * kRounds, "so does a processor's");
}

void check_x2apic() {
  if ((cpuid(1).ecx & 1 << 21) == 0) return note_absent("x2APIC");
  const u32 others = boot_info().processors - 1;
  send_ipi(0, 3 << 18 | 1 << 14 | kSwitch);
  enter_x2apic();
  check(reaches(switched, others), "all processors go over to x2APIC mode");
  apic_enable();  // from here on all end interrupts by MSR
  pings = 0;
  for (u32 id = 1; id <= others; ++id) write_msr(kMsrCommand, u64{id} << 32 | 1 << 14 | kPing);
  check(reaches(pings, others), "an IPI with an id of 32 bits reaches each");
  check_equal(read_msr(kMsrLogicalId), 1, "the first processor's logical id is cluster 0, bit 0");
  write_msr(kMsrCommand, u64{0x0E} << 32 | 1 << 14 | 1 << 11 | kPing);
  check(reaches(pings, 2 * others), "a set of a cluster");
  write_msr(kMsrCommand, 3 << 18 | 1 << 14 | kPing);
  check(reaches(pings, 3 * others), "all but self");
}

}  // namespace

void run() {
  apic_enable();
  set_handler(kLowest, on_lowest);
  set_handler(kSwitch, on_switch);
  set_handler(kPing, on_ping);
  set_handler(kStop, on_stop);
  check_start();
  check_atomics();
  check_code_change();
  check_messages();
  check_lowest_priority();
  check_x2apic();
}

}  // namespace guest
