// Entry of 64-bit guests and the stubs of the 256 interrupt vectors.
  .section .start, "ax"
  .code64
  .globl guest_start
guest_start:
  lea 0x90000, %rsp
  xor %ebp, %ebp
  call guest_main
1:
  cli
  hlt
  jmp 1b

// Each stub pushes an error code where the processor does not, then its vector.
  .text
  .balign 16
  .globl guest_vector_stubs
guest_vector_stubs:
  .set vector, 0
  .rept 256
  .balign 16
  .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
  .else
  push $0
  .endif
  push $vector
  jmp guest_common_stub
  .set vector, vector + 1
  .endr

guest_common_stub:
  push %r15
  push %r14
  push %r13
  push %r12
  push %r11
  push %r10
  push %r9
  push %r8
  push %rbp
  push %rdi
  push %rsi
  push %rdx
  push %rcx
  push %rbx
  push %rax
  cld
  mov %rsp, %rdi
  mov %rsp, %rbx
  and $-16, %rsp
  call guest_dispatch
  mov %rbx, %rsp
  pop %rax
  pop %rbx
  pop %rcx
  pop %rdx
  pop %rsi
  pop %rdi
  pop %rbp
  pop %r8
  pop %r9
  pop %r10
  pop %r11
  pop %r12
  pop %r13
  pop %r14
  pop %r15
  add $16, %rsp
  iretq

// int guest_save(Context*): 0 when it returns the first time, 1 when guest_restore brings us back.
  .globl guest_save
guest_save:
  mov %rbx, 0(%rdi)
  mov %rbp, 8(%rdi)
  mov %r12, 16(%rdi)
  mov %r13, 24(%rdi)
  mov %r14, 32(%rdi)
  mov %r15, 40(%rdi)
  lea 8(%rsp), %rax
  mov %rax, 48(%rdi)
  mov (%rsp), %rax
  mov %rax, 56(%rdi)
  xor %eax, %eax
  ret

// void guest_restore(const Context*)
  .globl guest_restore
guest_restore:
  mov 0(%rdi), %rbx
  mov 8(%rdi), %rbp
  mov 16(%rdi), %r12
  mov 24(%rdi), %r13
  mov 32(%rdi), %r14
  mov 40(%rdi), %r15
  mov 48(%rdi), %rsp
  mov $1, %eax
  jmp *56(%rdi)
  .section .note.GNU-stack, "", @progbits
