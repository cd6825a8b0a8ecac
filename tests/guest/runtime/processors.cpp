// Starting the other processors of a 64-bit guest.
#include "processors.h"

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
struct [[gnu::packed]] TablePointer {
  u16 limit;
  u64 base;
};
TablePointer idt_pointer;
volatile u32 started;
void (*entered)();

void enter() {
  asm volatile("lidt %0" ::"m"(idt_pointer));
  apic_write(kApicSpurious, 0x1FF);
  asm volatile("lock incl %0" : "+m"(started));
  entered();
  for (;;) asm volatile("sti; hlt; cli");
}

}  // namespace

void send_ipi(u32 destination, u32 command) {
  apic_write(kApicIcrHigh, destination << 24);
  apic_write(kApicIcrLow, command);
  while ((apic_read(kApicIcrLow) & 1 << 12) != 0) pause();
}

u32 start_processors(void (*entry)()) {
  entered = entry;
  smp_entry = reinterpret_cast<u64>(&enter);
  smp_control3 = read_cr3();
  for (u64 i = 0; smp_trampoline + i < smp_trampoline_end; ++i) {
    reinterpret_cast<volatile u8*>(u64{kTrampoline})[i] = smp_trampoline[i];
  }
  asm volatile("sidt %0" : "=m"(idt_pointer));
  const u64 offset = kTrampoline - reinterpret_cast<u64>(smp_trampoline);
  for (u32 id = 1; id < boot_info().processors; ++id) {
    *reinterpret_cast<volatile u64*>(reinterpret_cast<u64>(&smp_stack_top) + offset) = kStacks + (id + 1) * kStackBytes;
    const u32 before = started;
    send_ipi(id, 5 << 8 | 1 << 14);  // INIT
    wait_milliseconds(1);
    send_ipi(id, 6 << 8 | kTrampoline >> 12);  // SIPI
    const u64 begin = read_tsc();
    while (started == before && read_tsc() - begin < boot_info().tsc_hz * 5) pause();
  }
  return started;
}

}  // namespace guest
