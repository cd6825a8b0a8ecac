// The smallest guest: it was entered as promised and can speak, compute and end.
#include "runtime/runtime.h"

namespace guest {

void run() {
  print("hello\n");
  check((read_msr(kMsrEfer) & 0x500) == 0x500, "long mode is active");
  check((read_cr0() & 0x80000001) == 0x80000001, "paging is on");
  check_equal(read_cr3(), kPageTables, "page tables are where they were promised");
  check(boot_info().memory_bytes >= 16 << 20, "boot information names the memory");
  check(boot_info().tsc_hz > 1'000'000, "boot information names the TSC's rate");
  u64 sum = 0;
  for (u64 i = 0; i < 100'000; ++i) asm volatile("add %1, %0" : "+r"(sum) : "r"(i));
  check_equal(sum, 4'999'950'000, "a loop adds up");
  auto* far = reinterpret_cast<volatile u64*>(boot_info().memory_bytes - 8);
  *far = 0x123456789ABCDEF0;
  check_equal(*far, 0x123456789ABCDEF0, "the last bytes of memory hold a value");
}

}  // namespace guest
