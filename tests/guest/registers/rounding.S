// Floating point: rounding, what is masked and what faults, tiny numbers; x87 exceptions that wait for the next instruction.
// expects: rax=0x2 rbx=0x3 rcx=0xfffffffffffffffd rdx=0x8000000000000000 rsi=0x13 rdi=0x1d84 r8=0x3ff0000000000000
// expects: r9=0x0 r10=0x10000000000000 r11=0x10 r12=0xb084 r13=0x400921fb54442d18 r14=0xff r15=0x7
#include "common.inc"
  LONG_GUEST
  mov %cr4, %rax
  or $0x600, %rax
  mov %rax, %cr4
  cvtsd2si two_and_a_half, %rax   // to the even one
  ldmxcsr upwards
  cvtsd2si two_and_a_half, %rbx
  ldmxcsr downwards
  cvtsd2si minus_two_and_a_half, %rcx
  cvtsd2si enormous, %rdx         // there is no such integer
  ldmxcsr strict                  // division by zero is not masked: nothing is written, the flag is set
  movsd one, %xmm0
  xorps %xmm1, %xmm1
  TRY 1f
  divsd %xmm1, %xmm0
1: mov fault_vector, %rsi
  stmxcsr scratch
  mov scratch, %edi
  movq %xmm0, %r8
  ldmxcsr flushing                // a tiny result is zero, and is not without
  movsd smallest, %xmm0
  mulsd half, %xmm0
  movq %xmm0, %r9
  ldmxcsr usual
  movsd smallest, %xmm0
  mulsd two, %xmm0
  mulsd half, %xmm0
  movq %xmm0, %r10
  fninit                          // x87: the store after the division reports it; nothing was popped
  fldcw strict_control
  fldz
  fld1
  fdivp
  TRY 2f
  fstpl scratch
2: mov fault_vector, %r11
  xor %eax, %eax
  fnstsw %ax
  mov %rax, %r12
  fninit
  fldpi
  fstpl scratch
  mov scratch, %r13
  movd %r13d, %mm0                // MMX: all eight registers are in use
  fxsave scratch
  movzbl scratch + 4, %r14d
  emms
  mov %cr0, %rax
  or $8, %rax
  mov %rax, %cr0                  // TS
  TRY 3f
  movq %xmm0, %rax
3: mov fault_vector, %r15
  clts
  mov $2, %eax
  DONE
  LONG_TABLES
  .data
  .align 8
two_and_a_half: .double 2.5
minus_two_and_a_half: .double -2.5
enormous: .double 1e300
one: .double 1
half: .double 0.5
two: .double 2
smallest: .quad 0x0010000000000000
usual: .long 0x1F80
upwards: .long 0x5F80
downwards: .long 0x3F80
strict: .long 0x1D80
flushing: .long 0x9F80
strict_control: .word 0x37B
