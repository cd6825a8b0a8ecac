// Exceptions: which vector, which error code, where the frame points; double faults; exceptions out of ring 3.
#include "runtime/runtime.h"

namespace guest {
namespace {

enum : u8 { kDivide = 0, kDebug = 1, kBreakpoint = 3, kInvalidOpcode = 6, kDoubleFault = 8, kNotPresent = 11,
            kStack = 12, kProtection = 13, kPage = 14 };

u64 expected_rip;
constexpr u64 kNone = 0xFF;
u64 code_of(const Fault& fault) { return fault.happened ? fault.vector : kNone; }

void divide(u64) {
  asm volatile("lea 1f(%%rip), %%rax; mov %%rax, %0; xor %%edx, %%edx; xor %%ecx, %%ecx; 1: div %%ecx"
               : "=m"(expected_rip)::"rax", "rcx", "rdx");
}
void divide_overflow(u64) {
  asm volatile("mov $1, %%edx; xor %%eax, %%eax; mov $1, %%ecx; div %%ecx" ::: "rax", "rcx", "rdx");
}
void undefined(u64) {
  asm volatile("lea 1f(%%rip), %%rax; mov %%rax, %0; 1: ud2" : "=m"(expected_rip)::"rax");
}
void breakpoint(u64) {
  asm volatile("lea 1f(%%rip), %%rax; mov %%rax, %0; int3; 1: nop" : "=m"(expected_rip)::"rax");
}
void software_interrupt(u64) {
  asm volatile("lea 1f(%%rip), %%rax; mov %%rax, %0; int $0x81; 1: nop" : "=m"(expected_rip)::"rax");
}
void read_at(u64 address) { asm volatile("mov (%0), %%rax" ::"r"(address) : "rax"); }
void read_stack(u64 address) {
  asm volatile("push %%rbp; mov %0, %%rbp; mov (%%rbp), %%rax; pop %%rbp" ::"r"(address) : "rax");
}
void jump_to(u64 address) { asm volatile("jmp *%0" ::"r"(address)); }
void load_segment(u64 selector) { asm volatile("mov %0, %%fs" ::"r"(static_cast<u32>(selector))); }
void write_control4(u64 value) { write_cr4(value); }
void write_control0(u64 value) { write_cr0(value); }
void long_instruction(u64) {
  asm volatile(".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90");
}
void lock_on_register(u64) { asm volatile(".byte 0xF0, 0x01, 0xC0"); }
void lone_prefix_opcode(u64) { asm volatile(".byte 0x06"); }  // PUSH ES: invalid in 64-bit mode

void expect(const Fault& fault, u8 vector, u64 error, const char* what) {
  check_equal(fault.happened ? fault.vector : 0xFFU, vector, what);
  check_equal(fault.error, error, "  its error code");
}
void expect_at(const Fault& fault, u8 vector, const char* what) {
  expect(fault, vector, 0, what);
  check_equal(fault.rip, expected_rip, "  its instruction pointer");
}

void check_kinds() {
  expect_at(catch_fault(divide), kDivide, "division by zero");
  expect(catch_fault(divide_overflow), kDivide, 0, "a quotient that does not fit");
  expect_at(catch_fault(undefined), kInvalidOpcode, "UD2");
  expect_at(catch_fault(breakpoint), kBreakpoint, "INT3 points behind itself");
  expect_at(catch_fault(software_interrupt), 0x81, "INT n points behind itself");
  expect(catch_fault(lock_on_register), kInvalidOpcode, 0, "LOCK on a register");
  expect(catch_fault(lone_prefix_opcode), kInvalidOpcode, 0, "an opcode that 64-bit mode dropped");
  expect(catch_fault(long_instruction), kProtection, 0, "an instruction of sixteen bytes");
}

void check_protection() {
  constexpr u64 kNotCanonical = 0x0000800000000000;
  expect(catch_fault(read_at, kNotCanonical), kProtection, 0, "a read from a non-canonical address");
  check_equal_or_defect(catch_fault(read_stack, kNotCanonical).vector, kStack, kProtection, "the same through RBP");
  expect(catch_fault(jump_to, kNotCanonical), kProtection, 0, "a jump to a non-canonical address");
  expect(catch_fault(load_segment, 0x1000), kProtection, 0x1000, "a selector beyond the table");
  check_equal_or_defect(code_of(catch_fault(write_control4, read_cr4() | 1ULL << 63)), kProtection, kNone,
                        "a reserved bit of CR4");
  expect(catch_fault(write_control4, read_cr4() & ~0x20ULL), kProtection, 0, "PAE cannot go in long mode");
  expect(catch_fault(write_control0, read_cr0() & ~1ULL), kProtection, 0, "paging without protection");
  check_equal_or_defect(code_of(catch_fault(write_control0, read_cr0() | 1ULL << 32)), kProtection, kNone,
                        "a high bit of CR0");
}

// Single step: a trap after each instruction, with BS in DR6.
u32 steps;
void count_step(Frame& frame) {
  ++steps;
  if (steps == 3) frame.rflags &= ~0x100ULL;
}
void check_single_step() {
  set_handler(kDebug, count_step);
  steps = 0;
  u64 status;
  asm volatile("mov %0, %%dr6" ::"r"(0ULL));
  asm volatile("pushfq; orl $0x100, (%%rsp); popfq; nop; nop; nop; nop; nop" ::: "memory", "cc");
  asm volatile("mov %%dr6, %0" : "=r"(status));
  check_equal(steps, 3, "TF traps after each instruction");
  check((status & 1 << 14) != 0, "DR6 says single step");
  set_handler(kDebug, nullptr);
}

// A fault while the processor delivers a fault is a double fault, on its own stack here.
u64 double_fault_stack;
void see_double_fault(Frame&) {
  asm volatile("mov %%rsp, %0" : "=r"(double_fault_stack));
  check(true, "an exception without a gate is a double fault");
  const u64 here = reinterpret_cast<u64>(&double_fault_stack);
  check(double_fault_stack != here, "delivered on the interrupt stack");
  finish();
}
struct [[gnu::packed]] TablePointer {
  u16 limit;
  u64 base;
};
void check_double_fault() {
  set_handler(kDoubleFault, see_double_fault, 1);
  TablePointer idt;
  asm volatile("sidt %0" : "=m"(idt));
  auto* gate = reinterpret_cast<volatile u8*>(idt.base + kInvalidOpcode * 16);
  gate[5] = 0x0E;  // not present: #NP while delivering #UD, and #NP's gate is gone too
  reinterpret_cast<volatile u8*>(idt.base + kNotPresent * 16)[5] = 0x0E;
  asm volatile("ud2");
  check(false, "an exception without a gate is a double fault");
}

// Ring 3. The code runs in place: the identity map is opened to it.
extern "C" void user_int();
extern "C" void user_hlt();
extern "C" void user_cli();
extern "C" void user_out();
extern "C" void user_gate();
asm(R"(
user_int: int $0x81
user_hlt: hlt
user_cli: cli
user_out: mov $0x5000, %dx
  out %al, %dx
user_gate: int $0x40
)");
u64 address(void (*function)()) { return reinterpret_cast<u64>(function); }

void check_ring3() {
  open_to_user_mode();
  const Fault back = run_in_user_mode(address(user_int));
  expect(back, 0x81, 0, "ring 3 comes back by INT");
  check_equal(back.cs, kUserCode64, "  from its own code segment");
  expect(run_in_user_mode(address(user_hlt)), kProtection, 0, "HLT in ring 3");
  expect(run_in_user_mode(address(user_cli)), kProtection, 0, "CLI in ring 3");
  expect(run_in_user_mode(address(user_out)), kProtection, 0, "OUT in ring 3 without permission");
  const Fault gate = run_in_user_mode(address(user_gate));
  check_equal(gate.vector, kProtection, "INT through a gate of ring 0");
  check_equal_or_defect(gate.error, 0x40 * 8 + 2, 0x40 * 16 + 2, "  its error code");
}

}  // namespace

void run() {
  check_kinds();
  check_protection();
  check_single_step();
  check_ring3();
  check_double_fault();
}

}  // namespace guest
