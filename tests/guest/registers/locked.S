// Locked operations of all widths, within a line, across lines and across pages; 16 bytes that are not aligned fault.
// expects: rax=0x11 rbx=0x13 rcx=0x14 rdx=0x12 rsi=0x1 rdi=0x0 r8=0x100000002 r9=0x200000003
// expects: r10=0xffff r11=0xffffffff r12=0x8000000000000000 r13=13 r14=0x1 r15=0x99
#include "common.inc"
  LONG_GUEST
  mov $scratch, %ebp
  movq $0xFF, (%rbp)
  lock incb 1(%rbp)             // 0x1FF
  lock addw $0xFE00, (%rbp)     // 0xFFFF
  mov (%rbp), %r10
  movq $0, 62(%rbp)
  lock notl 62(%rbp)            // across two lines
  mov 62(%rbp), %r11
  movq $0, 4092(%rbp)
  lock btsq $63, 4092(%rbp)     // across two pages
  mov 4092(%rbp), %r12
  movl $3, 8(%rbp)              // CMPXCHG8B: not equal, then equal
  movl $2, 12(%rbp)
  xor %eax, %eax
  xor %edx, %edx
  lock cmpxchg8b 8(%rbp)
  setz %dil
  movzx %dil, %edi
  mov %rdx, %r9
  shl $32, %r9
  or %rax, %r9
  mov $2, %ebx
  mov $1, %ecx
  lock cmpxchg8b 8(%rbp)
  mov 8(%rbp), %r8
  movq $0x11, 16(%rbp)          // CMPXCHG16B: the same
  movq $0x12, 24(%rbp)
  mov $0x13, %ebx
  mov $0x14, %ecx
  xor %eax, %eax
  xor %edx, %edx
  lock cmpxchg16b 16(%rbp)
  jz bad
  lock cmpxchg16b 16(%rbp)
  setz %sil
  movzx %sil, %esi
  cmp %rbx, 16(%rbp)
  jne bad
  cmp %rcx, 24(%rbp)
  jne bad
  TRY 1f
  lock cmpxchg16b 24(%rbp)      // #GP(0)
1: mov fault_vector, %r13
  mov $0x99, %r14d
  mov %r14, 32(%rbp)
  mov $1, %r14d
  xchg %r14, 32(%rbp)
  mov %r14, %r15
  mov 32(%rbp), %r14
  DONE
bad:
  mov $0xBAD, %r15d
  DONE
  LONG_TABLES
