// XSAVE and its family: what is in use, both formats, what XRSTOR clears and refuses; XGETBV and XSETBV.
// expects: rax=0x7 rbx=0x6 rcx=0x7 rdx=0x1122334455667788 rsi=0x0 rdi=0xd r8=0x8000000000000006 r9=0x6 r10=0x99aabbccddeeff00
// expects: r11=0x0 r12=0xd r13=0x1f80 r14=0x6 r15=0x7
#include "common.inc"
  LONG_GUEST
  TRY 1f
  xor %ecx, %ecx
  xgetbv                        // not without CR4.OSXSAVE
1: mov fault_vector, %r14
  mov %cr4, %rax
  or $0x40600, %rax
  mov %rax, %cr4
  mov $7, %eax
  xor %edx, %edx
  xsetbv
  xgetbv
  mov %eax, %r15d
  movq pattern, %xmm3
  vpbroadcastq pattern + 8, %ymm4
  fninit
  mov $7, %eax
  xsave scratch
  mov scratch + 512, %rbx
  and $6, %ebx                  // whether x87 counts as in use is the processor's choice
  mov $6, %eax
  xsavec scratch + 4096
  mov scratch + 4096 + 520, %r8
  mov scratch + 4096 + 512, %r9
  mov scratch + 4096 + 576 + 64, %r10   // YMM4's upper half, behind the header
  vzeroall
  mov $6, %eax
  xrstor scratch
  movq %xmm3, %rbp
  vextracti128 $1, %ymm4, %xmm5
  movq %xmm5, %rcx
  cmp %rcx, %r10
  jne bad
  movq $2, scratch + 512        // without AVX: its registers are cleared
  xrstor scratch
  vextracti128 $1, %ymm4, %xmm5
  movq %xmm5, %rsi
  stmxcsr scratch + 8192
  mov scratch + 8192, %r13d
  TRY 2f
  movq $8, scratch + 512        // a component that XCR0 has not
  xrstor scratch
2: mov fault_vector, %rdi
  mov fault_error, %r11
  TRY 3f                        // AVX without SSE
  mov $5, %eax
  xor %edx, %edx
  xor %ecx, %ecx
  xsetbv
3: mov fault_vector, %r12
  mov $7, %eax
  mov $7, %ecx
  mov %rbp, %rdx
  DONE
bad:
  mov $0xBAD, %eax
  DONE
  LONG_TABLES
  .data
  .align 8
pattern: .quad 0x1122334455667788, 0x99AABBCCDDEEFF00
