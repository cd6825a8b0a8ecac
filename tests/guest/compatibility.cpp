// 32-bit code under a 64-bit kernel (compatibility mode): operand and address sizes, dropped instructions, the way back.
#include "runtime/runtime.h"

extern "C" {
void compat_call(void (*code)(), std::uint64_t stack);
void compat_basic();
void compat_flow();
void compat_fault();
void compat_hypercall();
void compat_user();
extern std::uint32_t compat_results[16];
}

// compat_call: far to the 32-bit segment, near-call the code there, far back. All of it lies below 4 GiB.
asm(R"(
  .text
  .globl compat_call
compat_call:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, compat_saved
  mov %rsi, %rsp
  mov %rdi, %rax
  ljmpl *compat_target
  .code32
compat_enter:
  call *%eax
  ljmpl $8, $compat_leave
  .code64
compat_leave:
  mov compat_saved, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret

  .code32
compat_basic:
  mov $0x7FFFFFFF, %eax
  inc %eax
  mov %eax, compat_results
  pushf
  popl compat_results+4
  mov $0xFFFFFFFF, %ecx
  mov compat_results(%ecx,%ecx,1), %edx
  push $0x12345678
  mov (%esp), %edx
  mov %edx, compat_results+8
  add $4, %esp
  mov $0x1234, %ax
  .byte 0x27
  movzx %al, %edx
  mov %edx, compat_results+12
  push %es
  popl compat_results+16
  mov $5, %al
  mov $7, %bl
  mul %bl
  aam
  movzx %ax, %edx
  mov %edx, compat_results+20
  ret
compat_flow:
  xor %eax, %eax
  mov $10, %ecx
1: add %ecx, %eax
  loop 1b
  mov %eax, compat_results
  pusha
  xor %eax, %eax
  xor %ebx, %ebx
  popa
  mov %eax, compat_results+4
  mov $0x00010002, %edx
  bound %edx, compat_bounds
  lea compat_far, %edx
  lcall *compat_far_pointer
  mov %eax, compat_results+8
  ret
compat_far:
  mov $0xFA12, %eax
  lret
compat_fault:
  mov $0x10, %edx
  xor %ecx, %ecx
  mov (%ecx,%edx,1), %eax
  mov %eax, compat_results
  ud2
compat_hypercall:
  push %ebx
  push %esi
  push %edi
  mov $0x0000B001, %eax
  mov $0x11110000, %edx
  mov $0x22222222, %ebx
  mov $0x33333333, %ecx
  mov $0x44444444, %edi
  mov $0x55555555, %esi
  mov $0x9000, %ebp
  call *%ebp
  mov %eax, compat_results
  mov %edx, compat_results+4
  pop %edi
  pop %esi
  pop %ebx
  ret
compat_user:
  mov $0x80000000, %eax
  add %eax, %eax
  adc $0, %eax
  mov %eax, compat_results
  mov %cs, %eax
  mov %eax, compat_results+4
  int $0x81
  .code64
  .data
  .balign 8
compat_target: .long compat_enter
  .word 0x18
  .balign 8
compat_far_pointer: .long compat_far
  .word 0x18
  .balign 8
compat_bounds: .long 0, 0x20000
compat_saved: .quad 0
  .globl compat_results
compat_results: .zero 64
  .text
)");

namespace guest {
namespace {

constexpr u64 kStack = 0x700000;
void call_fault(u64) { compat_call(compat_fault, kStack); }

void user_entry(u64) {
  asm volatile("push %0; push %1; push $2; push %2; push %3; iretq" ::"r"(u64{kUserData}), "r"(kStack),
               "r"(u64{kUserCode32}), "r"(reinterpret_cast<u64>(&compat_user)));
}

}  // namespace

void run() {
  compat_call(compat_basic, kStack);
  check_equal(compat_results[0], 0x80000000, "40 is INC EAX");
  check((compat_results[1] & 0x880) == 0x880, "and sets sign and overflow");
  check_equal(compat_results[2], 0x12345678, "the stack has 32-bit slots");
  check_equal(compat_results[3], 0x34, "DAA");
  check_equal(compat_results[4] & 0xFFFF, kData, "PUSH ES");
  check_equal(compat_results[5], 0x0305, "AAM");
  compat_call(compat_flow, kStack);
  check_equal(compat_results[0], 55, "LOOP counts ECX");
  check_equal(compat_results[1], 55, "PUSHA and POPA");
  check_equal(compat_results[2], 0xFA12, "a far call and return");
  const Fault fault = catch_fault(call_fault);
  check_equal(fault.vector, 6, "a fault goes to the 64-bit handler");
  check_equal(fault.cs, kCode32, "  out of the 32-bit segment");
  compat_call(compat_hypercall, kStack);
  check_equal(compat_results[0], 0x0000B001U ^ 0x33333333U ^ 0x55555555U, "a hypercall with 32-bit registers: EAX");
  check_equal(compat_results[1], 0x11110000U ^ 0x22222222U ^ 0x44444444U, "and EDX");
  open_to_user_mode();
  const Fault user = catch_fault(user_entry);
  check_equal(user.vector, 0x81, "32-bit ring 3 comes back by INT");
  check_equal(user.cs, kUserCode32, "  out of its segment");
  check_equal(compat_results[0], 1, "  with 32-bit arithmetic");
}

}  // namespace guest
