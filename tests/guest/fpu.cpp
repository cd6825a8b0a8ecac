// x87, SSE and AVX state: kept over exits, saved and restored, its exceptions and switches.
#include "runtime/runtime.h"

namespace guest {
namespace {

constexpr u64 kNone = 0xFF;
enum : u8 { kInvalidOpcode = 6, kNoDevice = 7, kProtection = 13, kMath = 16, kSimd = 19 };
u64 code_of(const Fault& fault) { return fault.happened ? fault.vector : kNone; }

void check_x87() {
  u16 control;
  asm volatile("fninit; fnstcw %0" : "=m"(control));
  check_equal(control, 0x37F, "FNINIT");
  u64 result;
  const u64 three = 0x4008000000000000, half = 0x3FE0000000000000;  // 3.0 and 0.5
  asm volatile("fldl %1; faddl %2; fmull %1; fstpl %0" : "=m"(result) : "m"(three), "m"(half));
  check_equal(result, 0x4025000000000000, "x87: (3 + 0.5) * 3 = 10.5");
  u8 extended[10] = {};
  asm volatile("fldpi; fstpt %0" : "=m"(extended));
  check_equal(extended[9] << 8 | extended[8], 0x4000, "x87 has 80 bits: the exponent of pi");
  check_equal(*reinterpret_cast<u64*>(extended), 0xC90FDAA22168C235, "and its mantissa");
  int integer = 0;
  asm volatile("fldpi; fistpl %0" : "=m"(integer));
  check_equal(static_cast<u64>(integer), 3, "FIST rounds");
}

void divide_x87(u64) { asm volatile("fld1; fldz; fdivrp %st, %st(1); fwait"); }
void check_x87_exceptions() {
  asm volatile("fninit");
  u16 status;
  asm volatile("fld1; fldz; fdivrp %%st, %%st(1); fnstsw %0" : "=m"(status));
  check((status & 4) != 0, "a masked division by zero sets its flag");
  const u16 unmasked = 0x37B;
  asm volatile("fninit; fldcw %0" ::"m"(unmasked));
  check_equal(code_of(catch_fault(divide_x87)), kMath, "an unmasked one is #MF at the next instruction");
  asm volatile("fninit");
}

void divide_sse(u64) {
  const u32 one = 0x3F800000, zero = 0;
  asm volatile("movss %0, %%xmm0; divss %1, %%xmm0" ::"m"(one), "m"(zero));
}
void load_mxcsr(u64 value) {
  const auto word = static_cast<u32>(value);
  asm volatile("ldmxcsr %0" ::"m"(word));
}
void add_vectors(u64) { asm volatile("addps %xmm0, %xmm0"); }

void check_sse() {
  load_mxcsr(0x1F80);
  const u32 a[4] = {0x3F800000, 0x40000000, 0x40400000, 0x40800000};  // 1 2 3 4
  u32 r[4];
  asm volatile("movups %1, %%xmm3; movaps %%xmm3, %%xmm4; addps %%xmm3, %%xmm4; mulps %%xmm3, %%xmm4; movups %%xmm4, %0"
               : "=m"(r)
               : "m"(a));
  check(r[0] == 0x40000000 && r[1] == 0x41000000 && r[2] == 0x41900000 && r[3] == 0x42000000, "SSE: 2 8 18 32");
  load_mxcsr(0x1F80 & ~(1U << 9));
  check_equal_or_defect(code_of(catch_fault(divide_sse)), kSimd, kNone, "an unmasked division by zero is #XM");
  load_mxcsr(0x1F80);
  const u64 code = code_of(catch_fault(load_mxcsr, 0xFFFF0000));
  load_mxcsr(0x1F80);  // at once: a guest that is moved must not have a value that only a defect let in
  check_equal_or_defect(code, kProtection, kNone, "reserved bits of MXCSR");
  check_equal(code_of(catch_fault(divide_sse)), kNone, "masked it is none");
}

void check_kept_over_exits() {
  u64 in[16][2], out[16][2] = {};
  for (u64 i = 0; i < 16; ++i) {
    in[i][0] = 0x1111111111111111 * i;
    in[i][1] = ~in[i][0];
  }
#define LOAD(n) asm volatile("movups %0, %%xmm" #n ::"m"(in[n]));
#define STORE(n) asm volatile("movups %%xmm" #n ", %0" : "=m"(out[n]));
#define ALL(what) what(0) what(1) what(2) what(3) what(4) what(5) what(6) what(7) what(8) what(9) what(10) what(11) \
      what(12) what(13) what(14) what(15)
  ALL(LOAD)
  for (u32 i = 0; i < 50; ++i) {
    out8(kPortScratch, 1);
    (void)*reinterpret_cast<volatile u32*>(u64{kMmioScratch});
    (void)cpuid(0);
  }
  ALL(STORE)
  bool is_same = true;
  for (u32 i = 0; i < 16; ++i) is_same = is_same && in[i][0] == out[i][0] && in[i][1] == out[i][1];
  check(is_same, "sixteen vector registers stay over exits");
}

void check_fxsave() {
  alignas(16) static u8 area[512];
  load_mxcsr(0x1F80);
  const u64 value[2] = {0x0123456789ABCDEF, 42};
  u64 back[2];
  asm volatile("fninit; fld1; movups %1, %%xmm7; fxsave %0" : "=m"(area) : "m"(value));
  asm volatile("fninit; xorps %%xmm7, %%xmm7; fxrstor %0" ::"m"(area));
  asm volatile("movups %%xmm7, %0" : "=m"(back));
  check(back[0] == value[0] && back[1] == 42, "FXSAVE and FXRSTOR keep XMM");
  u64 one;
  asm volatile("fstpl %0" : "=m"(one));
  check_equal(one, 0x3FF0000000000000, "and x87");
  check_equal(*reinterpret_cast<u32*>(area + 24), 0x1F80, "MXCSR is in its place");
}

void check_switches() {
  const u64 cr0 = read_cr0();
  write_cr0(cr0 | 8);
  check_equal(code_of(catch_fault(add_vectors)), kNoDevice, "TS makes SSE a #NM");
  asm volatile("clts");
  check_equal(code_of(catch_fault(add_vectors)), kNone, "CLTS clears it");
  write_cr0(cr0 | 4);
  check_equal(code_of(catch_fault(add_vectors)), kInvalidOpcode, "EM makes SSE a #UD");
  write_cr0(cr0);
  const u64 cr4 = read_cr4();
  write_cr4(cr4 & ~(1ULL << 9));
  check_equal(code_of(catch_fault(add_vectors)), kInvalidOpcode, "without OSFXSR SSE is a #UD");
  write_cr4(cr4);
}

void set_xcr0(u64 value) {
  asm volatile("xsetbv" ::"c"(0), "a"(static_cast<u32>(value)), "d"(static_cast<u32>(value >> 32)));
}
u64 xcr0() {
  u32 low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return u64{high} << 32 | low;
}
void get_xcr0(u64) { (void)xcr0(); }
void add_wide(u64) { asm volatile("vaddps %ymm0, %ymm0, %ymm0"); }

void check_xsave() {
  if ((cpuid(1).ecx & 1 << 26) == 0) return note_absent("XSAVE");
  check_equal(code_of(catch_fault(get_xcr0)), kInvalidOpcode, "XGETBV without OSXSAVE");
  check((cpuid(1).ecx & 1 << 27) == 0, "CPUID says that OSXSAVE is off");
  write_cr4(read_cr4() | 1 << 18);
  check((cpuid(1).ecx & 1 << 27) != 0, "CPUID follows CR4.OSXSAVE");
  check_equal(xcr0(), 1, "XCR0 starts with x87");
  check_equal(code_of(catch_fault(set_xcr0, 0)), kProtection, "x87 cannot be switched off");
  check_equal(code_of(catch_fault(set_xcr0, 5)), kProtection, "AVX needs SSE");
  check_equal(code_of(catch_fault(set_xcr0, 1ULL << 40 | 3)), kProtection, "unknown components");
  if ((cpuid(0xD).eax & 4) == 0) return note_absent("AVX");
  set_xcr0(3);
  check_equal(code_of(catch_fault(add_wide)), kInvalidOpcode, "AVX is a #UD until it is switched on");
  check_equal(cpuid(0xD).ebx, 576, "CPUID's size without AVX");
  set_xcr0(7);
  out8(kPortScratch, 1);
  check_equal_or_defect(xcr0(), 7, 1, "XCR0 stays over an exit");
  if (xcr0() != 7) return;
  check(cpuid(0xD).ebx >= 832, "CPUID's size follows XCR0");
  check_equal(code_of(catch_fault(add_wide)), kNone, "AVX runs");
  alignas(32) u64 wide[4] = {1, 2, 3, 4}, back[4];
  alignas(64) static u8 area[4096];
  asm volatile("vmovdqu %0, %%ymm9" ::"m"(wide));
  for (u32 i = 0; i < 10; ++i) out8(kPortScratch, 1);
  asm volatile("xsave %0" : "=m"(area) : "a"(7), "d"(0));
  asm volatile("vzeroall; xrstor %0" ::"m"(area), "a"(7), "d"(0));
  asm volatile("vmovdqu %%ymm9, %0" : "=m"(back));
  check(back[0] == 1 && back[1] == 2 && back[2] == 3 && back[3] == 4, "XSAVE and XRSTOR keep YMM");
  check_equal(*reinterpret_cast<u64*>(area + 512) & 4, 4, "the header names the component");
  asm volatile("movups %%xmm9, %%xmm9; movups %1, %%xmm9; vmovdqu %%ymm9, %0" : "=m"(back) : "m"(wide));
  check(back[2] == 3 && back[3] == 4, "an SSE instruction keeps the upper half");
  asm volatile("vmovups %1, %%xmm9; vmovdqu %%ymm9, %0" : "=m"(back) : "m"(wide));
  check(back[2] == 0 && back[3] == 0, "an AVX one clears it");
}

}  // namespace

void run() {
  check_x87();
  check_x87_exceptions();
  check_sse();
  check_kept_over_exits();
  check_fxsave();
  check_switches();
  check_xsave();
}

}  // namespace guest
