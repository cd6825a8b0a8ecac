// Accesses to addresses that are no memory: every width, read-modify-write, strings, page borders.
#include "runtime/runtime.h"

namespace guest {
namespace {

template <typename T>
volatile T& at(u32 offset) {
  return *reinterpret_cast<volatile T*>(u64{kMmioScratch} + offset);
}
u64 last_address() { return *reinterpret_cast<volatile u64*>(u64{kMmioLastAddress}); }
u32 last_size() { return *reinterpret_cast<volatile u32*>(u64{kMmioLastSize}); }
volatile u32& count() { return *reinterpret_cast<volatile u32*>(u64{kMmioCount}); }

template <typename T>
void check_width(T value, const char* write_text, const char* read_text) {
  at<T>(0x40) = value;
  check_equal(last_size(), sizeof(T) | 1U << 8, write_text);
  check_equal(last_address(), kMmioScratch + 0x40, "at its address");
  check_equal(at<T>(0x40), value, read_text);
  const T again = at<T>(0x40);
  check(again == value && last_size() == sizeof(T), "with that width");
}

void check_instructions() {
  at<u32>(0x80) = 10;
  asm volatile("addl $5, %0" : "+m"(at<u32>(0x80)));
  check_equal(at<u32>(0x80), 15, "ADD to memory reads and writes");
  u32 value = 7;
  asm volatile("xchgl %0, %1" : "+r"(value), "+m"(at<u32>(0x80)));
  check(value == 15 && at<u32>(0x80) == 7, "XCHG swaps");
  asm volatile("lock orl $0x100, %0" : "+m"(at<u32>(0x80)));
  check_equal(at<u32>(0x80), 0x107, "LOCK OR");
  u64 wide;
  at<u16>(0x90) = 0x8001;
  asm volatile("movzwl %1, %k0" : "=r"(wide) : "m"(at<u16>(0x90)));
  check_equal(wide, 0x8001, "MOVZX");
  asm volatile("movswq %1, %0" : "=r"(wide) : "m"(at<u16>(0x90)));
  check_equal(wide, 0xFFFFFFFFFFFF8001, "MOVSX");
  asm volatile("movb $0x5A, %0" : "=m"(at<u8>(0x91)));
  check_equal(at<u16>(0x90), 0x5A01, "MOV of an immediate byte");
  u8 flag = 0;
  asm volatile("cmpl $0x107, %1; sete %0" : "=r"(flag) : "m"(at<u32>(0x80)));
  check_equal(flag, 1, "CMP with memory sets the flags");
  asm volatile("testb $2, %1; setnz %0" : "=r"(flag) : "m"(at<u8>(0x80)));
  check_equal(flag, 1, "TEST with memory");
}

void check_strings() {
  u8 buffer[64];
  for (u32 i = 0; i < 64; ++i) buffer[i] = static_cast<u8>(i + 1);
  const void* source = buffer;
  auto target = const_cast<u8*>(&at<u8>(0x200));
  u64 left = 64;
  asm volatile("rep movsb" : "+S"(source), "+D"(target), "+c"(left)::"memory");
  check(at<u8>(0x200) == 1 && at<u8>(0x23F) == 64, "REP MOVSB into the device");
  u8 back[64] = {};
  const void* from = const_cast<u8*>(&at<u8>(0x200));
  void* to = back;
  left = 16;
  asm volatile("rep movsl" : "+S"(from), "+D"(to), "+c"(left)::"memory");
  bool is_same = true;
  for (u32 i = 0; i < 64; ++i) is_same = is_same && back[i] == buffer[i];
  check(is_same, "REP MOVSD out of the device");
  to = const_cast<u8*>(&at<u8>(0x300));
  left = 8;
  asm volatile("rep stosq" : "+D"(to), "+c"(left) : "a"(0x0101010101010101) : "memory");
  check(at<u64>(0x338) == 0x0101010101010101 && at<u64>(0x340) == 0, "REP STOSQ fills");
}

// Each string instruction with the device as its memory, in every width.
#define CHECK_STRING(suffix, type, value)                                                                                   \
  {                                                                                                                          \
    at<type>(0x400) = static_cast<type>(value);                                                                              \
    const volatile void* from = &at<type>(0x400);                                                                            \
    u64 loaded = 0;                                                                                                          \
    asm volatile("cld; lods" suffix : "+S"(from), "+a"(loaded)::"memory");                                                   \
    check(static_cast<type>(loaded) == static_cast<type>(value) && from == &at<type>(0x400) + 1, "LODS" suffix);             \
    volatile void* to = &at<type>(0x440);                                                                                    \
    asm volatile("stos" suffix : "+D"(to) : "a"(loaded) : "memory");                                                         \
    check(at<type>(0x440) == static_cast<type>(value) && to == &at<type>(0x440) + 1, "STOS" suffix);                         \
    check_equal(last_size(), sizeof(type), "  its read back has that width");                                                \
    to = &at<type>(0x440);                                                                                                   \
    u8 is_equal = 0;                                                                                                         \
    asm volatile("scas" suffix "; sete %1" : "+D"(to), "=q"(is_equal) : "a"(loaded) : "memory", "cc");                       \
    check_equal(is_equal, 1, "SCAS" suffix);                                                                                 \
    from = &at<type>(0x400);                                                                                                 \
    to = &at<type>(0x440);                                                                                                   \
    asm volatile("cmps" suffix "; sete %2" : "+S"(from), "+D"(to), "=q"(is_equal)::"memory", "cc");                          \
    check_equal(is_equal, 1, "CMPS" suffix);                                                                                 \
    from = &at<type>(0x400);                                                                                                 \
    to = &at<type>(0x480);                                                                                                   \
    asm volatile("movs" suffix : "+S"(from), "+D"(to)::"memory");                                                            \
    check_equal(at<type>(0x480), static_cast<type>(value), "MOVS" suffix " from the device to itself");                      \
  }

void check_string_widths() {
  CHECK_STRING("b", u8, 0xA5)
  CHECK_STRING("w", u16, 0xA55A)
  CHECK_STRING("l", u32, 0xA55AC33C)
  CHECK_STRING("q", u64, 0xA55AC33C0FF01122)
}

void check_borders() {
  at<u32>(0xFFE) = 0x44332211;
  check(at<u16>(0xFFE) == 0x2211 && at<u16>(0x1000) == 0x4433, "a write over a page border arrives on both sides");
  check_equal(at<u32>(0xFFE), 0x44332211, "a read over a page border");
  at<u64>(0xFFB) = 0x8877665544332211;
  check_equal(at<u64>(0xFFB), 0x8877665544332211, "64 bits, five on one side and three on the other");
  at<u32>(0x101) = 0xCAFEBABE;
  check_equal(at<u32>(0x101), 0xCAFEBABE, "an unaligned access");
}

void check_unbacked() {
  auto& nothing = *reinterpret_cast<volatile u32*>(0xC8000000ULL);
  check_equal(nothing, 0xFFFFFFFF, "an address where nothing is reads all-ones");
  nothing = 5;
  check_equal(nothing, 0xFFFFFFFF, "and drops writes");
}

}  // namespace

void run() {
  count() = 0;
  check_width<u8>(0x5A, "a write of 8 bits", "a read of 8 bits");
  check_width<u16>(0x5AA5, "a write of 16 bits", "a read of 16 bits");
  check_width<u32>(0x12345678, "a write of 32 bits", "a read of 32 bits");
  check_width<u64>(0x123456789ABCDEF0, "a write of 64 bits", "a read of 64 bits");
  check(count() > 8, "the device was asked each time");
  check_instructions();
  check_strings();
  check_string_widths();
  check_borders();
  check_unbacked();
}

}  // namespace guest
