// Starting the other processors of a 64-bit guest, and IPIs. Needs apic_enable() first, 16 MiB of memory and the 64 KiB at 0x20000.
#pragma once

#include "runtime.h"

namespace guest {

/// Brings every other processor to 64-bit mode with the first one's tables and interrupt vectors, its local APIC on, and calls
/// `entry` on its own stack. A processor whose entry returns halts with interrupts on. How many came up.
[[nodiscard]] u32 start_processors(void (*entry)());
/// Writes the interrupt command register and waits until the message is sent.
void send_ipi(u32 destination, u32 command);

inline u32 own_id() { return apic_read(kApicId) >> 24; }
inline void add_locked(u64& target) { asm volatile("lock incq %0" : "+m"(target)); }
inline void add_locked(volatile u32& target) { asm volatile("lock incl %0" : "+m"(target)); }

}  // namespace guest
