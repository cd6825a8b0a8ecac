// Paging: four levels, protection bits, large pages, accessed and dirty bits, SMEP and SMAP, borders.
#include "runtime/runtime.h"

namespace guest {
namespace {

constexpr u64 kPresent = 1, kWrite = 2, kUser = 4, kAccessed = 0x20, kDirty = 0x40, kLarge = 0x80, kNoExecute = 1ULL << 63;
constexpr u64 kArea = 0x0000008000000000;  // the second entry of the top table: 512 GiB
constexpr u64 kAddressMask = 0x000FFFFFFFFFF000;
enum : u8 { kPageFault = 14, kProtection = 13 };
constexpr u64 kErrPresent = 1, kErrWrite = 2, kErrUser = 4, kErrReserved = 8, kErrFetch = 16;

u64 next_page = 0x400000;
u64 allocate() {
  const u64 page = next_page;
  next_page += 0x1000;
  auto* words = reinterpret_cast<u64*>(page);
  for (u32 i = 0; i < 512; ++i) words[i] = 0;
  return page;
}

u32 index_of(u64 address, u32 level) { return address >> (12 + 9 * level) & 511; }

/// The entry of `address` at `level` (0: 4 KiB pages), with tables made on the way down.
volatile u64& entry(u64 address, u32 level) {
  auto* table = reinterpret_cast<volatile u64*>(read_cr3() & kAddressMask);
  for (u32 at = 3; at > level; --at) {
    volatile u64& next = table[index_of(address, at)];
    if ((next & kPresent) == 0) next = allocate() | kPresent | kWrite | kUser;
    table = reinterpret_cast<volatile u64*>(next & kAddressMask);
  }
  return table[index_of(address, level)];
}

void map(u64 address, u64 physical, u64 flags, u32 level = 0) {
  entry(address, level) = physical | flags;
  invalidate_page(address);
}

void read_at(u64 address) { asm volatile("mov (%0), %%eax" ::"r"(address) : "rax"); }
void write_at(u64 address) { asm volatile("movl $0x55AA55AA, (%0)" ::"r"(address) : "memory"); }
void write_wide_at(u64 address) {
  asm volatile("mov $-1, %%rax; mov %%rax, (%0)" ::"r"(address) : "rax", "memory");
}
void call_at(u64 address) { asm volatile("call *%0" ::"r"(address) : "memory"); }
u32 value_at(u64 address) { return *reinterpret_cast<volatile u32*>(address); }

void expect(const Fault& fault, u64 error, u64 address, const char* what) {
  check_equal(fault.happened ? fault.vector : 0xFFU, kPageFault, what);
  check_equal(fault.error, error, "  its error code");
  check_equal(fault.address, address, "  CR2");
}
void expect_reserved(const Fault& fault, u64 address, const char* what) {
  check_equal(fault.happened ? fault.vector : 0xFFU, kPageFault, what);
  check_equal_or_defect(fault.error, kErrPresent | kErrReserved, kErrReserved, "  its error code");
  check_equal(fault.address, address, "  CR2");
}
void expect_none(const Fault& fault, const char* what) {
  if (fault.happened) print_hex(u64{fault.vector} << 32 | fault.error);
  check(!fault.happened, what);
}

void check_basics() {
  const u64 page = allocate(), other = allocate();
  *reinterpret_cast<u32*>(page) = 111;
  *reinterpret_cast<u32*>(other) = 222;
  expect(catch_fault(read_at, kArea + 0x123), 0, kArea + 0x123, "a read where nothing is mapped");
  expect(catch_fault(write_at, kArea + 0x10), kErrWrite, kArea + 0x10, "a write where nothing is mapped");
  map(kArea, page, kPresent | kWrite);
  check_equal(value_at(kArea), 111, "a page of 4 KiB is read through its address");
  *reinterpret_cast<volatile u32*>(kArea + 4) = 7;
  check_equal(*reinterpret_cast<u32*>(page + 4), 7, "and written");
  entry(kArea, 0) = other | kPresent | kWrite;
  invalidate_page(kArea);
  check_equal(value_at(kArea), 222, "INVLPG makes a change seen");
  entry(kArea, 0) = page | kPresent | kWrite;
  write_cr3(read_cr3());
  check_equal(value_at(kArea), 111, "so does a load of CR3");
  map(kArea, 0, 0);
  expect(catch_fault(read_at, kArea), 0, kArea, "a page that was taken away");
}

void check_protection() {
  const u64 page = allocate();
  map(kArea, page, kPresent);
  const u64 cr0 = read_cr0();
  constexpr u64 kWriteProtect = 1 << 16;
  write_cr0(cr0 | kWriteProtect);
  expect(catch_fault(write_at, kArea), kErrPresent | kErrWrite, kArea, "WP: a write to a read-only page");
  write_cr0(cr0 & ~kWriteProtect);
  expect_none(catch_fault(write_at, kArea), "without WP ring 0 writes there");
  check_equal(value_at(kArea), 0x55AA55AA, "and the value is there");
  write_cr0(cr0 | kWriteProtect);
  expect(catch_fault(write_at, kArea), kErrPresent | kErrWrite, kArea, "WP is back at once");

  map(kArea, page, kPresent | kWrite);
  *reinterpret_cast<volatile u8*>(kArea) = 0xC3;  // RET
  expect_none(catch_fault(call_at, kArea), "code runs from a page without NX");
  map(kArea, page, kPresent | kWrite | kNoExecute);
  expect(catch_fault(call_at, kArea), kErrPresent | kErrFetch, kArea, "NX: a fetch faults");
  expect_none(catch_fault(read_at, kArea), "NX: a read does not");
  map(kArea, page, kPresent | kWrite);
  volatile u64& upper = entry(kArea, 1);
  upper = upper | kNoExecute;
  write_cr3(read_cr3());
  expect(catch_fault(call_at, kArea), kErrPresent | kErrFetch, kArea, "NX in an upper table counts");
  upper = upper & ~(kNoExecute | kWrite);
  write_cr3(read_cr3());
  expect(catch_fault(write_at, kArea), kErrPresent | kErrWrite, kArea, "read-only in an upper table counts");
  upper = upper | kWrite;
  write_cr3(read_cr3());

  const u32 width = cpuid(0x80000008).eax & 0xFF;
  if (width < 52) {
    map(kArea, page | 1ULL << 51, kPresent | kWrite);
    expect_reserved(catch_fault(read_at, kArea), kArea, "a reserved bit in an entry");
  } else {
    note_absent("reserved address bits");
  }
  map(kArea, 0, 0);
}

void check_accessed_dirty() {
  const u64 page = allocate();
  map(kArea, page, kPresent | kWrite);
  for (u32 level = 1; level < 4; ++level) entry(kArea, level) = entry(kArea, level) & ~kAccessed;
  write_cr3(read_cr3());
  (void)value_at(kArea);
  check_equal(entry(kArea, 0) & (kAccessed | kDirty), kAccessed, "a read sets A and not D");
  check((entry(kArea, 1) & entry(kArea, 2) & entry(kArea, 3) & kAccessed) != 0, "A is set on every level");
  *reinterpret_cast<volatile u32*>(kArea) = 1;
  check_equal(entry(kArea, 0) & (kAccessed | kDirty), kAccessed | kDirty, "a write sets D");
  entry(kArea, 0) = page | kPresent | kWrite;
  invalidate_page(kArea);
  asm volatile("lock addl $1, (%0)" ::"r"(kArea) : "memory");
  check_equal(entry(kArea, 0) & (kAccessed | kDirty), kAccessed | kDirty, "so does a read-modify-write");
  entry(kArea, 0) = page | kPresent;
  invalidate_page(kArea);
  (void)catch_fault(write_at, kArea);
  check_equal(entry(kArea, 0) & kDirty, 0, "a write that faults does not set D");
  map(kArea, 0, 0);
}

void check_large() {
  constexpr u64 kTwo = kArea + (1ULL << 30);
  map(kTwo, 0x600000, kPresent | kWrite | kLarge, 1);
  *reinterpret_cast<volatile u32*>(0x6ABCD0ULL) = 77;
  check_equal(value_at(kTwo + 0xABCD0), 77, "a page of 2 MiB");
  check_equal(entry(kTwo, 1) & (kAccessed | kDirty), kAccessed, "has its own A");
  *reinterpret_cast<volatile u32*>(kTwo + 8) = 1;
  check_equal(entry(kTwo, 1) & kDirty, kDirty, "and D");
  map(kTwo, 0x600000 | 0x2000, kPresent | kWrite | kLarge, 1);
  expect_reserved(catch_fault(read_at, kTwo), kTwo, "its low address bits are reserved");
  map(kTwo, 0x600000, kPresent | kLarge, 1);
  write_cr0(read_cr0() | 1 << 16);
  expect(catch_fault(write_at, kTwo), kErrPresent | kErrWrite, kTwo, "it can be read-only");
  map(kTwo, 0, 0, 1);
  if ((cpuid(0x80000001).edx & 1 << 26) == 0) return note_absent("pages of 1 GiB");
  constexpr u64 kOne = kArea + (4ULL << 30);
  map(kOne, 0, kPresent | kWrite | kLarge, 2);
  check_equal(value_at(kOne + 0x6ABCD0), 77, "a page of 1 GiB");
  map(kOne, 0, 0, 2);
}

void check_borders() {
  const u64 first = allocate(), second = allocate();
  map(kArea, first, kPresent | kWrite);
  map(kArea + 0x1000, 0, 0);
  *reinterpret_cast<u32*>(first + 0xFFC) = 0x11111111;
  expect(catch_fault(write_wide_at, kArea + 0xFFC), kErrWrite, kArea + 0x1000, "a write whose second half has no page");
  check_equal(*reinterpret_cast<u32*>(first + 0xFFC), 0x11111111, "  leaves the first half alone");
  map(kArea + 0x1000, second, kPresent | kWrite);
  expect_none(catch_fault(write_wide_at, kArea + 0xFFC), "with both pages it is done");
  check(*reinterpret_cast<u32*>(first + 0xFFC) == ~0U && *reinterpret_cast<u32*>(second) == ~0U, "  on both sides");
  // An instruction over the border: MOV EAX, imm32; RET with two bytes on the first page.
  constexpr u8 kCode[] = {0xB8, 0x78, 0x56, 0x34, 0x12, 0xC3};
  for (u32 i = 0; i < sizeof(kCode); ++i) *reinterpret_cast<volatile u8*>(kArea + 0xFFE + i) = kCode[i];
  u32 result;
  asm volatile("call *%1" : "=a"(result) : "r"(kArea + 0xFFE) : "memory");
  check_equal(result, 0x12345678, "an instruction over a page border runs");
  map(kArea + 0x1000, 0, 0);
  const Fault fault = catch_fault(call_at, kArea + 0xFFE);
  expect(fault, (read_msr(kMsrEfer) & 1 << 11) != 0 ? kErrFetch : 0, kArea + 0x1000, "a fetch over the border faults");
  check_equal(fault.rip, kArea + 0xFFE, "  at the instruction's start");
  map(kArea, 0, 0);
}

extern "C" void user_touch();
asm(R"(
user_touch: mov $0x8000000000, %rax
  mov (%rax), %ecx
  movl $1, (%rax)
  int $0x81
)");

void check_user() {
  open_to_user_mode();
  const u64 page = allocate();
  const u64 touch = reinterpret_cast<u64>(&user_touch);
  map(kArea, page, kPresent | kWrite);
  expect(run_in_user_mode(touch), kErrPresent | kErrUser, kArea, "ring 3 cannot read the supervisor's page");
  map(kArea, page, kPresent | kUser);
  expect(run_in_user_mode(touch), kErrPresent | kErrUser | kErrWrite, kArea, "ring 3 cannot write a read-only page");
  write_cr0(read_cr0() & ~(1ULL << 16));
  expect(run_in_user_mode(touch), kErrPresent | kErrUser | kErrWrite, kArea, "not even without WP");
  map(kArea, page, kPresent | kUser | kWrite);
  check_equal(run_in_user_mode(touch).vector, 0x81, "ring 3 reads and writes its own page");
  volatile u64& upper = entry(kArea, 2);
  upper = upper & ~kUser;
  write_cr3(read_cr3());
  expect(run_in_user_mode(touch), kErrPresent | kErrUser, kArea, "the user bit counts on every level");
  upper = upper | kUser;
  write_cr3(read_cr3());
}

// The guest's own identity map was opened to ring 3, so that CR4.SMEP would fault at once: it is closed again first.
void close_to_user_mode() {
  auto* entries = reinterpret_cast<u64*>(u64{kPageTables});
  for (u32 i = 0; i < 6 * 512; ++i) entries[i] &= ~kUser;
  write_cr3(read_cr3());
}

void check_supervisor_prevention() {
  close_to_user_mode();
  auto* top = reinterpret_cast<volatile u64*>(read_cr3() & kAddressMask);
  top[1] = top[1] | kUser;
  const u64 page = allocate();
  map(kArea, page, kPresent | kUser | kWrite);
  *reinterpret_cast<volatile u8*>(page) = 0xC3;
  const u32 features = cpuid(7).ebx;
  const u64 cr4 = read_cr4();
  if ((features & 1 << 7) != 0) {
    write_cr4(cr4 | 1 << 20);
    expect(catch_fault(call_at, kArea), kErrPresent | kErrFetch, kArea, "SMEP: ring 0 does not run the user's code");
    write_cr4(cr4);
    expect_none(catch_fault(call_at, kArea), "without SMEP it does");
  } else {
    note_absent("SMEP");
  }
  if ((features & 1 << 20) != 0) {
    write_cr4(cr4 | 1 << 21);
    asm volatile("clac");
    expect(catch_fault(read_at, kArea), kErrPresent, kArea, "SMAP: ring 0 does not read the user's page");
    expect(catch_fault(write_at, kArea), kErrPresent | kErrWrite, kArea, "SMAP: nor writes it");
    asm volatile("stac");
    expect_none(catch_fault(read_at, kArea), "with AC it may");
    asm volatile("clac");
    expect(catch_fault(read_at, kArea), kErrPresent, kArea, "and after CLAC not");
    write_cr4(cr4);
  } else {
    note_absent("SMAP");
  }
}

void check_global_and_contexts() {
  const u64 page = allocate(), other = allocate();
  *reinterpret_cast<u32*>(page) = 1;
  *reinterpret_cast<u32*>(other) = 2;
  const u64 cr4 = read_cr4();
  write_cr4(cr4 | 1 << 7);
  map(kArea, page, kPresent | kWrite | 1 << 8);
  check_equal(value_at(kArea), 1, "a global page");
  entry(kArea, 0) = other | kPresent | kWrite;
  write_cr4(cr4);  // clearing PGE drops everything
  check_equal(value_at(kArea), 2, "a change of CR4.PGE drops global pages");
  if ((cpuid(1).ecx & 1 << 17) == 0) return note_absent("PCID");
  write_cr4(read_cr4() | 1 << 17);
  write_cr3(kPageTables | 5);
  check_equal(value_at(kArea), 2, "a context of its own");
  entry(kArea, 0) = page | kPresent | kWrite;
  write_cr3(kPageTables | 5);
  check_equal(value_at(kArea), 1, "a load of CR3 without bit 63 drops the context");
  write_cr3(kPageTables);
  write_cr4(read_cr4() & ~(1ULL << 17));
}

// Five levels: CR4.LA57 does not change in long mode, on any processor.
void enter_five_levels(u64) { write_cr4(read_cr4() | 1 << 12); }
void check_five_levels() {
  const Fault fault = catch_fault(enter_five_levels);
  check_equal(fault.happened ? fault.vector : 0xFFU, kProtection, "five levels cannot be switched on in long mode");
  check_equal(read_cr4() & 1 << 12, 0, "  and are not");
}

}  // namespace

void run() {
  check_basics();
  check_protection();
  check_accessed_dirty();
  check_large();
  check_borders();
  check_user();
  check_supervisor_prevention();
  check_global_and_contexts();
  check_five_levels();
}

}  // namespace guest
