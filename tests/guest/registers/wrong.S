// A head that is wrong on purpose: the runner has to see it.
// expects: rax=2 flags=0x45
#include "common.inc"
  LONG_GUEST
  mov $1, %eax
  xor %ebx, %ebx
  DONE
  LONG_TABLES
