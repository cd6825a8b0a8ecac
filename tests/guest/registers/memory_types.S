// PAT and MTRRs as registers: what they hold after a reset, what they keep, which types they refuse.
// expects: rax=0x7040600070406 rbx=0x50100070406 rcx=0xd rdx=0x0 rsi=0x8 rdi=0x500 r8=0xc06 r9=0xd r10=0x80000006 r11=0xff80000800 r12=0x606060606060606 r13=0xd
#include "common.inc"
  LONG_GUEST
  .macro READ index register
  mov $\index, %ecx
  rdmsr
  shl $32, %rdx
  or %rdx, %rax
  mov %rax, \register
  .endm
  .macro WRITE index low high
  mov $\index, %ecx
  mov $\low, %eax
  mov $\high, %edx
  wrmsr
  .endm
  READ 0x277, %r14
  WRITE 0x277, 0x00070406, 0x0501
  READ 0x277, %rbx
  TRY 1f
  WRITE 0x277, 0x02, 0            // type 2 does not exist
1: mov fault_vector, %rbp
  READ 0xFE, %rsi                 // MTRRCAP: pairs, fixed ranges, write combining
  mov %rsi, %rdi
  and $0xFF, %esi
  and $0x500, %edi
  WRITE 0x2FF, 0xC06, 0           // default: write back; both on
  READ 0x2FF, %r8
  TRY 2f
  WRITE 0x2FF, 0x02, 0
2: mov fault_vector, %r9
  WRITE 0x200, 0x80000006, 0
  WRITE 0x201, 0x80000800, 0xFF
  READ 0x200, %r10
  READ 0x201, %r11
  WRITE 0x250, 0x06060606, 0x06060606
  READ 0x250, %r12
  TRY 3f
  WRITE 0x250, 0x06060602, 0x06060606
3: mov fault_vector, %r13
  mov %r14, %rax
  mov %rbp, %rcx
  xor %edx, %edx
  DONE
  LONG_TABLES
