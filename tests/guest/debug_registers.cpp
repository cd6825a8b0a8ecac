// Breakpoints by debug registers.
#include "runtime/runtime.h"

namespace guest {
namespace {

constexpr u8 kDebug = 1;

u32 hits;
u64 hit_status;
void count_hit(Frame& frame) {
  ++hits;
  asm volatile("mov %%dr6, %0" : "=r"(hit_status));
  frame.rflags |= 1 << 16;  // RF: go on past an execution breakpoint
}
void check_debug_registers() {
  set_handler(kDebug, count_hit);
  hits = 0;
  static volatile u64 watched;
  asm volatile("mov %0, %%dr0" ::"r"(reinterpret_cast<u64>(&watched)));
  asm volatile("mov %0, %%dr6" ::"r"(0ULL));
  asm volatile("mov %0, %%dr7" ::"r"(0x90001ULL | 0x400));  // L0, writes, LEN 10b: eight bytes
  watched = 5;
  asm volatile("nop");
  asm volatile("mov %0, %%dr7" ::"r"(0x400ULL));
  check_equal(hits, 1, "a data breakpoint traps once");
  check((hit_status & 1) != 0, "DR6 names it");
  set_handler(kDebug, nullptr);
}

}  // namespace

void run() { check_debug_registers(); }

}  // namespace guest
