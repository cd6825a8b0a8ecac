#include "runtime.h"

extern "C" {
void guest_main();
void guest_dispatch(guest::Frame* frame);
int guest_save(void* context) __attribute__((returns_twice));
[[noreturn]] void guest_restore(const void* context);
extern const std::uint8_t guest_vector_stubs[];

void* memset(void* to, int value, std::size_t count) {
  void* result = to;
  asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
  return result;
}
void* memcpy(void* to, const void* from, std::size_t count) {
  void* result = to;
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
  return result;
}
int memcmp(const void* a, const void* b, std::size_t count) {
  const auto* x = static_cast<const std::uint8_t*>(a);
  const auto* y = static_cast<const std::uint8_t*>(b);
  for (std::size_t i = 0; i < count; ++i) {
    if (x[i] != y[i]) return x[i] - y[i];
  }
  return 0;
}
}

namespace guest {
namespace {

struct Context {
  u64 registers[8];
};

struct [[gnu::packed]] Gate {
  u16 offset_low, selector;
  u8 stack, type;
  u16 offset_middle;
  u32 offset_high, reserved;
};
struct [[gnu::packed]] TablePointer {
  u16 limit;
  u64 base;
};
struct [[gnu::packed]] Task {
  u32 reserved0;
  u64 rsp[3];
  u64 reserved1;
  u64 ist[7];
  u64 reserved2;
  u16 reserved3, io_map;
};

constexpr u64 kStackBytes = 16384;
alignas(16) Gate idt[256];
alignas(16) u64 gdt[9] = {
    0,
    0x00AF9B000000FFFF,  // ring 0 code, 64 bits
    0x00CF93000000FFFF,  // ring 0 data
    0x00CF9B000000FFFF,  // ring 0 code, 32 bits
    0x00CFFB000000FFFF,  // ring 3 code, 32 bits
    0x00CFF3000000FFFF,  // ring 3 data
    0x00AFFB000000FFFF,  // ring 3 code, 64 bits
    0, 0,                // task
};
alignas(16) Task task;
alignas(16) u8 interrupt_stack[7][kStackBytes];
alignas(16) u8 ring0_stack[kStackBytes];
alignas(16) u8 user_stack[kStackBytes];
Handler handlers[256];
Context recovery;
bool is_catching = false;
Fault caught;
u32 checks = 0, failures = 0;
bool is_x2apic = false;

void set_up_tables() {
  for (u32 vector = 0; vector < 256; ++vector) set_handler(static_cast<u8>(vector), nullptr);
  handlers[0x81] = nullptr;
  for (u32 i = 0; i < 7; ++i) task.ist[i] = reinterpret_cast<u64>(interrupt_stack[i] + kStackBytes);
  task.rsp[0] = reinterpret_cast<u64>(ring0_stack + kStackBytes);
  task.io_map = sizeof(Task);
  const u64 base = reinterpret_cast<u64>(&task);
  gdt[7] = (sizeof(Task) - 1) | (base & 0xFFFFFF) << 16 | 0x89ULL << 40 | (base >> 24 & 0xFF) << 56;
  gdt[8] = base >> 32;
  const TablePointer gdt_pointer{sizeof(gdt) - 1, reinterpret_cast<u64>(gdt)};
  const TablePointer idt_pointer{sizeof(idt) - 1, reinterpret_cast<u64>(idt)};
  asm volatile("lgdt %0" ::"m"(gdt_pointer));
  asm volatile("lidt %0" ::"m"(idt_pointer));
  asm volatile("ltr %0" ::"r"(kTask));
  asm volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%ss; mov %0, %%fs; mov %0, %%gs" ::"r"(u32{kData}));
}

[[noreturn]] void report_unexpected(const Frame& frame) {
  print("FAILED unexpected vector ");
  print_hex(frame.vector);
  print(" error ");
  print_hex(frame.error);
  print(" at ");
  print_hex(frame.rip);
  print(" cr2 ");
  print_hex(read_cr2());
  print("\n");
  ++failures;
  finish();
}

}  // namespace

void print(const char* text) {
  for (; *text != 0; ++text) out8(kPortText, static_cast<u8>(*text));
}

void print_hex(u64 value) {
  char text[19] = "0x";
  int length = 2;
  bool has_digits = false;
  for (int shift = 60; shift >= 0; shift -= 4) {
    const auto digit = static_cast<u32>(value >> shift & 0xF);
    if (digit == 0 && !has_digits && shift != 0) continue;
    has_digits = true;
    text[length++] = static_cast<char>(digit < 10 ? '0' + digit : 'a' + digit - 10);
  }
  text[length] = 0;
  print(text);
}

void check(bool is_right, const char* what) {
  ++checks;
  if (!is_right) ++failures;
  print(is_right ? "ok " : "FAILED ");
  print(what);
  print("\n");
}

void check_equal(u64 got, u64 expected, const char* what) {
  if (got == expected) return check(true, what);
  check(false, what);
  print("  got ");
  print_hex(got);
  print(", expected ");
  print_hex(expected);
  print("\n");
}

void check_equal_or_defect(u64 got, u64 expected, u64 defect, const char* what) {
  if (got != defect || (boot_info().flags & kFlagEmulatedProcessor) == 0) return check_equal(got, expected, what);
  print("defect of the emulated processor: ");
  print(what);
  print("\n");
}

void note_absent(const char* what) {
  print("absent ");
  print(what);
  print("\n");
}

void finish() {
  print("checks ");
  print_hex(checks);
  print(" failed ");
  print_hex(failures);
  print("\n");
  if (checks == 0) ++failures;  // a guest that checks nothing proves nothing
  out32(kPortFinish, failures);
  for (;;) asm volatile("cli; hlt");
}

void set_handler(u8 vector, Handler handler, u8 stack, u8 ring) {
  handlers[vector] = handler;
  const u64 stub = reinterpret_cast<u64>(guest_vector_stubs) + u64{vector} * 16;
  // INT3, INTO and the way back from ring 3 are for everybody.
  const u8 dpl = vector == 3 || vector == 4 || vector == 0x81 ? 3 : ring;
  idt[vector] = {static_cast<u16>(stub), kCode64, stack, static_cast<u8>(0x8E | dpl << 5),
                 static_cast<u16>(stub >> 16), static_cast<u32>(stub >> 32), 0};
}

Fault catch_fault(void (*code)(u64), u64 argument) {
  is_catching = true;
  caught = {};
  if (guest_save(&recovery) == 0) code(argument);
  is_catching = false;
  return caught;
}

namespace {
void enter_user_mode(u64 rip) {
  const u64 stack = reinterpret_cast<u64>(user_stack + kStackBytes - 64);
  asm volatile(
      "push %[ss]\n push %[stack]\n push $2\n push %[cs]\n push %[rip]\n iretq" ::[ss] "r"(u64{kUserData}),
      [stack] "r"(stack), [cs] "r"(u64{kUserCode64}), [rip] "r"(rip)
      : "memory");
  __builtin_unreachable();
}
}  // namespace

Fault run_in_user_mode(u64 rip) { return catch_fault(enter_user_mode, rip); }

void open_to_user_mode() {
  auto* entries = reinterpret_cast<u64*>(u64{kPageTables});
  for (u32 i = 0; i < 6 * 512; ++i) {
    if ((entries[i] & 1) != 0) entries[i] |= 4;
  }
  write_cr3(read_cr3());
}

u32 apic_read(u32 offset) {
  if (is_x2apic) return static_cast<u32>(read_msr(0x800 + offset / 16));
  return *reinterpret_cast<volatile u32*>(0xFEE00000ULL + offset);
}

void apic_write(u32 offset, u32 value) {
  if (is_x2apic) return write_msr(0x800 + offset / 16, value);
  *reinterpret_cast<volatile u32*>(0xFEE00000ULL + offset) = value;
}

void apic_enable() {
  is_x2apic = (read_msr(0x1B) & 1 << 10) != 0;
  apic_write(kApicSpurious, 0x1FF);
  apic_write(kApicTpr, 0);
}

void apic_end_of_interrupt() { apic_write(kApicEoi, 0); }

bool wait_for(const volatile u32* flag, u64 milliseconds) {
  const u64 start = read_tsc();
  const u64 limit = boot_info().tsc_hz / 1000 * milliseconds;
  while (*flag == 0) {
    if (read_tsc() - start > limit) return *flag != 0;
    pause();
  }
  return true;
}

void wait_milliseconds(u64 milliseconds) {
  const u64 start = read_tsc();
  while (read_tsc() - start < boot_info().tsc_hz / 1000 * milliseconds) pause();
}

}  // namespace guest

void guest_main() {
  guest::set_up_tables();
  guest::run();
  guest::finish();
}

void guest_dispatch(guest::Frame* frame) {
  using namespace guest;
  if (handlers[frame->vector] != nullptr) return handlers[frame->vector](*frame);
  if ((frame->vector >= 32 && frame->vector != 0x81) || !is_catching) report_unexpected(*frame);
  caught = {true, static_cast<u8>(frame->vector), frame->error, frame->rip, read_cr2(), frame->cs, frame->rflags};
  asm volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%ss" ::"r"(u32{kData}));
  guest_restore(&recovery);
}
