// Frames of exceptions and interrupts: alignment, stacks by ring and by the gate's entry, error codes, the flags that are saved.
// expects: rbx=0x8ffc8 rcx=0x8ffff rdx=0x40202 r12=0x21 rax=0x0
// expects: rsi=0x87fd8 rdi=0x2b r8=0x80000 r9=0x33
// expects: r10=0x85fd8 r11=0x7 r13=0xe r14=0x3 r15=0x0 cr2=0x201003
#include "common.inc"
  LONG_GUEST
  OPEN_TO_USER
  mov $0x8FFFF, %esp            // the frame is aligned to 16 bytes and has the RSP of before; AC and IF are saved as they were
  TRY 1f
  pushq $0x40202
  popfq
  int $0x21
1: mov fault_frame, %rbx
  mov fault_rsp, %rcx
  mov fault_flags, %rdx
  mov fault_vector, %r12
  mov fault_error, %rax
  mov $0x90000, %esp
  TRY 2f                        // out of ring 3: the task's stack
  ENTER_USER interrupts
interrupts:
  int $0x21
2: mov fault_frame, %rsi
  mov fault_ss, %rdi
  mov fault_rsp, %r8
  mov fault_cs, %r9
  movb $1, idt + 14 * 16 + 4    // page faults use the interrupt stack; one has an error code: it was a write, by ring 3, to a page
  btrq $2, 0x3008               // that is there but the kernel's
  mov %cr3, %r10
  mov %r10, %cr3
  TRY 3f
  ENTER_USER writes
writes:
  mov %eax, 0x201003
3: mov fault_frame, %r10
  mov fault_error, %r11
  mov fault_vector, %r13
  mov fault_rip, %r15
  sub $writes, %r15
  mov faults, %r14
  DONE
  LONG_TABLES
