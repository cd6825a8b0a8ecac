// Segment bases of 64-bit mode: by descriptor, by MSR, by instruction, by SWAPGS; null selectors; 32-bit addresses.
// expects: rax=0x1111 rbx=0x2222 rcx=0x3333 rdx=0x4444 rsi=0x4444 rdi=0x5555 r8=0xd r9=0x6 r10=0x123456789abc r11=0xd r12=0x0
#include "common.inc"
  LONG_GUEST
  movq $0x1111, scratch
  movq $0x2222, scratch + 8
  movq $0x3333, scratch + 16
  movq $0x4444, scratch + 24
  movq $0x5555, scratch + 32
  mov $scratch, %eax            // a descriptor's base counts for FS and GS, not for DS
  mov %ax, gdt + 0x28 + 2
  shr $16, %eax
  mov %al, gdt + 0x28 + 4
  mov $0x28, %eax
  mov %eax, %fs
  mov %eax, %ds
  mov %fs:0, %rax
  mov scratch + 8, %rbx
  mov %rax, %r15
  mov $0xC0000101, %ecx         // GS base
  mov $scratch + 16, %eax
  xor %edx, %edx
  wrmsr
  mov $0xC0000102, %ecx         // what SWAPGS brings
  mov $scratch + 24, %eax
  wrmsr
  mov %gs:0, %r13
  swapgs
  mov %gs:0, %rdx
  swapgs
  mov %rdx, %r14
  mov $0x700000010, %rsi        // an address of 32 bits is cut before the base is added
  mov %gs:-8(,%esi,1), %rsi
  mov %r15, %rax
  mov %cr4, %rdi
  or $0x10000, %rdi
  mov %rdi, %cr4
  mov $scratch + 32, %edi
  wrfsbase %rdi
  mov %fs:0, %rdi
  mov $0x123456789ABC, %r10
  wrgsbase %r10
  xor %r10d, %r10d
  rdgsbase %r10
  mov $0x0000800000000000, %r8
  TRY 1f
  wrgsbase %r8                  // an address that is none
1: mov fault_vector, %r8
  mov %cr4, %r9
  btr $16, %r9
  mov %r9, %cr4
  TRY 2f
  rdfsbase %r9                  // not without CR4.FSGSBASE
2: mov fault_vector, %r9
  TRY 3f
  mov $0xC0000100, %ecx
  mov $0x00008000, %edx
  wrmsr
3: mov fault_vector, %r11
  mov fault_error, %r12
  mov %r14, %rdx
  mov %r15, %rax
  mov %r13, %rcx
  DONE
  LONG_TABLES
