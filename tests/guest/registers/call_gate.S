// A call gate of long mode, out of ring 3: the task's stack, what lies on it, the way back by RETF; one whose level is above.
// expects: rax=0x8 rbx=0x87fe0 rcx=0x0 rdx=0x33 rsi=0x80000 rdi=0x2b r8=0x33 r9=0x80000 r10=0xd r11=0x48 r12=0x0
#include "common.inc"
  LONG_GUEST
  OPEN_TO_USER
  TRY 1f
  ENTER_USER user
user:
  lcall *gate_pointer
behind:
  mov %cs, %r8d
  mov %rsp, %r9
  int $0x21
gate_call:
  mov %cs, %eax
  mov %ss, %r12d                // null is loaded: selector of ring 0
  mov %rsp, %rbx
  mov (%rsp), %rcx
  sub $behind, %rcx
  mov 8(%rsp), %rdx
  mov 16(%rsp), %rsi
  mov 24(%rsp), %rdi
  lretq
1: movb $0x8C, gdt + kGate + 5  // the gate is ring 0's now
  TRY 2f
  ENTER_USER again
again:
  lcall *gate_pointer
2: mov fault_vector, %r10
  mov fault_error, %r11
  DONE
  LONG_TABLES
  .data
gate_pointer:
  .long 0
  .word kGate
