// Paging with entries of 64 bits under 32-bit code: small and large pages, write protection, no-execute, accessed and dirty bits, error
// codes; reserved bits of the pointer table.
// expects: rax=0x13572468 rbx=0x3 rcx=0x201010 rdx=0x11 rsi=0x202000 rdi=0x0 rbp=0x63 cr2=0x203004
#include "common.inc"
  .equ kPointers, 0x500000
  .equ kDirectory, 0x501000
  .equ kTable, 0x502000
  PROTECTED_GUEST
  mov $kPointers, %edi
  xor %eax, %eax
  mov $0xC00, %ecx
  rep stosl
  movl $kDirectory + 1, kPointers
  movl $0x000083, kDirectory            // the first 2 MiB, and the third, one to one
  movl $kTable + 3, kDirectory + 8
  movl $0x400083, kDirectory + 16
  movl $0x400003, kTable                // 0x200000: written
  movl $0x401001, kTable + 8            // read only
  movl $0x402003, kTable + 16           // no code
  movl $0x80000000, kTable + 20
  mov %cr4, %eax
  or $0x20, %eax
  mov %eax, %cr4
  mov $0xC0000080, %ecx
  mov $0x800, %eax
  xor %edx, %edx
  wrmsr
  mov $kPointers, %eax
  mov %eax, %cr3
  mov %cr0, %eax
  or $0x80010000, %eax
  mov %eax, %cr0
  movl $0x13572468, 0x200000
  movb $0xC3, 0x402000
  TRY32 1f
  mov %eax, 0x201010
1: mov fault_error, %ebx
  mov %cr2, %ecx
  TRY32 2f
  mov $0x202000, %eax
  call *%eax
2: mov fault_error, %edx
  mov fault_rip, %esi
  TRY32 3f
  mov 0x203004, %eax
3: mov fault_error, %edi
  TRY32 4f
  movl $kDirectory + 3, kPointers       // bit 1 is reserved here
  mov $kPointers, %eax
  mov %eax, %cr3
  mov $0xBAD, %edi
4: cmpl $13, fault_vector
  je 5f
  mov $0xBAD, %edi
5: mov kTable, %ebp
  and $0xFF, %ebp
  mov 0x400000, %eax
  DONE
  PROTECTED_TABLES
