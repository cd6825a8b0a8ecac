// SYSCALL and SYSRET: where they lead, RCX and R11, the flags that are masked, the fixed segments, both forms of the return.
// expects: rax=0x8d7 rbx=0x0 rcx=0x0 rdx=0x8 rsi=0x10 rdi=0xc4
// expects: r8=0x33 r9=0x2b r10=0x897 r11=0x23 r12=0x2b r13=0xd r14=0x6 r15=0x12345679
#include "common.inc"
  LONG_GUEST
  OPEN_TO_USER
  mov $0xC0000080, %ecx         // EFER.SCE
  rdmsr
  or $1, %eax
  wrmsr
  mov $0xC0000081, %ecx         // STAR: SYSCALL to 08, SYSRET from 20
  mov $0x00200008, %edx
  xor %eax, %eax
  wrmsr
  mov $0xC0000082, %ecx
  mov $entry, %eax
  xor %edx, %edx
  wrmsr
  mov $0xC0000084, %ecx         // FMASK: OF AF CF
  mov $0x811, %eax
  wrmsr
  ENTER_USER user
user:
  pushq $0x8D7                  // OF SF ZF AF PF CF
  popfq
  syscall
behind:
entry:
  mov %rsp, %rbx                // still the user's
  mov $0x90000, %esp
  pushfq
  pop %rdi
  and $0xCD5, %rdi
  sub $kUserStack, %rbx
  mov %cs, %edx
  mov %ss, %esi
  mov %r11, %rax
  mov %rcx, %rbp
  sub $behind, %rbp
  add %rbp, %rbx
  mov $back, %ecx
  mov $0x897, %r11d
  sysretq
back:
  mov %cs, %r8d
  mov %ss, %r9d
  TRY 1f
  int $0x21
1: mov fault_flags, %r10
  mov $compatible, %ecx
  mov $0x202, %r11d
  mov %rax, %rbp
  TRY 2f
  sysretl
  .code32
compatible:
  mov $0x12345678, %eax
  inc %eax                      // in 64-bit code that would be a prefix
  int $0x21
  .code64
2: mov %rax, %r15
  mov %rbp, %rax
  mov fault_cs, %r11
  mov fault_ss, %r12
  TRY 3f                        // the return is for ring 0 alone
  ENTER_USER returns
returns:
  sysretq
3: mov fault_vector, %r13
  push %rax
  push %rdx
  mov $0xC0000080, %ecx         // without EFER.SCE there is no SYSCALL
  mov $0xD00, %eax
  xor %edx, %edx
  wrmsr
  pop %rdx
  pop %rax
  xor %ecx, %ecx
  TRY 4f
  syscall
4: mov fault_vector, %r14
  DONE
  LONG_TABLES
