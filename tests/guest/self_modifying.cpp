// Code that changes: written anew, patched ahead of itself, through another address, by the thousand.
#include "runtime/runtime.h"

namespace guest {
namespace {

alignas(4096) u8 code[2 * 4096];

using Function = u32 (*)();
u32 call(u32 offset) { return reinterpret_cast<Function>(code + offset)(); }

void put(u32 offset, u32 value) {  // MOV EAX, value; RET
  auto* at = const_cast<volatile u8*>(code + offset);
  at[0] = 0xB8;
  for (u32 i = 0; i < 4; ++i) at[1 + i] = static_cast<u8>(value >> (8 * i));
  at[5] = 0xC3;
}

void check_rewrites() {
  bool is_right = true;
  for (u32 i = 0; i < 2000; ++i) {
    put(0, i);
    is_right = is_right && call(0) == i;
  }
  check(is_right, "a function written anew each time runs as written");
  put(4096 - 3, 0x11223344);
  check_equal(call(4096 - 3), 0x11223344, "one over a page border");
  code[4096] = 0x99;  // the third byte of the immediate lies on the second page
  check_equal(call(4096 - 3), 0x11993344, "patched on its second page");
}

// A neighbour on the same page changes while a function on it runs in between: no stale code, no stale data.
void check_neighbours() {
  put(0x100, 1);
  auto* data = reinterpret_cast<volatile u32*>(code + 0x180);
  *data = 0;
  u32 sum = 0;
  for (u32 i = 0; i < 1000; ++i) {
    sum += call(0x100);
    *data = *data + 1;
  }
  check(sum == 1000 && *data == 1000, "data beside code on one page");
}

// The store is a few instructions ahead of what it patches, in one straight run.
extern "C" u32 patch_ahead(u32 value);
asm(R"(
  .section .data.code, "awx"
  .globl patch_ahead
patch_ahead:
  movl %edi, 1f+1(%rip)
  jmp 1f
1: mov $0x12345678, %eax
  ret
  .globl patch_straight
patch_straight:
  movb %dil, 2f+1(%rip)
  nop
2: mov $0x00, %al
  movzx %al, %eax
  ret
  .globl patch_loop
patch_loop:
  xor %eax, %eax
  mov $100, %ecx
3: add $1, %eax
  incb 3b+2(%rip)
  dec %ecx
  jnz 3b
  movb $1, 3b+2(%rip)
  ret
  .text
)");
extern "C" u32 patch_straight(u32 value);
extern "C" u32 patch_loop();

void check_ahead() {
  bool is_right = true;
  for (u32 i = 1; i < 500; ++i) is_right = is_right && patch_ahead(i * 0x01010101) == i * 0x01010101;
  check(is_right, "code that patches what follows a jump");
  is_right = true;
  for (u32 i = 0; i < 256; ++i) is_right = is_right && patch_straight(i) == i;
  check(is_right, "code that patches the next instruction but one");
  // 1 + 2 + … + 100, the immediate as a signed byte.
  check_equal(patch_loop(), 5050, "a loop that patches its own body");
}

// The same page at a second address: a write there changes the code here.
void check_alias() {
  auto* directory = reinterpret_cast<volatile u64*>(u64{kPageTables} + 2 * 4096);
  const u64 physical = reinterpret_cast<u64>(code);
  const u64 window = 0x3000'0000;
  directory[window >> 21] = (physical & ~0x1FFFFFULL) | 0x83;
  write_cr3(read_cr3());
  put(0x200, 7);
  check_equal(call(0x200), 7, "before");
  *reinterpret_cast<volatile u8*>(window + (physical & 0x1FFFFF) + 0x201) = 9;
  check_equal(call(0x200), 9, "a write through another address changes the code");
  // And the page behind an address changes under the code.
  put(0x1200, 21);
  auto* alias = reinterpret_cast<Function>(window + (physical & 0x1FFFFF) + 0x1200);
  check_equal(alias(), 21, "code runs through the other address");
  directory[window >> 21] = window | 0x83;
  write_cr3(read_cr3());
}

void check_string_write() {
  static const u8 kTemplate[6] = {0xB8, 0x2A, 0, 0, 0, 0xC3};
  put(0x300, 1);
  (void)call(0x300);
  const void* from = kTemplate;
  void* to = code + 0x300;
  u64 count = 6;
  asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count)::"memory");
  check_equal(call(0x300), 0x2A, "code written by REP MOVSB");
  const u32 value = 0x4D;
  asm volatile("movl %0, %%eax; lock xchgl %%eax, (%1)" ::"m"(value), "r"(code + 0x301) : "rax", "memory");
  check_equal(call(0x300), 0x4D, "patched by a locked exchange");
  asm volatile("movd %0, %%xmm0; movd %%xmm0, (%1)" ::"r"(0x77), "r"(code + 0x301) : "memory");
  check_equal(call(0x300), 0x77, "patched by a vector store");
}

}  // namespace

void run() {
  check_rewrites();
  check_neighbours();
  check_ahead();
  check_string_write();
  check_alias();
}

}  // namespace guest
