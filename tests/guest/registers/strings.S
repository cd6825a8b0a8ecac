// String operations with REP: overlap, direction, what stops them, counts of 32 bits, nothing to do.
// expects: rax=0x4141414141414141 rbx=0x4847464544434241 rcx=0x0 rdx=0x3 rsi=0x10 rdi=0x10
// expects: r8=0x5 r9=0x4443424142414241 r10=0xffffffff00000007 r11=0x7777 r12=0x1 r13=0x100 r14=0x0 r15=0x4
#include "common.inc"
  LONG_GUEST
  cld
  mov $text, %esi               // one byte ahead: the first byte spreads
  mov $text + 1, %edi
  mov $7, %ecx
  rep movsb
  mov text, %rax
  mov $letters + 7, %esi        // downwards over itself by two: the old letters move
  mov $letters + 9, %edi
  mov $8, %ecx
  std
  rep movsb
  cld
  mov letters + 2, %rbx
  mov $pattern, %esi            // upwards over itself by two: the first two repeat
  mov $pattern + 2, %edi
  mov $2, %ecx
  rep movsw
  mov pattern, %r9
  mov $left, %esi               // the third byte differs
  mov $right, %edi
  mov $8, %ecx
  repe cmpsb
  mov %rcx, %r8
  setb %r12b
  movzx %r12b, %r12
  sub $left, %rsi
  mov %rsi, %rdx
  mov $0x33, %al                // found at the fourth byte
  mov $right, %edi
  mov $100, %ecx
  repne scasb
  sub $right, %rdi
  mov %rdi, %r15
  mov $0xFFFFFFFF00000007, %r10 // nothing to do leaves all as it is, the count of 64 bits too
  mov %r10, %rcx
  shl $32, %rcx
  shr $32, %rcx
  mov $0x7777, %eax
  mov $scratch, %edi
  addr32 rep stosw
  mov scratch + 12, %r11w
  movzx %r11w, %r11
  mov scratch + 14, %r14
  mov $scratch, %edi            // more than a page
  mov $0x41, %al
  mov $0x1100, %ecx
  rep stosb
  mov $scratch + 0x1000, %esi
  mov $-1, %r13
  xor %r13d, %r13d
1: lodsb
  cmp $0x41, %al
  jne 2f
  inc %r13d
  jmp 1b
2: mov text, %rax
  mov $0x10, %esi
  mov $0x10, %edi
  xor %ecx, %ecx
  rep movsq
  DONE
  LONG_TABLES
  .data
  .align 16
text: .ascii "AxxxxxxxyyyyyyyY"
letters: .ascii "ABCDEFGHxxxxxxxx"
pattern: .ascii "ABxxxxCD"
left: .byte 1, 2, 3, 4, 5, 6, 7, 8
right: .byte 1, 2, 9, 0x33, 5, 6, 7, 8
