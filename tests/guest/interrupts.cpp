// Interrupts: priorities, the task priority, in-service and request bits, shadows, NMI, HLT, level-triggered EOI.
#include "runtime/runtime.h"

namespace guest {
namespace {

constexpr u8 kLow = 0x41, kMiddle = 0x61, kHigh = 0x81 + 0x10;  // 0x91: classes 4, 6 and 9
volatile u32 order[16];
volatile u32 count;
u32 in_service_seen;

bool bit(u32 base, u8 vector) { return (apic_read(base + (vector / 32U) * 16) >> (vector % 32) & 1) != 0; }
void send_self(u8 vector) { apic_write(kApicIcrLow, 1U << 18 | vector); }

void record(Frame& frame) {
  if (count < 16) order[count] = static_cast<u32>(frame.vector);
  count = count + 1;
  if (bit(kApicIsr, static_cast<u8>(frame.vector))) in_service_seen |= 1U << (frame.vector >> 4);
  apic_end_of_interrupt();
}
void reset_record() {
  count = 0;
  in_service_seen = 0;
}
void let_in() {
  enable_interrupts();
  for (u32 i = 0; i < 100; ++i) pause();
  disable_interrupts();
}

void check_delivery() {
  reset_record();
  send_self(kMiddle);
  check(bit(kApicIrr, kMiddle), "a self IPI sets its request bit");
  check_equal(count, 0, "and waits while IF is clear");
  let_in();
  check(count == 1 && order[0] == kMiddle, "it is delivered after STI");
  check_equal(in_service_seen, 1U << (kMiddle >> 4), "in service while its handler runs");
  check(!bit(kApicIsr, kMiddle) && !bit(kApicIrr, kMiddle), "and gone after EOI");
}

void check_priorities() {
  reset_record();
  send_self(kLow);
  send_self(kHigh);
  send_self(kMiddle);
  let_in();
  check(count == 3 && order[0] == kHigh && order[1] == kMiddle && order[2] == kLow, "the highest comes first");

  reset_record();
  apic_write(kApicTpr, 0x60);
  check_equal(read_cr8(), 6, "CR8 shows the task priority");
  send_self(kLow);
  send_self(kMiddle);
  send_self(kHigh);
  let_in();
  check(count == 1 && order[0] == kHigh, "the task priority holds back its class and lower ones");
  check_equal(apic_read(kApicPpr) & 0xF0, 0x60, "the processor priority follows");
  write_cr8(5);
  check_equal(apic_read(kApicTpr) & 0xF0, 0x50, "CR8 writes the task priority");
  let_in();
  check(count == 2 && order[1] == kMiddle, "a lower CR8 lets the next in");
  enable_interrupts();
  write_cr8(0);
  pause();
  disable_interrupts();
  check(count == 3 && order[2] == kLow, "and zero the last");
}

// A handler that opens the door lets only higher classes in.
void nest(Frame&) {
  if (count < 16) order[count] = 1;
  count = count + 1;
  send_self(kLow);
  send_self(kHigh);
  enable_interrupts();
  for (u32 i = 0; i < 100; ++i) pause();
  disable_interrupts();
  if (count < 16) order[count] = 2;
  count = count + 1;
  apic_end_of_interrupt();
}
void check_nesting() {
  reset_record();
  set_handler(kMiddle, nest);
  send_self(kMiddle);
  let_in();
  check(count == 4 && order[0] == 1 && order[1] == kHigh && order[2] == 2 && order[3] == kLow,
        "in service, only a higher class interrupts");
  set_handler(kMiddle, record);
}

u64 shadow_rip;
void see_rip(Frame& frame) {
  shadow_rip = frame.rip;
  count = count + 1;
  apic_end_of_interrupt();
}
void check_shadow() {
  reset_record();
  set_handler(kHigh, see_rip);
  send_self(kHigh);
  u64 behind;
  asm volatile("lea 1f(%%rip), %0; sti; nop; 1: nop; nop; cli" : "=r"(behind)::"memory");
  // QEMU's VMRUN forgets the interrupt shadow: an exit between the two lets the interrupt in one instruction early.
  check_equal(count, 1, "STI lets one in");
  check_equal_or_defect(shadow_rip, behind, behind - 1, "after the next instruction");
  reset_record();
  send_self(kHigh);
  asm volatile("sti; cli; nop" ::: "memory");
  check_equal_or_defect(count, 0, 1, "STI; CLI lets nothing in");
  u64 flags;
  asm volatile("pushfq; pop %0" : "=r"(flags));
  asm volatile("push %0; popfq; nop; cli" ::"r"(flags | 1 << 9) : "memory", "cc");
  check_equal(count, 1, "POPF opens too");
  set_handler(kHigh, record);
}

void check_halt() {
  reset_record();
  out32(kPortInterrupt, kHigh);
  halt_for_interrupt();
  check_equal(count, 1, "HLT ends with an interrupt from a device");
}

volatile u32 nmis;
volatile u32 nmi_depth, nmi_deepest;
void see_nmi(Frame&) {
  nmis = nmis + 1;
  nmi_depth = nmi_depth + 1;
  if (nmi_depth > nmi_deepest) nmi_deepest = nmi_depth;
  if (nmis == 1) {
    out32(kPortInterrupt, 4 << 8);
    for (u32 i = 0; i < 1000; ++i) pause();
  }
  nmi_depth = nmi_depth - 1;
}
void check_nmi() {
  set_handler(2, see_nmi);
  nmis = 0;
  nmi_depth = 0;
  nmi_deepest = 0;
  out32(kPortInterrupt, 4 << 8);
  check(wait_for(&nmis, 1000), "an NMI comes with IF clear");
  for (u32 i = 0; i < 1000 && nmis < 2; ++i) in8(kPortScratch);
  check_equal(nmis, 2, "a second one, sent meanwhile, comes too");
  check_equal(nmi_deepest, 1, "but after the first one's IRET");
}

void check_level() {
  reset_record();
  const u32 before = in32(kPortEoiCount);
  out32(kPortInterrupt, kMiddle | 1 << 15);
  let_in();
  check_equal(count, 1, "a level-triggered interrupt comes");
  for (u32 i = 0; i < 1000 && in32(kPortEoiCount) == before; ++i) pause();
  check_equal(in32(kPortEoiCount), before + 1, "its EOI reaches the I/O APIC");
  check_equal(in32(kPortEoiVector), kMiddle, "with its vector");
  out32(kPortInterrupt, kLow);
  let_in();
  check_equal(in32(kPortEoiCount), before + 1, "an edge-triggered one's does not");
}

void check_software_disable() {
  reset_record();
  apic_write(kApicSpurious, 0x0FF);
  out32(kPortInterrupt, kLow);
  let_in();
  check_equal(count, 0, "a disabled APIC delivers nothing");
  apic_enable();
}

}  // namespace

void run() {
  apic_enable();
  constexpr u8 kVectors[] = {kLow, kMiddle, kHigh};
  for (const u8 vector : kVectors) set_handler(vector, record);
  check_delivery();
  check_priorities();
  check_nesting();
  check_shadow();
  check_halt();
  check_nmi();
  check_level();
  check_software_disable();
}

}  // namespace guest
