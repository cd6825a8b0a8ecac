// Segments that are not flat: limits, those that expand down, types, what is not there, null; what LSL, LAR and VERW say.
// expects: rax=0x11223344 rbx=0x55667788 rcx=0xf rdx=0x409300 rsi=0x1 rdi=0x0 rbp=0x0
#include "common.inc"
  .macro DESCRIBE low high
  movl $\low, gdt + 8
  movl $\high, gdt + 12
  .endm
  .macro FAULTS vector error instruction:vararg
  TRY32 771f
  \instruction
  jmp bad
771:
  cmpl $\vector, fault_vector
  jne bad
  cmpl $\error, fault_error
  jne bad
  .endm
  PROTECTED_GUEST
  movl $0x11223344, 0x40000C
  movl $0x55667788, 0x401000
  DESCRIBE 0x0000000F, 0x00409240       // sixteen bytes at 0x400000
  mov $8, %edx
  mov %edx, %fs
  mov %fs:0xC, %eax
  FAULTS 13, 0, mov %fs:0xD, %ebx
  FAULTS 13, 0, mov %ebx, %fs:0xFFFFFFFF
  lsl %dx, %ecx
  lar %dx, %ebp
  and $0x00F0FF00, %ebp
  push %ebp
  DESCRIBE 0x00000FFF, 0x00409640       // expands down: from 0x1000
  mov %edx, %fs
  mov %fs:0x1000, %ebx
  FAULTS 13, 0, mov %fs:0xFFF, %al
  FAULTS 13, 0, movl $0, %fs:0xFFD
  DESCRIBE 0x0000FFFF, 0x00409040       // read only
  mov %edx, %fs
  FAULTS 13, 0, movb $0, %fs:0
  xor %esi, %esi
  verr %dx
  setz %cl
  verw %dx
  setnz %ch
  and %cl, %ch
  movzx %ch, %esi
  mov $0xF, %ecx
  DESCRIBE 0x0000FFFF, 0x00409840       // code that is not readable
  FAULTS 13, 8, mov %edx, %fs
  DESCRIBE 0x0000FFFF, 0x00401240       // not there
  FAULTS 11, 8, mov %edx, %fs
  FAULTS 12, 8, mov %edx, %ss
  DESCRIBE 0x0000FFFF, 0x00489200       // a stack up to 0x8FFFF
  mov %esp, %edi
  mov $0x80000, %esp
  mov %edx, %ss
  mov $0x8FFFD, %ebp
  TRY32 1f
  mov (%ebp), %edi
  jmp bad
1: mov $kKernelData, %ebp
  mov %ebp, %ss
  cmpl $12, fault_vector
  jne bad
  cmpl $0, fault_error
  jne bad
  mov %edi, %esp
  xor %edi, %edi
  mov %edi, %fs                         // null may be loaded, but not used
  FAULTS 13, 0, mov %fs:0, %al
  FAULTS 13, 0, mov %edi, %ss
  DESCRIBE 0x00000FFF, 0x00409A40       // code of one page
  FAULTS 13, 0, ljmp $8, $0x1000
  pop %edx
  xor %ebp, %ebp
  DONE
bad:
  mov fault_vector, %ebp
  mov fault_error, %edi
  mov $0xBAD, %eax
  DONE
  PROTECTED_TABLES
