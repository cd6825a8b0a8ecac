// 32-bit protected mode without and with paging. Letters: a flat access, b segment base, c segment limit faults, d INT gate,
// e error code of a selector, f two-level paging, g page fault in CR2, h four-MiB page, i hypercall, j stack switch by task
// state segment (ring 3 and back).
#include "runtime/bare.inc"
  BARE_HEADER 1 start
  .code32
start:
  xor %ebp, %ebp
  mov $0x80000, %esp
  movl $0x13572468, 0x200000
  mov 0x200000, %ebx
  CHECK 'a', %ebx, 0x13572468
  lgdt gdt_pointer
  lidt idt_pointer
  mov $0x18, %eax               // base 0x200000, limit 0xF
  mov %eax, %fs
  mov %fs:0, %ebx
  CHECK 'b', %ebx, 0x13572468

  movl $resume_c, resume
  xor %ebx, %ebx
  mov %fs:0x10, %eax
resume_c:
  testl $1, 0x7004              // QEMU does not check limits
  jz 3f
  mov $13, %ebx
3:
  CHECK 'c', %ebx, 13
  xor %ebx, %ebx
  int $0x40
  CHECK 'd', %ebx, 0x4040
  movl $resume_e, resume
  mov $0x1234, %eax
  mov %eax, %gs
resume_e:
  mov last_error, %ebx
  CHECK 'e', %ebx, 0x1234

  // Two levels: the first 4 MiB one to one, 0x400000 to the page at 0x200000, everything above in 4 MiB pages.
  mov $0x300000, %edi
  mov $0x301003, %eax
  mov %eax, (%edi)
  movl $0x302003, 4(%edi)
  mov $0x301000, %edi
  mov $0x003, %eax
  mov $1024, %ecx
1: mov %eax, (%edi)
  add $4, %edi
  add $0x1000, %eax
  loop 1b
  mov $0x302000, %edi
  movl $0x200003, (%edi)
  movl $0x000083, 0x300008      // 0x800000: the first 4 MiB again
  mov $0x300000, %eax
  mov %eax, %cr3
  mov %cr4, %eax
  or $0x10, %eax
  mov %eax, %cr4
  mov %cr0, %eax
  or $0x80000000, %eax
  mov %eax, %cr0
  mov 0x400000, %ebx
  CHECK 'f', %ebx, 0x13572468
  movl $resume_g, resume
  xor %ebx, %ebx
  mov 0x401234, %eax
resume_g:
  mov %cr2, %ebx
  CHECK 'g', %ebx, 0x401234
  mov 0xA00000, %ebx
  CHECK 'h', %ebx, 0x13572468

  mov $0xB001, %eax
  mov $0x1, %edx
  mov $0x10, %ebx
  mov $0x3, %ecx
  mov $0x100, %edi
  mov $0x5, %esi
  push %ebp
  call 0x9000
  pop %ebp
  mov %eax, %ebx
  mov %edx, %ecx
  CHECK 'i', %ebx, 0xB007
  CHECK 'i', %ecx, 0x111

  orl $4, 0x300000              // ring 3 sees the first 4 MiB
  mov $0x301000, %edi
  mov $1024, %ecx
2: orl $4, (%edi)
  add $4, %edi
  loop 2b
  mov %cr3, %eax
  mov %eax, %cr3
  mov $0x38, %eax
  ltr %ax
  xor %ebx, %ebx
  push $0x33
  push $0x70000
  push $2
  push $0x2B
  push $user
  iret
user:
  int $0x41
after_user:
  CHECK 'j', %ebx, 0x7F000      // the ring 0 stack less five words
  FINISH

fault_with_code:
  pop last_error
  mov $13, %ebx
  mov resume, %eax
  mov %eax, (%esp)
  iret
gate_40:
  mov $0x4040, %ebx
  iret
gate_41:
  mov %esp, %ebx
  add $20, %ebx
  mov $0x10, %eax
  mov %eax, %ds
  mov %eax, %es
  jmp after_user

  .balign 8
gdt:
  .quad 0
  .quad 0x00CF9B000000FFFF
  .quad 0x00CF93000000FFFF
  .quad 0x004093200000000F      // 0x18: base 0x200000, limit 0xF
  .quad 0
  .quad 0x00CFFB000000FFFF      // 0x28: ring 3 code
  .quad 0x00CFF3000000FFFF      // 0x30: ring 3 data
  .word 103                     // 0x38: task
  .word task - GUEST_BASE_ADDRESS + 0
  .byte 0x10, 0x89, 0, 0
gdt_end:
gdt_pointer: .word gdt_end - gdt - 1
  .long gdt
  .balign 8
task:
  .long 0, 0x7F000, 0x10
  .zero 92
  .balign 8
  .macro GATE target type=0x8E
  .word \target - GUEST_BASE_ADDRESS
  .word 8
  .byte 0, \type
  .word 0x10
  .endm
idt:
  .rept 0x40
  GATE fault_with_code
  .endr
  GATE gate_40
  GATE gate_41, 0xEE
idt_end:
idt_pointer: .word idt_end - idt - 1
  .long idt
resume: .long 0
last_error: .long 0
