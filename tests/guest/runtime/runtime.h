// The runtime of the test guests: text, checks, processor access, interrupt vectors. Freestanding; one guest an image.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../protocol.h"

namespace guest {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

/// What the subject's file defines: its checks.
void run();

// --- Reporting ---------------------------------------------------------------------------------------------------------
void print(const char* text);
void print_hex(u64 value);
/// Prints "ok what" or "FAILED what" and counts.
void check(bool is_right, const char* what);
void check_equal(u64 got, u64 expected, const char* what);
/// As check_equal, but a processor that is itself emulated under KVM may give `defect`, a known error of that emulator's.
void check_equal_or_defect(u64 got, u64 expected, u64 defect, const char* what);
/// A part that this processor does not have; printed, not counted as a failure.
void note_absent(const char* what);
[[noreturn]] void finish();

// --- Processor ---------------------------------------------------------------------------------------------------------
inline void out8(u16 port, u8 value) { asm volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
inline void out16(u16 port, u16 value) { asm volatile("outw %0, %1" ::"a"(value), "Nd"(port)); }
inline void out32(u16 port, u32 value) { asm volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
inline u8 in8(u16 port) {
  u8 value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline u16 in16(u16 port) {
  u16 value;
  asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline u32 in32(u16 port) {
  u32 value;
  asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline u64 read_msr(u32 index) {
  u32 low, high;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index) : "memory");
  return u64{high} << 32 | low;
}
inline void write_msr(u32 index, u64 value) {
  asm volatile("wrmsr" ::"c"(index), "a"(static_cast<u32>(value)), "d"(static_cast<u32>(value >> 32)) : "memory");
}
struct Cpuid {
  u32 eax, ebx, ecx, edx;
};
inline Cpuid cpuid(u32 leaf, u32 subleaf = 0) {
  Cpuid r;
  asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
  return r;
}
#define GUEST_CONTROL_REGISTER(name)                                                        \
  inline u64 read_##name() {                                                                \
    u64 value;                                                                              \
    asm volatile("mov %%" #name ", %0" : "=r"(value)::"memory");                            \
    return value;                                                                           \
  }                                                                                         \
  inline void write_##name(u64 value) { asm volatile("mov %0, %%" #name ::"r"(value) : "memory"); }
GUEST_CONTROL_REGISTER(cr0)
GUEST_CONTROL_REGISTER(cr2)
GUEST_CONTROL_REGISTER(cr3)
GUEST_CONTROL_REGISTER(cr4)
GUEST_CONTROL_REGISTER(cr8)
#undef GUEST_CONTROL_REGISTER
inline u64 read_tsc() {
  u32 low, high;
  asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high)::"memory");
  return u64{high} << 32 | low;
}
inline void invalidate_page(u64 address) { asm volatile("invlpg (%0)" ::"r"(address) : "memory"); }
inline void enable_interrupts() { asm volatile("sti; nop" ::: "memory"); }
inline void disable_interrupts() { asm volatile("cli" ::: "memory"); }
/// Waits for one interrupt and returns with interrupts off.
inline void halt_for_interrupt() { asm volatile("sti; hlt; cli" ::: "memory"); }
inline void pause() { asm volatile("pause" ::: "memory"); }

[[nodiscard]] inline const BootInfo& boot_info() { return *reinterpret_cast<const BootInfo*>(u64{kBootInfo}); }

inline constexpr u32 kMsrEfer = 0xC0000080;
inline constexpr u16 kCode64 = 0x08, kData = 0x10, kCode32 = 0x18, kUserCode32 = 0x20 | 3, kUserData = 0x28 | 3,
                     kUserCode64 = 0x30 | 3, kTask = 0x38;

// --- Interrupts and exceptions -----------------------------------------------------------------------------------------
struct Frame {
  u64 rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
  u64 vector, error;
  u64 rip, cs, rflags, rsp, ss;
};
using Handler = void (*)(Frame& frame);
/// Without a handler a vector ends the run with a report. `stack` is an IST number, 0 for none; `ring` is the gate's DPL.
void set_handler(u8 vector, Handler handler, u8 stack = 0, u8 ring = 0);

struct Fault {
  bool happened = false;
  u8 vector = 0;
  u64 error = 0;
  u64 rip = 0;
  u64 address = 0;  ///< CR2
  u64 cs = 0;
  u64 rflags = 0;
};
/// Calls `code(argument)` and returns the exception that ended it, if one did.
Fault catch_fault(void (*code)(u64 argument), u64 argument = 0);
/// Runs 64-bit code in ring 3 on its own stack until it faults or does INT 0x81, which comes back as a Fault too.
/// Pages that it touches must be the user's: see open_to_user_mode().
Fault run_in_user_mode(u64 rip);
/// Sets the user bit in the identity map's tables.
void open_to_user_mode();

// --- Local APIC (x2APIC or xAPIC, whichever is on) ---------------------------------------------------------------------
u32 apic_read(u32 offset);
void apic_write(u32 offset, u32 value);
void apic_enable();
void apic_end_of_interrupt();
inline constexpr u32 kApicId = 0x20, kApicVersion = 0x30, kApicTpr = 0x80, kApicPpr = 0xA0, kApicEoi = 0xB0,
                     kApicLdr = 0xD0, kApicDfr = 0xE0, kApicSpurious = 0xF0, kApicIsr = 0x100, kApicTmr = 0x180,
                     kApicIrr = 0x200, kApicIcrLow = 0x300, kApicIcrHigh = 0x310, kApicLvtTimer = 0x320,
                     kApicInitialCount = 0x380, kApicCurrentCount = 0x390, kApicDivide = 0x3E0;

/// Waits until `*flag` is not zero or `milliseconds` of TSC time have passed; false in the latter case.
bool wait_for(const volatile u32* flag, u64 milliseconds);
void wait_milliseconds(u64 milliseconds);

}  // namespace guest
