// Integer arithmetic and its flags: products, quotients, carries through rotations, double shifts, scans, exchanges.
// expects: rax=0xfffffffe00000001 rdx=0xfffffffffffffffe rbx=0xfffffffffffffffd rcx=0xffffffffffffffff
// expects: rsi=0x8000000000000000 rdi=0x3456780000000009 r8=0x3f r9=0x78563412 r10=0xffffffff80000000
// expects: r11=0x81 r12=0x880 r13=0x902 r14=0x44 r15=0x1234 flags=0x95
#include "common.inc"
  LONG_GUEST
  mov $-7, %rax                 // -7 / 2 is -3, the rest -1
  cqto
  mov $2, %ecx
  idiv %rcx
  mov %rax, %rbx
  mov %rdx, %rcx
  mov $1, %esi                  // the carry goes in above, the lowest bit comes out
  stc
  rcr $1, %rsi
  jnc bad
  mov $0x12345678, %edi
  shl $36, %rdi
  mov $0x9000000000000000, %rax
  shld $4, %rax, %rdi
  bsr %rsi, %r8
  mov $0x12345678, %r9d
  bswap %r9d
  movslq minimum, %r10
  mov $0x7F, %al                // 0x7F + 2 overflows: OF SF, no ZF, no CF
  add $2, %al
  movzx %al, %r11
  pushfq
  pop %r12
  and $0x8C1, %r12
  mov $9, %r13d                 // memory 2: sum 11, register 2
  lock xadd %r13, counter
  mov counter, %rax
  sub $2, %rax
  shl $8, %rax
  or %rax, %r13
  xor %eax, %eax                // not equal: RAX becomes what is there, then it is equal
  mov $0x1234, %r15d
  cmpxchg %r15, counter2
  jz bad
  cmpxchg %r15, counter2
  jnz bad
  mov counter2, %r15
  sub %r14, %r14                // ZF PF
  pushfq
  pop %r14
  and $0xCD5, %r14
  mov $-1, %rax
  mov $-1, %rdx
  mul %rdx
  mov $0xFFFFFFFF, %eax
  imul %rax, %rax
  xor %ebp, %ebp
  sub $1, %ebp                  // CF PF AF SF
  DONE
bad:
  mov $0xBAD, %esi
  DONE
  LONG_TABLES
  .data
  .align 8
minimum: .long 0x80000000
  .align 8
counter: .quad 2
counter2: .quad 9
