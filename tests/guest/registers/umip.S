// What UMIP hides from ring 3: SGDT, SIDT, SLDT, STR, SMSW. Without it they work there; in ring 0 always.
// expects: rax=0x0 rbx=0x5 rcx=0x0 rdx=0x38 rsi=0xd rdi=0x0
#include "common.inc"
  LONG_GUEST
  OPEN_TO_USER
  TRY 1f
  ENTER_USER allowed
allowed:
  sgdt scratch
  sidt scratch
  sldt %eax
  str %edx
  smsw %ecx
  int $0x21
1: mov faults, %rcx             // the INT alone
  dec %rcx
  mov %cr4, %rbp
  or $0x800, %rbp
  mov %rbp, %cr4
  sgdt scratch
  sldt %edi
  movq $0, faults
  .irp instruction, sgdt, sidt, sldt, str, smsw
  TRY 2f
  ENTER_USER 3f
3: \instruction scratch
  int $0x21
2: cmpq $13, fault_vector
  jne bad
  cmpq $0, fault_error
  jne bad
  .endr
  mov faults, %rbx
  mov fault_vector, %rsi
  DONE
bad:
  mov $0xBAD, %ebx
  DONE
  LONG_TABLES
