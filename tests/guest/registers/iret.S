// IRET of long mode: always with a stack, to code of 32 bits, to nowhere, with NT, with selectors that do not fit.
// expects: rax=0x80000000 rbx=0x8f000 rcx=0x18 rdx=0xd rsi=0x0 rdi=0xd r8=0x0 r9=0xd r10=0x18 r11=0x2 r12=0x13579bdf r13=0xd r14=0x28
#include "common.inc"
  LONG_GUEST
  pushq $kKernelData            // in the same ring: RSP and SS are loaded
  pushq $0x8F000
  pushq $2
  pushq $kKernelCode
  pushq $1f
  iretq
1: mov %rsp, %rbx
  pushq $kKernelData            // to code of 32 bits in ring 0
  pushq $0x8F000
  pushq $2
  pushq $kKernelCode32
  pushq $narrow
  iretq
  .code32
narrow:
  mov %cs, %ecx
  mov $0x7FFFFFFF, %eax
  inc %eax
  mov $0x13579BDF, %edx
  pushl $kKernelCode
  pushl $2f
  lret
  .code64
2: mov %rdx, %r12
  TRY 3f                        // NT: there are no tasks to return to
  pushfq
  orq $0x4000, (%rsp)
  popfq
  pushq $kKernelData
  pushq $0x8F000
  pushq $2
  pushq $kKernelCode
  pushq $bad
  iretq
3: mov fault_vector, %rdx
  mov fault_error, %rsi
  TRY 4f                        // an address that is none
  mov $0x0000800000000000, %rdi
  pushq $kKernelData
  pushq $0x8F000
  pushq $2
  pushq $kKernelCode
  push %rdi
  iretq
4: mov fault_vector, %rdi
  mov fault_error, %r8
  TRY 5f                        // code of 32 bits is no stack
  pushq $kKernelCode32
  pushq $0x8F000
  pushq $2
  pushq $kKernelCode
  pushq $bad
  iretq
5: mov fault_vector, %r9
  mov fault_error, %r10
  pushfq
  pop %r11
  TRY 6f                        // ring 3 with a data segment for code
  pushq $kUserData
  pushq $0x80000
  pushq $2
  pushq $kUserData
  pushq $bad
  iretq
6: mov fault_vector, %r13
  mov fault_error, %r14
  DONE
bad:
  mov $0xBAD, %eax
  DONE
  LONG_TABLES
