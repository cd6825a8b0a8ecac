// Model-specific registers: those of the processor, those that the machine keeps, those that do not exist.
#include "runtime/runtime.h"

namespace guest {
namespace {

constexpr u64 kNone = 0xFF, kProtection = 13;
constexpr u32 kStar = 0xC0000081, kLstar = 0xC0000082, kFmask = 0xC0000084, kFsBase = 0xC0000100, kGsBase = 0xC0000101,
              kKernelGsBase = 0xC0000102, kTscAux = 0xC0000103, kPat = 0x277, kSysenterCs = 0x174, kSysenterEsp = 0x175,
              kSysenterEip = 0x176;

struct Write {
  u32 index;
  u64 value;
};
void do_read(u64 index) { (void)read_msr(static_cast<u32>(index)); }
void do_write(u64 argument) {
  const auto& write = *reinterpret_cast<const Write*>(argument);
  write_msr(write.index, write.value);
}
u64 read_code(u32 index) {
  const Fault fault = catch_fault(do_read, index);
  return fault.happened ? fault.vector : kNone;
}
u64 write_code(u32 index, u64 value) {
  const Write write{index, value};
  const Fault fault = catch_fault(do_write, reinterpret_cast<u64>(&write));
  return fault.happened ? fault.vector : kNone;
}

void check_machine_registers() {
  write_msr(kMsrScratch, 0xFEDCBA9876543210);
  check_equal(read_msr(kMsrScratch), 0xFEDCBA9876543210, "a register that the machine keeps has 64 bits");
  u64 rax = ~0ULL, rdx = ~0ULL;
  asm volatile("rdmsr" : "+a"(rax), "+d"(rdx) : "c"(kMsrScratch));
  check(rax == 0x76543210 && rdx == 0xFEDCBA98, "RDMSR clears the upper halves of RAX and RDX");
  check_equal(read_code(kMsrFault), kProtection, "a read that the machine refuses");
  check_equal(write_code(kMsrFault, 1), kProtection, "a write that the machine refuses");
  check_equal(read_code(0x40000FFF), kProtection, "a register that nobody has");
  check_equal(catch_fault(do_read, kMsrFault).error, 0, "  with error code zero");
}

void check_values() {
  constexpr u64 kAddress = 0xFFFF800012345678, kNotCanonical = 0x0000800000000000;
  constexpr u32 kBases[] = {kFsBase, kKernelGsBase, kLstar, kSysenterEsp, kSysenterEip};
  for (const u32 index : kBases) {
    const u64 before = read_msr(index);
    write_msr(index, kAddress);
    check_equal(read_msr(index), kAddress, "an address register holds its value");
    const u64 code = write_code(index, kNotCanonical);
    write_msr(index, before);  // at once: a guest that is moved must not have a value that only a defect let in
    if (index != kSysenterEsp && index != kSysenterEip) {  // AMD's processors take any value there
      check_equal_or_defect(code, kProtection, kNone, "  and refuses a non-canonical one");
    }
  }
  write_msr(kSysenterCs, 0x8);
  check_equal(read_msr(kSysenterCs), 0x8, "SYSENTER_CS");
  write_msr(kPat, 0x0007010600070106);
  check_equal(read_msr(kPat), 0x0007010600070106, "PAT");
  check_equal(write_code(kPat, 0x0207040600070406), kProtection, "a memory type that is none");
  write_msr(kPat, 0x0007040600070406);
  const u64 efer = read_msr(kMsrEfer);
  check_equal(write_code(kMsrEfer, efer | 1ULL << 40), kProtection, "a reserved bit of EFER");
  check_equal(write_code(kMsrEfer, efer & ~0x100ULL), kProtection, "LME does not change while paging is on");
  write_msr(kMsrEfer, efer & ~0x800ULL);
  check_equal(read_msr(kMsrEfer) & 0x800, 0, "NXE can go");
  write_msr(kMsrEfer, efer);
}

void check_segment_bases() {
  static u64 cells[4] = {11, 22, 33, 44};
  write_msr(kFsBase, reinterpret_cast<u64>(&cells[1]));
  u64 value;
  asm volatile("mov %%fs:0, %0" : "=r"(value));
  check_equal(value, 22, "FS is based where its register says");
  write_msr(kGsBase, reinterpret_cast<u64>(&cells[2]));
  write_msr(kKernelGsBase, reinterpret_cast<u64>(&cells[3]));
  asm volatile("mov %%gs:0, %0" : "=r"(value));
  check_equal(value, 33, "GS too");
  asm volatile("swapgs; mov %%gs:0, %0; swapgs" : "=r"(value));
  check_equal(value, 44, "SWAPGS swaps");
  asm volatile("mov %%gs:0, %0" : "=r"(value));
  check_equal(value, 33, "and swaps back");
  asm volatile("mov %0, %%fs" ::"r"(u32{kData}));
  check_equal(read_msr(kFsBase), 0, "a load of FS sets its base from the descriptor");
  if ((cpuid(7).ebx & 1) == 0) return note_absent("FSGSBASE");
  write_cr4(read_cr4() | 1 << 16);
  asm volatile("wrfsbase %0" ::"r"(reinterpret_cast<u64>(cells)));
  asm volatile("rdfsbase %0" : "=r"(value));
  check(value == reinterpret_cast<u64>(cells) && read_msr(kFsBase) == value, "WRFSBASE and the register agree");
}

// SYSCALL out of ring 3 and SYSRET back into it.
extern "C" void user_syscall();
extern "C" void syscall_entry();
extern "C" u64 syscall_seen[4];
asm(R"(
user_syscall: mov $0x1234, %rbx
  syscall
user_after_syscall:
  mov %rcx, %rdx
  int $0x81
syscall_entry: mov %rcx, syscall_seen
  mov %r11, syscall_seen+8
  mov %cs, %eax
  mov %rax, syscall_seen+16
  pushfq
  pop syscall_seen+24
  sysretq
  .bss
  .balign 8
syscall_seen: .zero 32
  .text
)");
extern "C" void user_after_syscall();

void check_syscall() {
  open_to_user_mode();
  write_msr(kMsrEfer, read_msr(kMsrEfer) | 1);
  // SYSCALL takes CS 0x08, SS 0x10; SYSRET takes CS 0x20+16 | 3 and SS 0x20+8 | 3.
  write_msr(kStar, u64{0x20} << 48 | u64{kCode64} << 32);
  write_msr(kLstar, reinterpret_cast<u64>(&syscall_entry));
  write_msr(kFmask, 1 << 10 | 1 << 9);
  const Fault back = run_in_user_mode(reinterpret_cast<u64>(&user_syscall));
  check_equal(back.vector, 0x81, "SYSCALL and SYSRET come back to ring 3");
  check_equal(back.cs, kUserCode64, "  with its code segment");
  check_equal(syscall_seen[0], reinterpret_cast<u64>(&user_after_syscall), "SYSCALL leaves the return address in RCX");
  check_equal(syscall_seen[1] & 0xFFF, 2, "  the flags in R11");
  check_equal(syscall_seen[2], kCode64, "  and enters ring 0");
  check_equal(syscall_seen[3] & 0x600, 0, "  with the masked flags clear");
}

void check_tsc_aux() {
  if ((cpuid(0x80000001).edx & 1 << 27) == 0) return note_absent("RDTSCP");
  write_msr(kTscAux, 0xABCD);
  u32 aux;
  asm volatile("rdtscp" : "=c"(aux)::"rax", "rdx");
  check_equal(aux, 0xABCD, "RDTSCP reads TSC_AUX");
}

// Every register of the architectural ranges is read: each answers or faults, and the guest goes on.
void check_sweep() {
  u32 answers = 0, faults = 0;
  constexpr u32 kRanges[][2] = {{0, 0x1000}, {0x40000000, 0x40000200}, {0xC0000000, 0xC0000200}, {0xC0010000, 0xC0010200}};
  for (const auto& range : kRanges) {
    for (u32 index = range[0]; index < range[1]; ++index) ++(read_code(index) == kNone ? answers : faults);
  }
  check(answers > 20 && faults > 100, "a read of every register answers or faults");
}

}  // namespace

void run() {
  check_machine_registers();
  check_values();
  check_segment_bases();
  check_tsc_aux();
  check_sweep();
  check_syscall();
}

}  // namespace guest
