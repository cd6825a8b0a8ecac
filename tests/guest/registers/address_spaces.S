// Process context identifiers: entries of another one are kept, CR3 without bit 63 and each form of INVPCID forget what they should;
// global pages outlive CR3. A changed table entry is what tells old from new.
// expects: rax=0x1111 rbx=0x1111 rcx=0x2222 rdx=0x3333 rsi=0x3333 rdi=0x1111 r8=0x2222 r9=0xd r10=0x0 r11=0xd
#include "common.inc"
  .equ kPresent, 0x3
  .equ kPageTable, 0x300000     // for 0x40000000 and up, 4 KiB pages
  .equ kFirst, 0x310000
  .equ kSecond, 0x311000
  .equ kThird, 0x312000
  .macro FORGET type pcid address
  movq $\pcid, scratch
  movq $\address, scratch + 8
  mov $\type, %ebp
  invpcid scratch, %rbp
  .endm
  .macro USE pcid keep
  mov $0x1000 + \pcid, %rbp
  .if \keep
  bts $63, %rbp
  .endif
  mov %rbp, %cr3
  .endm
  LONG_GUEST
  movq $0x1111, kFirst
  movq $0x2222, kSecond
  movq $0x3333, kThird
  movq $kPageTable + kPresent, 0x4000   // the second GiB's first 2 MiB
  movq $kFirst + kPresent, kPageTable
  mov $0x40000000, %r15d
  mov %cr3, %rbp
  mov %rbp, %cr3
  mov %cr4, %rbp
  or $0x20080, %ebp             // PCIDE, PGE
  mov %rbp, %cr4
  USE 1, 0
  mov (%r15), %rax              // PCID 1 knows the first page
  USE 2, 0
  movq $kSecond + kPresent, kPageTable
  mov (%r15), %rcx              // PCID 2 the second
  USE 1, 1
  FORGET 0, 2, 0x40000000       // of PCID 2: PCID 1 need not forget, and the test cannot ask it to remember
  invlpg (%r15)
  movq $kFirst + kPresent, kPageTable
  mov (%r15), %rbx
  USE 2, 1
  movq $kThird + kPresent, kPageTable
  invlpg (%r15)
  mov (%r15), %rdx
  FORGET 1, 2, 0
  mov (%r15), %rsi
  movq $kFirst + 0x103, kPageTable      // global
  invlpg (%r15)
  mov (%r15), %rdi
  movq $kSecond + kPresent, kPageTable
  FORGET 2, 0, 0                // with global pages
  mov (%r15), %r8
  TRY 1f
  FORGET 4, 0, 0                // there is no such form
1: mov fault_vector, %r9
  mov fault_error, %r10
  TRY 2f
  FORGET 0, 0, 0
  movq $0x1000, scratch         // no such identifier
  xor %ebp, %ebp
  invpcid scratch, %rbp
2: mov fault_vector, %r11
  DONE
  LONG_TABLES
