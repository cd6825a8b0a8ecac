// SYSENTER and SYSEXIT between ring 3 and ring 0 of 64-bit mode; without a code segment SYSENTER faults.
// expects: rax=0x8 rbx=0x10 rcx=0x0 rdx=0x0 rsi=0x87000 rdi=0x33 r8=0x2b r9=0x0 r10=0x1b r11=0xd r12=0x0
#include "common.inc"
  LONG_GUEST
  OPEN_TO_USER
  mov $0x174, %ecx
  mov $kKernelCode, %eax
  xor %edx, %edx
  wrmsr
  mov $0x175, %ecx
  mov $0x87000, %eax
  wrmsr
  mov $0x176, %ecx
  mov $entry, %eax
  wrmsr
  ENTER_USER user
user:
  sysenter
entry:
  mov %cs, %eax
  mov %ss, %ebx
  mov %rsp, %rsi
  mov $back, %edx
  mov $kUserStack, %ecx
  TRY 1f
  sysexitq
back:
  int $0x21
1: mov fault_cs, %r8              // 08 + 32, 08 + 40, of ring 3
  mov fault_ss, %rdi
  mov fault_rsp, %r9
  sub $kUserStack, %r9
  mov $compatible, %edx
  mov $kUserStack, %ecx
  TRY 2f
  sysexitl
  .code32
compatible:
  inc %eax
  int $0x21
  .code64
2: mov fault_cs, %r10             // 08 + 16
  dec %eax
  push %rax
  mov $0x174, %ecx
  xor %eax, %eax
  xor %edx, %edx
  wrmsr
  TRY 3f
  sysenter
3: pop %rax
  mov fault_vector, %r11
  mov fault_error, %r12
  xor %ecx, %ecx
  xor %edx, %edx
  DONE
  LONG_TABLES
