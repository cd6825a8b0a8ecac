// Calls through the engine's hypercall code.
#include "runtime/runtime.h"

namespace guest {
namespace {

u64 hypercall(u64 control, u64 input, u64 output) {
  u64 result;
  register u64 r8 asm("r8") = output;
  asm volatile("call *%[page]" : "=a"(result), "+c"(control), "+d"(input), "+r"(r8) : [page] "r"(u64{kHypercallPage}) : "memory");
  return result;
}
void faulting(u64) { (void)hypercall(kCallFault, 0, 0); }

extern "C" void user_hypercall();
asm(R"(
user_hypercall: mov $0x9000, %eax
  mov $0xB001, %ecx
  call *%rax
  int $0x81
)");

void check_vector_registers() {
  constexpr u64 kFast = 1 << 16;
  u64 in[2] = {41, 99}, out[2] = {};
  asm volatile("movups %0, %%xmm0" ::"m"(in));
  check_equal(hypercall(kCallXmm | kFast, 0, 0), 0, "a fast call with vector registers");
  asm volatile("movups %%xmm5, %0" : "=m"(out));
  check(out[0] == 42 && out[1] == 100, "passes them in and out");
  asm volatile("movups %%xmm0, %0" : "=m"(out));
  check(out[0] == 41 && out[1] == 99, "and leaves the others");
}

}  // namespace

void run() {
  constexpr u64 kControl = 0x1234'0000'0000'0000 | kCallXor;
  constexpr u64 kInput = 0xFEDCBA9876543210, kOutput = 0x0F0F0F0F0F0F0F0F;
  check_equal(hypercall(kControl, kInput, kOutput), kControl ^ kInput ^ kOutput, "RCX, RDX, R8 in and RAX out, 64 bits");
  check_equal(hypercall(0x7777, 0, 0), 2, "an unknown call has its status");
  u64 rbx = 0x1122334455667788, after = rbx;
  asm volatile("call *%1" : "+b"(after) : "r"(u64{kHypercallPage}), "c"(u64{kCallXor}) : "rax", "rdx", "r8", "memory");
  check_equal(after, rbx, "other registers stay");
  check_vector_registers();
  const Fault fault = catch_fault(faulting);
  check_equal(fault.vector, 6, "a refused call is an invalid opcode");
  check(fault.rip >= kHypercallPage && fault.rip < kHypercallPage + 64, "  inside the hypercall code");
  open_to_user_mode();
  const Fault user = run_in_user_mode(reinterpret_cast<u64>(&user_hypercall));
  check(user.vector == 6 || user.vector == 13, "ring 3 may not call");
}

}  // namespace guest
