// MONITOR and MWAIT are not offered, and do not exist.
// expects: rax=0x0 rbx=0x6 rcx=0x6 rdx=0x0
#include "common.inc"
  LONG_GUEST
  mov $1, %eax
  cpuid
  and $8, %ecx
  mov %ecx, %esi
  mov $5, %eax                  // nor is what they could do
  xor %ecx, %ecx
  cpuid
  mov %edx, %edi
  mov $scratch, %eax
  xor %ecx, %ecx
  xor %edx, %edx
  TRY 1f
  monitor
1: mov fault_vector, %rbx
  TRY 2f
  mwait
2: mov fault_vector, %rcx
  mov %rsi, %rax
  mov %rdi, %rdx
  DONE
  LONG_TABLES
