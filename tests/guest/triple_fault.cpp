// A triple fault ends the run; nothing else happens to the host.
#include "runtime/runtime.h"

namespace guest {

void run() {
  check(true, "reached the triple fault");
  out8(kPortExpect, static_cast<u8>(Ending::kShutdown));
  struct [[gnu::packed]] {
    u16 limit = 0;
    u64 base = 0;
  } none;
  asm volatile("lidt %0; ud2" ::"m"(none));
}

}  // namespace guest
