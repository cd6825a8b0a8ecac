// Debug registers: instructions, data and their lengths, what DR6 says, the resume flag, general detection; a trap after one instruction.
// expects: rax=0x1 rbx=0x0 rcx=0xffff0ff1 rdx=0x1 rsi=0xffff0ff2 rdi=0x0 r8=0x1 r9=0xffff2ff0 r10=0x0 r11=0x2 r12=0xffff4ff0 r13=0x1
#include "common.inc"
  LONG_GUEST
  mov $0xFFFF0FF0, %ebp
  mov %rbp, %dr6
  mov $stop, %eax
  mov %rax, %dr0                // before the instruction there
  mov $scratch + 2, %eax
  mov %rax, %dr1                // after a write to these two bytes
  mov $0x0050040A, %eax         // G0 and G1; DR1: writes, two bytes
  mov %rax, %dr7
  TRY 1f
  xor %ebx, %ebx
stop:
  mov $0xBAD, %ebx
1: mov fault_vector, %rax
  mov fault_rip, %rdi
  sub $stop, %rdi
  mov %dr6, %rcx
  mov %rbp, %dr6
  TRY 2f
  mov %al, scratch + 4          // beside it
  mov scratch, %r15             // a read
  mov %eax, scratch             // over it
behind_write:
  mov $0xBAD, %edi
2: mov fault_vector, %rdx
  mov fault_rip, %r14
  sub $behind_write, %r14
  add %r14, %rdi
  mov %dr6, %rsi
  mov %rbp, %dr6
  mov $0x2400, %eax             // GD: an access to a debug register
  mov %rax, %dr7
  TRY 3f
  mov %dr0, %r15
3: mov fault_vector, %r8
  mov %dr6, %r9
  mov %rbp, %dr6
  mov $0x400, %eax
  mov %rax, %dr7
  TRY 4f                        // TF: after the instruction behind POPF
  xor %r10d, %r10d
  xor %r11d, %r11d
  pushq $0x102
  popfq
  mov $2, %r11d
  mov $0xBAD, %r10d
4: mov %dr6, %r12
  mov fault_vector, %r13
  mov $1, %eax
  DONE
  LONG_TABLES
