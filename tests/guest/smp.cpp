// Several processors: start-up from real mode, atomic operations, IPIs both ways, one that changes another's code.
#include "runtime/runtime.h"

extern "C" {
extern const std::uint8_t smp_trampoline[], smp_trampoline_end[];
extern std::uint64_t smp_stack_top, smp_entry, smp_control3;
}

// Copied to 0x20000, where SIPI vector 0x20 enters it in real mode: descriptors, long mode, then smp_entry on its own stack.
asm(R"(
  .globl smp_trampoline, smp_trampoline_end, smp_stack_top, smp_entry, smp_control3
  .balign 16
smp_trampoline:
  .code16
  cli
  mov %cs, %ax
  mov %ax, %ds
  lgdtl smp_gdt_pointer - smp_trampoline
  mov $0x620 | 0x20, %eax
  mov %eax, %cr4
  mov smp_control3 - smp_trampoline, %eax
  mov %eax, %cr3
  mov $0xC0000080, %ecx
  rdmsr
  or $0x900, %eax
  wrmsr
  mov %cr0, %eax
  and $~0x60000000, %eax
  or $0x80000033, %eax
  mov %eax, %cr0
  ljmpl $8, $(0x20000 + smp_long - smp_trampoline)
  .code64
smp_long:
  mov $0x10, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %ss
  mov 0x20000 + smp_stack_top - smp_trampoline, %rsp
  mov 0x20000 + smp_entry - smp_trampoline, %rax
  call *%rax
1: hlt
  jmp 1b
  .balign 8
smp_gdt: .quad 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF
smp_gdt_pointer: .word 23
  .long 0x20000 + smp_gdt - smp_trampoline
  .balign 8
smp_stack_top: .quad 0
smp_entry: .quad 0
smp_control3: .quad 0
smp_trampoline_end:
)");

namespace guest {
namespace {

constexpr u32 kTrampoline = 0x20000, kStacks = 0x800000, kStackBytes = 0x10000;
constexpr u8 kPing = 0x71, kStop = 0x72;
constexpr u32 kRounds = 20'000;
struct [[gnu::packed]] TablePointer {
  u16 limit;
  u64 base;
};
TablePointer idt_pointer;
volatile u32 started, ids, go, finished_work, pings, stops, code_round;
u64 locked_sum, spin_sum;
volatile u32 spin_lock;

u32 own_id() { return apic_read(kApicId) >> 24; }
void add_locked(u64& target) { asm volatile("lock incq %0" : "+m"(target)); }
void add_locked(volatile u32& target) { asm volatile("lock incl %0" : "+m"(target)); }

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

alignas(64) u8 shared_code[64];
volatile u32 code_seen;

void application_processor() {
  asm volatile("lidt %0" ::"m"(idt_pointer));
  apic_write(kApicSpurious, 0x1FF);
  const u32 bit = 1U << own_id();
  asm volatile("lock orl %1, %0" : "+m"(ids) : "r"(bit));
  add_locked(started);
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
  for (;;) asm volatile("sti; hlt; cli");
}

void send(u32 destination, u32 command) {
  apic_write(kApicIcrHigh, destination << 24);
  apic_write(kApicIcrLow, command);
  while ((apic_read(kApicIcrLow) & 1 << 12) != 0) pause();
}

void start(u32 id) {
  const u64 offset = kTrampoline - reinterpret_cast<u64>(smp_trampoline);
  *reinterpret_cast<volatile u64*>(reinterpret_cast<u64>(&smp_stack_top) + offset) = kStacks + (id + 1) * kStackBytes;
  const u32 before = started;
  send(id, 5 << 8 | 1 << 14);  // INIT
  wait_milliseconds(1);
  send(id, 6 << 8 | kTrampoline >> 12);  // SIPI
  const u64 begin = read_tsc();
  while (started == before && read_tsc() - begin < boot_info().tsc_hz * 5) pause();
}

void check_start() {
  const u64 offset = kTrampoline - reinterpret_cast<u64>(smp_trampoline);
  smp_entry = reinterpret_cast<u64>(&application_processor);
  smp_control3 = read_cr3();
  for (u64 i = 0; smp_trampoline + i < smp_trampoline_end; ++i) {
    reinterpret_cast<volatile u8*>(u64{kTrampoline})[i] = smp_trampoline[i];
  }
  (void)offset;
  asm volatile("sidt %0" : "=m"(idt_pointer));
  for (u32 id = 1; id < boot_info().processors; ++id) start(id);
  check_equal(started, boot_info().processors - 1, "every processor starts from INIT and SIPI");
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

void check_messages() {
  const u32 others = boot_info().processors - 1;
  const auto reaches = [](volatile u32& count, u32 wanted) {
    const u64 begin = read_tsc();
    while (count < wanted && read_tsc() - begin < boot_info().tsc_hz * 5) pause();
    return count == wanted;
  };
  for (u32 id = 1; id <= others; ++id) send(id, 1 << 14 | kPing);
  check(reaches(pings, others), "an IPI reaches each processor out of HLT");
  send(0, 3 << 18 | 1 << 14 | kPing);
  check(reaches(pings, 2 * others), "a broadcast to all but self");
  enable_interrupts();
  send(0, 2 << 18 | 1 << 14 | kStop);
  check(reaches(stops, others + 1), "a broadcast to all, self included");
  // Logical flat mode: each processor sets one bit, here only this one.
  apic_write(kApicDfr, 0xFFFFFFFF);
  apic_write(kApicLdr, 0x80U << 24);
  send(0x80, 1 << 11 | 1 << 14 | kStop);
  check(reaches(stops, others + 2), "a logical destination");
  disable_interrupts();
}

}  // namespace

void run() {
  apic_enable();
  set_handler(kPing, on_ping);
  set_handler(kStop, on_stop);
  check_start();
  check_atomics();
  check_code_change();
  check_messages();
}

}  // namespace guest
