// The hypervisor interface (TLFS): registers, time, synthetic interrupts and timers, messages, events, flushes and IPIs.
// The same whoever serves it: the hypervisor beside the engine or, where it does, the engine itself.
#include "runtime/processors.h"
#include "runtime/runtime.h"

namespace guest {
namespace {

constexpr u32 kMsrGuestOsId = 0x40000000, kMsrHypercall = 0x40000001, kMsrVpIndex = 0x40000002, kMsrReferenceTime = 0x40000020,
              kMsrReferenceTsc = 0x40000021, kMsrTscFrequency = 0x40000022, kMsrApicFrequency = 0x40000023,
              kMsrSynicControl = 0x40000080, kMsrSynicVersion = 0x40000081, kMsrEventPage = 0x40000082,
              kMsrMessagePage = 0x40000083, kMsrEndOfMessage = 0x40000084, kMsrSint0 = 0x40000090, kMsrTimer0 = 0x400000B0;
constexpr u32 kCallPage = 0xA00000, kMessagePage = 0xA01000, kEventPage = 0xA02000, kTimePage = 0xA03000, kInputPage = 0xA04000;
constexpr u32 kRemapped = 0x40000000;  // 1 GiB: not RAM of this guest, its page table entry is the test's own
constexpr u8 kMessageVector = 0x51, kEventVector = 0x52, kTimerVector = 0x53, kAutoVector = 0x54, kIpiVector = 0x71;
constexpr u64 kEnabled = 1, kPeriodic = 2, kAutoEnable = 8, kDirect = 1 << 12, kMasked = 1 << 16, kAutoEoi = 1 << 17;
constexpr u32 kTimerExpired = 0x80000010;
constexpr u64 kMillisecond = 10'000;  // of reference time

struct Message {
  volatile u32 type;
  volatile u8 bytes, flags;
  volatile u16 reserved;
  volatile u64 origin;
  volatile u64 payload[30];
};
Message& message(u32 source) { return reinterpret_cast<Message*>(u64{kMessagePage})[source]; }
volatile u32 message_interrupts, event_interrupts, timer_interrupts, auto_interrupts, ipis;

void count_message(Frame&) {
  message_interrupts = message_interrupts + 1;
  apic_end_of_interrupt();
}
void count_event(Frame&) {
  event_interrupts = event_interrupts + 1;
  apic_end_of_interrupt();
}
void count_timer(Frame&) {
  timer_interrupts = timer_interrupts + 1;
  apic_end_of_interrupt();
}
void count_auto(Frame&) { auto_interrupts = auto_interrupts + 1; }  // no EOI: the source ends it
void count_ipi(Frame&) {
  add_locked(ipis);
  apic_end_of_interrupt();
}

u64 hypercall(u64 control, u64 input, u64 output) {
  u64 result;
  register u64 r8 asm("r8") = output;
  asm volatile("call *%[page]" : "=a"(result), "+c"(control), "+d"(input), "+r"(r8) : [page] "r"(u64{kCallPage}) : "memory", "cc");
  return result;
}
u64 time_now() { return read_msr(kMsrReferenceTime); }
/// With interrupts on while it waits.
bool reaches(const volatile u32& count, u32 wanted) {
  enable_interrupts();
  const u64 begin = read_tsc();
  while (count < wanted && read_tsc() - begin < boot_info().tsc_hz * 10) pause();
  disable_interrupts();
  return count >= wanted;
}
bool is_there(const volatile u32& value) {
  const u64 begin = read_tsc();
  while (value == 0 && read_tsc() - begin < boot_info().tsc_hz * 10) pause();
  return value != 0;
}
/// Frees a message slot as the TLFS asks (11.9): type first, then EOM if somebody waits.
void take_message(u32 source) {
  Message& slot = message(source);
  slot.type = 0;
  asm volatile("mfence" ::: "memory");
  if ((slot.flags & 1) != 0) write_msr(kMsrEndOfMessage, 0);
}

void check_identity() {
  const Cpuid vendor = cpuid(0x40000000), interface = cpuid(0x40000001);
  check(vendor.ebx == 0x7263694D && vendor.ecx == 0x666F736F && vendor.edx == 0x76482074, "the vendor is Microsoft Hv");
  check_equal(interface.eax, 0x31237648, "the interface is Hv#1");
  check_equal(read_msr(kMsrVpIndex), 0, "the first processor's index");
  // As the engine measures it that the guest is on now: one that was moved finds another by some millionths.
  const u64 rate = read_msr(kMsrTscFrequency), promised = boot_info().tsc_hz;
  check((rate > promised ? rate - promised : promised - rate) < promised / 1000, "the TSC's rate");
  check_equal(read_msr(kMsrApicFrequency), boot_info().apic_timer_hz, "the APIC timer's rate");
  write_msr(kMsrHypercall, kCallPage | kEnabled);
  check_equal(read_msr(kMsrHypercall) & kEnabled, 0, "no hypercalls for a guest without a name");
  write_msr(kMsrGuestOsId, 0x8100'0000'0000'0000);
  check_equal(read_msr(kMsrGuestOsId), 0x8100'0000'0000'0000, "the guest's name is kept");
  write_msr(kMsrHypercall, kCallPage | kEnabled);
  check_equal(read_msr(kMsrHypercall), kCallPage | kEnabled, "the hypercall page is placed");
}

void check_time() {
  const u64 first = time_now();
  wait_milliseconds(2);
  check(time_now() > first, "reference time goes on");
  write_msr(kMsrReferenceTsc, kTimePage | kEnabled);
  check_equal(read_msr(kMsrReferenceTsc), kTimePage | kEnabled, "the reference TSC page is placed");
  const auto* page = reinterpret_cast<const volatile u64*>(u64{kTimePage});
  bool is_right = true;
  for (int i = 0; i < 50; ++i) {
    const u64 before = time_now();
    const u32 sequence = static_cast<u32>(page[0]);
    const u64 tsc = read_tsc();
    const u64 seen = static_cast<u64>((static_cast<unsigned __int128>(tsc) * page[1]) >> 64) + page[2];
    const u64 after = time_now();
    // A processor whose time stamp counter is no clock has a page that says so; 1 us for the rounding of two formulas.
    if (sequence != 0 && sequence == static_cast<u32>(page[0])) is_right = is_right && seen + 10 >= before && seen <= after + 10;
  }
  check(is_right, "the page gives the register's time");
  if (static_cast<u32>(page[0]) == 0) note_absent("a reference TSC page that may be used");
}

void check_registers() {
  check_equal(read_msr(kMsrSynicVersion), 1, "the SynIC's version");
  check_equal(read_msr(kMsrSynicControl), 1, "it is on");
  check_equal(read_msr(kMsrSint0 + 5), kMasked, "sources are masked");
  const auto write_bad = [](u64) { write_msr(kMsrSint0 + 5, 3); };
  check_equal(catch_fault(write_bad).vector, 13, "a vector of the exceptions' faults");
  write_msr(kMsrMessagePage, kMessagePage | kEnabled);
  write_msr(kMsrEventPage, kEventPage | kEnabled);
  write_msr(kMsrSint0 + kEchoSource, kMessageVector);
  write_msr(kMsrSint0 + kEventSource, kEventVector);
  check_equal(read_msr(kMsrMessagePage), kMessagePage | kEnabled, "the message page is placed");
  check_equal(read_msr(kMsrSint0 + kEchoSource), kMessageVector, "a source has its vector");
}

void check_direct_timer() {
  const u64 due = time_now() + kMillisecond;
  write_msr(kMsrTimer0, kDirect | u64{kTimerVector} << 4 | kAutoEnable);
  write_msr(kMsrTimer0 + 1, due);
  check_equal(read_msr(kMsrTimer0 + 1), due, "a timer's count is kept");
  check(reaches(timer_interrupts, 1) && time_now() >= due, "a direct timer interrupts when it is due");
  check_equal(read_msr(kMsrTimer0) & kEnabled, 0, "and is off then");
  write_msr(kMsrTimer0 + 1, time_now() - 1);
  check(reaches(timer_interrupts, 2), "one that is due already comes at once");
  write_msr(kMsrTimer0, 0);
  write_msr(kMsrTimer0 + 1, kMillisecond);
  write_msr(kMsrTimer0, kDirect | u64{kTimerVector} << 4 | kPeriodic | kEnabled);
  check(reaches(timer_interrupts, 5), "a periodic one again and again");
  write_msr(kMsrTimer0, 0);
  enable_interrupts();
  wait_milliseconds(3);
  disable_interrupts();
  const u32 before = timer_interrupts;
  enable_interrupts();
  wait_milliseconds(5);
  disable_interrupts();
  check_equal(timer_interrupts, before, "until it is stopped");
}

void check_message_timer() {
  const u64 due = time_now() + kMillisecond;
  write_msr(kMsrTimer0 + 2, u64{kEchoSource} << 16 | kAutoEnable);
  write_msr(kMsrTimer0 + 3, due);
  message_interrupts = 0;
  check(reaches(message_interrupts, 1), "a timer with a message interrupts");
  Message& slot = message(kEchoSource);
  check_equal(slot.type, kTimerExpired, "its message is there");
  check_equal(slot.payload[0] & 0xFFFFFFFF, 1, "and says which timer");
  check_equal(slot.payload[1], due, "when it was due");
  check(slot.payload[2] >= due, "and when it came");
  // The slot stays taken: the next one has to wait for it.
  const u64 second = time_now() + 1;
  write_msr(kMsrTimer0 + 3, second);
  const u64 begin = read_tsc();
  while ((slot.flags & 1) == 0 && read_tsc() - begin < boot_info().tsc_hz * 10) pause();
  check_equal(slot.flags & 1, 1, "a second one that finds its slot taken says that it waits");
  check_equal(slot.payload[1], due, "and leaves the first alone");
  take_message(kEchoSource);
  check(is_there(slot.type) && slot.payload[1] == second, "EOM lets it in");
  check(reaches(message_interrupts, 2), "with its interrupt");
  take_message(kEchoSource);
  write_msr(kMsrTimer0 + 2, 0);
}

void check_posting() {
  auto* input = reinterpret_cast<volatile u32*>(u64{kInputPage});
  const auto fill = [&](u32 connection, u32 type, u32 bytes) {
    input[0] = connection;
    input[1] = 0;
    input[2] = type;
    input[3] = bytes;
    for (u32 i = 0; i < 60; ++i) input[4 + i] = 0xC0DE0000 + i;
  };
  fill(kEchoConnection, 0x42, 16);
  message_interrupts = 0;
  check_equal(hypercall(0x5C, kInputPage, 0), 0, "a message is posted");
  check(reaches(message_interrupts, 1), "its echo interrupts");
  const Message& slot = message(kEchoSource);
  check(slot.type == 0x42 && slot.bytes == 16 && slot.payload[0] == 0xC0DE0001C0DE0000, "with what was posted");
  check_equal(hypercall(0x5C, kInputPage, 0), 0x13, "an echo that finds its slot taken is refused");
  take_message(kEchoSource);
  check_equal(hypercall(0x5C, kInputPage, 0), 0, "and comes through afterwards");
  check(reaches(message_interrupts, 2), "with its interrupt");
  take_message(kEchoSource);
  fill(0x7777, 0x42, 16);
  check_equal(hypercall(0x5C, kInputPage, 0), 0x12, "nobody listens there");
  fill(kEchoConnection, 0x80000001, 16);
  check_equal(hypercall(0x5C, kInputPage, 0), 5, "the hypervisor's own types are refused");
}

/// Timer messages and echoes through one slot: each of both has to arrive, none overwritten.
void check_shared_slot() {
  constexpr u32 kEach = 100;
  auto* input = reinterpret_cast<volatile u32*>(u64{kInputPage});
  input[0] = kEchoConnection;
  input[2] = 0x42;
  input[3] = 16;
  u32 echoes = 0, ticks = 0, posted = 0;
  write_msr(kMsrTimer0 + 3, kMillisecond / 4);
  write_msr(kMsrTimer0 + 2, u64{kEchoSource} << 16 | kPeriodic | kEnabled);
  const Message& slot = message(kEchoSource);
  const u64 begin = read_tsc();
  bool is_right = true;
  while ((echoes < kEach || ticks < kEach) && read_tsc() - begin < boot_info().tsc_hz * 20) {
    if (posted == echoes && echoes < kEach && hypercall(0x5C, kInputPage, 0) == 0) ++posted;
    const u32 type = slot.type;
    is_right = is_right && (type == 0 || type == 0x42 || type == kTimerExpired);
    echoes += type == 0x42;
    ticks += type == kTimerExpired;
    if (type != 0) take_message(kEchoSource);
  }
  write_msr(kMsrTimer0 + 2, 0);
  check(echoes == kEach && ticks >= kEach && is_right, "timers and messages share a slot and lose nothing");
  take_message(kEchoSource);
  enable_interrupts();
  wait_milliseconds(2);
  disable_interrupts();
  take_message(kEchoSource);
}

void check_events() {
  auto* flags = reinterpret_cast<volatile u32*>(u64{kEventPage} + kEventSource * 256);
  check_equal(hypercall(0x1005D, kEventConnection, 0), 0, "an event is signalled, fast");
  check(is_there(flags[0]) && flags[0] == 1U << kEventFlag, "its flag is set");
  check(reaches(event_interrupts, 1), "and interrupts");
  flags[0] = 0;
  *reinterpret_cast<volatile u64*>(u64{kInputPage}) = kEventConnection;
  check_equal(hypercall(0x5D, kInputPage, 0), 0, "another, through memory");
  check(is_there(flags[0]) && flags[0] == 1U << kEventFlag && reaches(event_interrupts, 2), "comes too");
  flags[0] = 0;
  check_equal(hypercall(0x1005D, kEventConnection | u64{3} << 32, 0), 0, "one with a flag of its own");
  check(is_there(flags[0]) && flags[0] == 1U << kOtherEventFlag && reaches(event_interrupts, 3), "keeps it");
  flags[0] = 0;
  check_equal(hypercall(0x1005D, 0x7777, 0), 0x12, "no event for a connection that does not exist");
  check_equal(hypercall(0x7777, 0, 0), 2, "an unknown call has its status");
}

void check_auto_eoi() {
  if ((cpuid(0x40000004).eax & 1 << 9) != 0) note_absent("the recommendation of sources that end their interrupts");
  write_msr(kMsrSint0 + kEventSource, kAutoVector | kAutoEoi);
  for (u32 round = 1; round <= 2; ++round) {
    (void)hypercall(0x1005D, kEventConnection, 0);
    auto* flags = reinterpret_cast<volatile u32*>(u64{kEventPage} + kEventSource * 256);
    (void)is_there(flags[0]);
    flags[0] = 0;
    check(reaches(auto_interrupts, round), "a source that ends its interrupt itself");
    if ((apic_read(kApicIsr + (kAutoVector / 32) * 0x10) & 1U << kAutoVector % 32) != 0) {
      note_absent("an engine that ends interrupts by itself");
      apic_end_of_interrupt();
    }
  }
  write_msr(kMsrSint0 + kEventSource, kEventVector);
}

volatile u32 second_index, seen_value, look, looked;
void second_processor() {
  second_index = static_cast<u32>(read_msr(kMsrVpIndex));
  for (;;) {
    enable_interrupts();
    if (look != looked) {
      seen_value = *reinterpret_cast<volatile u32*>(u64{kRemapped});
      asm volatile("mfence" ::: "memory");
      looked = look;
    }
    pause();
  }
}

/// What processor 1 reads at kRemapped.
u32 ask_second() {
  look = look + 1;
  const u64 begin = read_tsc();
  while (looked != look && read_tsc() - begin < boot_info().tsc_hz * 10) pause();
  return seen_value;
}

void check_others() {
  check_equal(start_processors(second_processor), 1, "the second processor starts");
  const u64 begin = read_tsc();
  while (second_index == 0 && read_tsc() - begin < boot_info().tsc_hz * 10) pause();
  check_equal(second_index, 1, "with its index");
  check_equal(hypercall(0x1000B, kIpiVector, 2), 0, "an IPI by hypercall");
  check(reaches(ipis, 1), "reaches the processor of the mask");
  check((hypercall(0x1000B, 5, 2) & 0xFFFF) != 0, "not with an exception's vector");
  auto* input = reinterpret_cast<volatile u64*>(u64{kInputPage});
  input[0] = kIpiVector;
  input[1] = 1;  // every processor
  input[2] = 0;
  check_equal(hypercall(0x15, kInputPage, 0), 0, "one to all processors, with a sparse mask");
  check(reaches(ipis, 3), "reaches both");

  // The identity map's entry for 1 GiB, 2 MiB pages: moved between two places that differ.
  auto* entry = reinterpret_cast<volatile u64*>(u64{kPageTables} + 3 * 4096);
  const auto place = [&](u32 address, u32 value) {
    *reinterpret_cast<volatile u32*>(u64{address}) = value;
  };
  place(0xC00000, 0x1111);
  place(0xE00000, 0x2222);
  *entry = 0xC00000 | 0x83;
  invalidate_page(kRemapped);
  if ((cpuid(0x40000004).eax & 1 << 2) == 0) return note_absent("TLB flushes by hypercall");
  (void)ask_second();
  input[0] = read_cr3();
  input[1] = 0;
  input[2] = 3;
  check_equal(hypercall(2, kInputPage, 0), 0, "a TLB flush by hypercall");
  check_equal(ask_second(), 0x1111, "before the change");
  *entry = 0xE00000 | 0x83;
  check_equal(hypercall(2, kInputPage, 0), 0, "a flush after it");
  check_equal(ask_second(), 0x2222, "lets another processor see it");
  check_equal(*reinterpret_cast<volatile u32*>(u64{kRemapped}), 0x2222, "and this one");
  *entry = 0xC00000 | 0x83;
  input[3] = kRemapped;
  check_equal(hypercall(3 | u64{1} << 32, kInputPage, 0), u64{1} << 32, "a flush of one address");
  check_equal(ask_second(), 0x1111, "likewise");
}

}  // namespace

void run() {
  apic_enable();
  set_handler(kMessageVector, count_message);
  set_handler(kEventVector, count_event);
  set_handler(kTimerVector, count_timer);
  set_handler(kAutoVector, count_auto);
  set_handler(kIpiVector, count_ipi);
  check_identity();
  check_time();
  check_registers();
  check_direct_timer();
  check_message_timer();
  check_posting();
  check_shared_slot();
  check_events();
  check_auto_eoi();
  check_others();
}

}  // namespace guest
