// Port accesses of every width and string form.
#include "runtime/runtime.h"

namespace guest {
namespace {

u32 last(u16 port, u32 size, bool is_write) { return port | size << 16 | (is_write ? 1U << 24 : 0); }

void check_widths() {
  out8(kPortScratch, 0x12);
  check_equal(in32(kPortLast), last(kPortScratch, 1, true), "OUT of 8 bits reaches the device");
  out16(kPortScratch + 2, 0x5634);
  check_equal(in32(kPortLast), last(kPortScratch + 2, 2, true), "OUT of 16 bits reaches the device");
  out32(kPortScratch + 4, 0xDEBC9A78);
  check_equal(in32(kPortLast), last(kPortScratch + 4, 4, true), "OUT of 32 bits reaches the device");
  check_equal(in8(kPortScratch), 0x12, "IN of 8 bits");
  check_equal(in32(kPortLast), last(kPortScratch, 1, false), "IN of 8 bits has that width");
  check_equal(in16(kPortScratch + 2), 0x5634, "IN of 16 bits");
  check_equal(in32(kPortScratch + 4), 0xDEBC9A78, "IN of 32 bits");
  check_equal(in32(kPortLast), last(kPortScratch + 4, 4, false), "IN of 32 bits has that width");
}

void check_register_parts() {
  u64 value = 0x1111222233334444;
  asm volatile("inb %w1, %b0" : "+a"(value) : "d"(kPortScratch));
  check_equal(value, 0x1111222233334412, "IN AL keeps the rest of RAX");
  value = 0x1111222233334444;
  asm volatile("inw %w1, %w0" : "+a"(value) : "d"(kPortScratch + 2));
  check_equal(value, 0x1111222233335634, "IN AX keeps the rest of RAX");
  value = 0x1111222233334444;
  asm volatile("inl %w1, %k0" : "+a"(value) : "d"(kPortScratch + 4));
  check_equal(value, 0xDEBC9A78, "IN EAX clears the upper half of RAX");
}

void check_strings() {
  u8 from[16], to[16] = {};
  for (u32 i = 0; i < sizeof(from); ++i) from[i] = static_cast<u8>(0xA0 + i);
  const void* source = from;
  void* target = to;
  u64 count = 16;
  out32(kPortCount, 0);
  asm volatile("cld; rep outsb" : "+S"(source), "+c"(count) : "d"(kPortScratch) : "memory");
  check_equal(count, 0, "REP OUTSB counts down to zero");
  check_equal(reinterpret_cast<u64>(source), reinterpret_cast<u64>(from + 16), "REP OUTSB moves RSI");
  check_equal(in32(kPortCount), 16, "REP OUTSB is sixteen accesses");
  check_equal(in8(kPortScratch), 0xAF, "the last one stays");

  count = 4;
  source = from;
  asm volatile("rep outsl" : "+S"(source), "+c"(count) : "d"(kPortScratch) : "memory");
  check_equal(in32(kPortScratch), 0xAFAEADAC, "REP OUTSD sends words of 32 bits");
  count = 3;
  source = from;
  asm volatile("rep outsw" : "+S"(source), "+c"(count) : "d"(kPortScratch) : "memory");
  check_equal(in16(kPortScratch), 0xA5A4, "REP OUTSW sends words of 16 bits");

  out32(kPortScratch, 0x44332211);
  count = 3;
  asm volatile("rep insl" : "+D"(target), "+c"(count) : "d"(kPortScratch) : "memory");
  check_equal(reinterpret_cast<u64>(target), reinterpret_cast<u64>(to + 12), "REP INSD moves RDI");
  check_equal(to[0] | u32{to[5]} << 8 | u32{to[10]} << 16 | u32{to[11]} << 24, 0x44332211, "REP INSD stores each word");
  check_equal(to[12], 0, "REP INSD stops in time");

  target = to + 15;
  count = 2;
  asm volatile("std; rep insb; cld" : "+D"(target), "+c"(count) : "d"(kPortScratch + 1) : "memory");
  check_equal(to[15] | to[14] << 8, 0x2222, "REP INSB goes down with the direction flag");
  check_equal(reinterpret_cast<u64>(target), reinterpret_cast<u64>(to + 13), "and RDI goes down");

  count = 0;
  target = to;
  out32(kPortCount, 0);
  asm volatile("rep insb" : "+D"(target), "+c"(count) : "d"(kPortScratch) : "memory");
  check_equal(in32(kPortCount), 0, "REP with a count of zero does nothing");
}

// Every width of INS and OUTS without a prefix: one access, the pointer moves by its width.
#define CHECK_SINGLE(suffix, width)                                                                                         \
  {                                                                                                                          \
    alignas(8) u8 from[8] = {0x11, 0x22, 0x33, 0x44}, to[8] = {};                                                            \
    const void* source = from;                                                                                               \
    void* target = to;                                                                                                       \
    out32(kPortScratch, 0);                                                                                                  \
    asm volatile("cld; outs" suffix : "+S"(source) : "d"(kPortScratch) : "memory");                                          \
    check_equal(in32(kPortLast), last(kPortScratch, width, true), "OUTS" suffix " is one access of its width");              \
    check_equal(reinterpret_cast<u64>(source), reinterpret_cast<u64>(from + (width)), "  and moves RSI by it");             \
    asm volatile("ins" suffix : "+D"(target) : "d"(kPortScratch) : "memory");                                                \
    check_equal(in32(kPortLast), last(kPortScratch, width, false), "INS" suffix " likewise");                                \
    check_equal(reinterpret_cast<u64>(target), reinterpret_cast<u64>(to + (width)), "  and moves RDI by it");               \
    bool is_same = true;                                                                                                     \
    for (u32 i = 0; i < 8; ++i) is_same = is_same && to[i] == (i < (width) ? from[i] : 0);                                   \
    check(is_same, "  with the value, and not a byte more");                                                                 \
  }

void check_single_strings() {
  CHECK_SINGLE("b", 1)
  CHECK_SINGLE("w", 2)
  CHECK_SINGLE("l", 4)
  u16 words[3] = {};
  void* target = words;
  u64 count = 3;
  out16(kPortScratch, 0xBEEF);
  asm volatile("cld; rep insw" : "+D"(target), "+c"(count) : "d"(kPortScratch) : "memory");
  check(words[0] == 0xBEEF && words[1] == 0xBEEF && words[2] == 0xBEEF && count == 0, "REP INSW stores each word");
}

// More bytes than one exit carries, and over a page border.
void check_long_string() {
  static u8 buffer[3 * 4096];
  for (u32 i = 0; i < sizeof(buffer); ++i) buffer[i] = static_cast<u8>(i * 7);
  const void* source = buffer;
  u64 count = sizeof(buffer);
  out32(kPortCount, 0);
  asm volatile("rep outsb" : "+S"(source), "+c"(count) : "d"(kPortScratch) : "memory");
  check_equal(in32(kPortCount), sizeof(buffer), "REP OUTSB of twelve KiB arrives whole");
  check_equal(in8(kPortScratch), static_cast<u8>((sizeof(buffer) - 1) * 7), "with its last byte");
}

}  // namespace

void run() {
  check_widths();
  check_register_parts();
  check_strings();
  check_single_strings();
  check_long_string();
}

}  // namespace guest
