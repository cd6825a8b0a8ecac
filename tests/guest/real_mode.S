// Real mode: segments, wrap-around, prefixes, interrupts through the vector table, the way into protected mode and back.
// Letters: a segment arithmetic, b 32-bit operands, c string with segment override, d INT and IRET, e far call, f wrap of
// 16-bit addresses, g IN and OUT, h PUSHF after STD, i unreal mode (32-bit limits that stay), j division by zero.
#include "runtime/bare.inc"
  BARE_HEADER 2 start
  .code16
start:
  xor %ebp, %ebp
  xor %ax, %ax
  mov %ax, %es                  // vectors are at 0
  mov $0x2000, %ax
  mov %ax, %fs
  movl $0xCAFE1234, %fs:0x10
  mov $0x2001, %ax
  mov %ax, %gs
  mov %gs:0x0, %ebx             // 0x2001:0 is 0x2000:0x10
  CHECK 'a', %ebx, 0xCAFE1234
  mov $0x12345678, %ebx
  rol $16, %ebx
  CHECK 'b', %ebx, 0x56781234
  push %ds
  push %es
  mov $0x3000, %ax
  mov %ax, %es
  xor %di, %di
  mov $0x10, %si
  mov $2, %cx
  cld
  rep movsw %fs:(%si), %es:(%di)
  mov %es:0, %ebx
  pop %es
  pop %ds
  CHECK 'c', %ebx, 0xCAFE1234
  movw $(handler - GUEST_BASE_ADDRESS), %es:0x60*4
  mov %cs, %es:0x60*4+2
  xor %ebx, %ebx
  int $0x60
  CHECK 'd', %bx, 0x1111
  push %cs
  call far_function
  CHECK 'e', %bx, 0x2222
  mov $0xFFFF, %si
  movb $0x5A, %fs:0xFFFF
  movb $0xA5, %fs:0x0000
  mov $0x4000, %ax
  xor %ebx, %ebx
  mov %fs:(%si), %bl
  inc %si
  mov %fs:(%si), %bh
  CHECK 'f', %bx, 0xA55A
  mov $0x5000, %dx
  mov $0x77, %al
  out %al, %dx
  xor %eax, %eax
  in %dx, %al
  mov %ax, %bx
  CHECK 'g', %bx, 0x77
  std
  pushf
  cld
  pop %bx
  and $0x400, %bx
  CHECK 'h', %bx, 0x400

  // Into protected mode for a descriptor with a large limit, and straight back.
  cli
  lgdtl %cs:(gdt_pointer - GUEST_BASE_ADDRESS)
  mov %cr0, %eax
  or $1, %al
  mov %eax, %cr0
  mov $0x10, %bx
  mov %bx, %gs
  and $0xFE, %al
  mov %eax, %cr0
  mov $0x100000, %esi
  movl $0xBEEF, %gs:(%esi)
  mov %gs:(%esi), %ebx
  CHECK 'i', %ebx, 0xBEEF

  movw $(divide_handler - GUEST_BASE_ADDRESS), %es:0
  mov %cs, %es:2
  xor %ebx, %ebx
  xor %cx, %cx
  xor %dx, %dx
  mov $1, %ax
  div %cx
  CHECK 'j', %bx, 0x3333
  FINISH

handler:
  mov $0x1111, %bx
  iret
divide_handler:                 // the frame points at the division, two bytes long
  mov $0x3333, %bx
  push %bp
  mov %sp, %bp
  addw $2, 2(%bp)
  pop %bp
  iret
far_function:
  mov $0x2222, %bx
  lret
  .balign 8
gdt: .quad 0, 0x00009B010000FFFF, 0x00CF93000000FFFF
gdt_pointer: .word 23
  .long gdt
