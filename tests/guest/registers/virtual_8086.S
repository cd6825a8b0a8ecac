// Virtual-8086 mode: into it by IRET, addresses of real mode, INT that faults without IOPL and goes through its gate with it, the long
// frame with its segments, which are null in ring 0.
// expects: rax=0x5678 rbx=0xd rcx=0x0 rdx=0x6 rsi=0x2000 rdi=0x20000 rbp=0x12343000
#include "common.inc"
  .macro ENTER_VIRTUAL flags
  pushl $0x5000                 // GS FS DS ES SS ESP EFLAGS CS EIP
  pushl $0x4000
  pushl $0x1234
  pushl $0x3000
  pushl $0x2000
  pushl $0x1000
  pushl $\flags
  pushl $0x2000
  pushl $0
  iret
  .endm
  PROTECTED_GUEST
  mov $virtual_code, %esi
  mov $0x20000, %edi
  mov $64, %ecx
  cld
  rep movsb
  TRY32 1f
  ENTER_VIRTUAL 0x20002
1: cmpl $0, fault_ds
  jne bad
  mov 0x12340, %eax             // DS 1234, offset 0
  mov fault_frame, %ebp
  mov 0(%ebp), %edx
  cmpl $0x1000, 12(%ebp)
  jne bad
  cmpl $0x2000, 16(%ebp)
  jne bad
  cmpl $0x4000, 28(%ebp)
  jne bad
  cmpl $0x5000, 32(%ebp)
  jne bad
  mov fault_cs, %esi
  mov fault_flags, %edi
  and $0x20000, %edi
  mov 24(%ebp), %ecx
  shl $16, %ecx
  or 20(%ebp), %ecx
  mov %ecx, %ebp
  mov fault_vector, %ebx
  mov fault_error, %ecx
  TRY32 2f
  ENTER_VIRTUAL 0x23002         // IOPL 3
2: cmpl $0x21, fault_vector
  jne bad
  cmpl $8, fault_rip            // behind it
  jne bad
  testl $0x20000, fault_flags
  jz bad
  DONE
bad:
  mov $0xBAD, %eax
  DONE
virtual_code:
  .code16
  mov $0x5678, %ax
  mov %ax, 0
  int $0x21
  .code32
  PROTECTED_TABLES
