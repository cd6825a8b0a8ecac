#include "cpu/translator/jit/tier.h"

#include <gtest/gtest.h>
#include <xbyak/xbyak.h>

#include <atomic>
#include <functional>
#include <thread>

#include "cpu/translator/jit/test_machine.h"

namespace bygone::cpu::translator::jit {
namespace {

using namespace Xbyak::util;
using Generator = Xbyak::CodeGenerator;

/// Assembles, runs to the HLT that is put behind, and checks that it got there.
class TierTest : public testing::Test {
 protected:
  void assemble(const std::function<void(Generator&)>& body, std::uint64_t at = TestMachine::kCode) {
    Generator generator(4096);
    body(generator);
    generator.hlt();
    end_ = at + generator.getSize() - 1;
    machine_.load(at, {generator.getCode(), generator.getSize()});
  }
  void run(std::uint64_t at = TestMachine::kCode) {
    ASSERT_EQ(machine_.run(at), Tier1Result::kInterpret);
    ASSERT_EQ(machine_.block().rip, end_);
  }
  TestMachine machine_;
  std::uint64_t end_ = 0;
};

TEST_F(TierTest, registers_only) {
  machine_.gpr(1) = 5;
  assemble([](Generator& c) {
    c.mov(rax, 7);
    c.add(rax, rcx);
    c.mov(r10, rax);
    c.lea(r11, ptr[r10 + rax * 2 + 1]);
    c.imul(r12, r11, 3);
  });
  run();
  EXPECT_EQ(machine_.gpr(0), 12U);
  EXPECT_EQ(machine_.gpr(10), 12U);
  EXPECT_EQ(machine_.gpr(11), 37U);
  EXPECT_EQ(machine_.gpr(12), 111U);
}

TEST_F(TierTest, loop_over_memory_sums_it) {
  for (std::uint64_t i = 0; i < 1000; ++i) std::memcpy(machine_.host(TestMachine::kData + i * 8), &i, 8);
  assemble([](Generator& c) {
    c.mov(esi, TestMachine::kData);
    c.mov(ecx, 1000);
    c.xor_(eax, eax);
    Xbyak::Label top;
    c.L(top);
    c.add(rax, ptr[rsi]);
    c.add(rsi, 8);
    c.dec(ecx);
    c.jnz(top);
  });
  run();
  EXPECT_EQ(machine_.gpr(0), 499500U);
}

TEST_F(TierTest, carry_lives_across_memory_accesses) {
  const std::uint64_t ones = ~0ULL;
  for (unsigned i = 0; i < 4; ++i) std::memcpy(machine_.host(TestMachine::kData + 8ULL * i), &ones, 8);
  assemble([](Generator& c) {
    c.mov(esi, TestMachine::kData);
    c.mov(eax, 1);
    c.add(ptr[rsi], rax);
    c.adc(qword[rsi + 8], 0);
    c.mov(rdx, ptr[rsi + 24]);  // clobbers flags if they are not kept
    c.adc(qword[rsi + 16], 0);
    c.push(rax);
    c.pop(rbx);
    c.adc(qword[rsi + 24], 0);
    c.setc(al);
  });
  run();
  std::uint64_t value = 1;
  for (unsigned i = 0; i < 4; ++i) {
    std::memcpy(&value, machine_.host(TestMachine::kData + 8ULL * i), 8);
    EXPECT_EQ(value, 0U) << i;
  }
  EXPECT_EQ(machine_.gpr(0), 1U);
  EXPECT_EQ(machine_.gpr(3), 1U);
}

TEST_F(TierTest, recursive_calls) {
  assemble([](Generator& c) {
    Xbyak::Label fib, small, done;
    c.mov(edi, 15);
    c.call(fib);
    c.jmp(done, Generator::T_NEAR);
    c.L(fib);
    c.cmp(edi, 2);
    c.jb(small);
    c.push(rbx);
    c.push(rdi);
    c.dec(edi);
    c.call(fib);
    c.mov(ebx, eax);
    c.pop(rdi);
    c.sub(edi, 2);
    c.call(fib);
    c.add(eax, ebx);
    c.pop(rbx);
    c.ret();
    c.L(small);
    c.mov(eax, edi);
    c.ret();
    c.L(done);
  });
  const std::uint64_t stack = machine_.gpr(4);
  run();
  EXPECT_EQ(machine_.gpr(0), 610U);
  EXPECT_EQ(machine_.gpr(4), stack);
}

TEST_F(TierTest, calls_in_the_highest_gibibytes) {
  assemble([](Generator& c) {
    Xbyak::Label function, done;
    c.call(function);
    c.jmp(done);
    c.L(function);
    c.mov(rax, ptr[rsp]);
    c.ret();
    c.L(done);
  });
  ASSERT_EQ(machine_.run(TestMachine::kHigh + TestMachine::kCode), Tier1Result::kInterpret);
  EXPECT_EQ(machine_.block().rip, TestMachine::kHigh + end_);
  EXPECT_EQ(machine_.gpr(0), TestMachine::kHigh + TestMachine::kCode + 5);
}

TEST_F(TierTest, code_runs_on_into_the_next_page_and_across_an_instruction_that_spans_both) {
  const std::uint64_t at = TestMachine::kCode + 0xFFB;
  assemble([](Generator& c) {
    c.mov(eax, 1);
    c.mov(rcx, 0x1122334455667788);
    c.add(rax, rcx);
  }, at);
  run(at);
  EXPECT_EQ(machine_.gpr(0), 0x1122334455667789U);
}

TEST_F(TierTest, load_that_crosses_pages) {
  const std::uint64_t value = 0x0123456789ABCDEF;
  std::memcpy(machine_.host(TestMachine::kData + 0xFFD), &value, 8);
  assemble([](Generator& c) {
    c.mov(esi, TestMachine::kData);
    c.mov(rax, ptr[rsi + 0xFFD]);
    c.movups(xmm3, ptr[rsi + 0xFF5]);
    c.movhlps(xmm2, xmm3);
    c.movq(rbx, xmm2);
  });
  run();
  EXPECT_EQ(machine_.gpr(0), value);
  EXPECT_EQ(machine_.gpr(3), value);
}

TEST_F(TierTest, missing_page_leaves_with_the_fault_and_the_state_before_the_instruction) {
  machine_.map(0x900000, 0);
  machine_.gpr(4) = 0x901000 - 0x1000 + 8;
  assemble([](Generator& c) {
    c.push(rax);
    c.push(rbx);
  });
  ASSERT_EQ(machine_.run(TestMachine::kCode), Tier1Result::kFault);
  EXPECT_EQ(machine_.block().rip, TestMachine::kCode);
  EXPECT_EQ(machine_.gpr(4), 0x900008U);
  EXPECT_EQ(machine_.block().fault.vector, 14);
  EXPECT_EQ(machine_.block().fault.address, 0x900000U);
}

TEST_F(TierTest, address_that_is_not_canonical_is_for_the_interpreter_which_knows_the_segment) {
  machine_.gpr(4) = 0x8000'0000'0000'0000;
  assemble([](Generator& c) {
    c.push(rax);
    c.push(rbx);
  });
  EXPECT_EQ(machine_.run(TestMachine::kCode), Tier1Result::kInterpret);
  EXPECT_EQ(machine_.block().rip, TestMachine::kCode);
  EXPECT_EQ(machine_.gpr(4), 0x8000'0000'0000'0000);
}

TEST_F(TierTest, division_by_zero_is_for_the_interpreter) {
  assemble([](Generator& c) {
    c.mov(eax, 5);
    c.xor_(ecx, ecx);
    c.div(ecx);
  });
  ASSERT_EQ(machine_.run(TestMachine::kCode), Tier1Result::kInterpret);
  EXPECT_EQ(machine_.block().rip, TestMachine::kCode + 7);
  EXPECT_EQ(machine_.gpr(0), 5U);
  EXPECT_EQ(machine_.block().rflags & 0x40, 0x40U);
}

TEST_F(TierTest, string_operations_across_pages) {
  for (unsigned i = 0; i < 10000; ++i) machine_.host(TestMachine::kData + i)[0] = static_cast<std::uint8_t>(i * 7);
  assemble([](Generator& c) {
    c.mov(esi, TestMachine::kData + 3);
    c.mov(edi, TestMachine::kData + 0x10000);
    c.mov(ecx, 9000);
    c.rep();
    c.movsb();
    c.mov(eax, 0x5A);
    c.mov(ecx, 100);
    c.rep();
    c.stosd();
  });
  run();
  EXPECT_EQ(std::memcmp(machine_.host(TestMachine::kData + 0x10000), machine_.host(TestMachine::kData + 3), 9000), 0);
  EXPECT_EQ(machine_.host(TestMachine::kData + 0x10000 + 9000)[0], 0x5A);
  EXPECT_EQ(machine_.gpr(7), TestMachine::kData + 0x10000 + 9400);
  EXPECT_EQ(machine_.gpr(1), 0U);
}

TEST_F(TierTest, overwritten_code_is_translated_again) {
  assemble([](Generator& c) { c.mov(eax, 1); });
  run();
  EXPECT_EQ(machine_.gpr(0), 1U);
  machine_.host(TestMachine::kCode + 1)[0] = 2;
  EXPECT_TRUE(machine_.pages().wrote(nullptr, TestMachine::kCode >> 12, 1, 1));
  machine_.block().attention = 0;
  run();
  EXPECT_EQ(machine_.gpr(0), 2U);
}

TEST_F(TierTest, store_to_its_own_code_is_for_the_interpreter) {
  assemble([](Generator& c) {
    c.mov(ebx, TestMachine::kCode);
    c.mov(byte[rbx + 1], 2);
  });
  ASSERT_EQ(machine_.run(TestMachine::kCode), Tier1Result::kInterpret);
  EXPECT_EQ(machine_.block().rip, TestMachine::kCode + 5);
}

TEST_F(TierTest, remapped_page_runs_its_new_code) {
  Generator target(4096);
  target.mov(eax, 1);
  target.ret();
  machine_.load(0x500000, {target.getCode(), target.getSize()});
  machine_.load(0x600000, {target.getCode(), target.getSize()});
  machine_.host(0x600001)[0] = 9;
  assemble([](Generator& c) {
    c.db(0xE8);
    c.dd(0x500000 - (TestMachine::kCode + 5));
  });
  run();
  EXPECT_EQ(machine_.gpr(0), 1U);
  run();
  machine_.map(0x500000, 0x600000);
  run();
  EXPECT_EQ(machine_.gpr(0), 9U);
}

/// Two address spaces that are kept apart by PCIDs, with another page of code at the same place.
class AddressSpaces : public TierTest {
 protected:
  static constexpr std::uint64_t kFunction = 0x500000, kOtherTables = 0x1800000;

  AddressSpaces() {
    // The other space: a PML4, a PDPT and a page directory of its own, and a page table for the two MiB that hold the function.
    const auto copy = [&](std::uint64_t from, std::uint64_t to) { std::memcpy(machine_.host(to), machine_.host(from), 4096); };
    const auto point = [&](std::uint64_t at, std::uint64_t to) {
      to |= 7;
      std::memcpy(machine_.host(at), &to, 8);
    };
    constexpr std::uint64_t kRegion = kFunction >> 21;
    for (std::uint64_t level = 0; level < 3; ++level) copy(TestMachine::kTables + level * 0x1000, kOtherTables + level * 0x1000);
    copy(TestMachine::kTables + 0x3000 + kRegion * 0x1000, kOtherTables + 0x3000);
    point(kOtherTables, kOtherTables + 0x1000);
    point(kOtherTables + 0x1000, kOtherTables + 0x2000);
    point(kOtherTables + 0x2000 + kRegion * 8, kOtherTables + 0x3000);
    point(kOtherTables + 0x3000 + (kFunction >> 12 & 511) * 8, 0x600000);
    for (const std::uint8_t each : {std::uint8_t{1}, std::uint8_t{2}}) {
      Generator function(4096);
      function.mov(eax, each);
      function.ret();
      machine_.load(each == 1 ? 0x500000 : 0x600000, {function.getCode(), function.getSize()});
    }
  }
  /// What the function returns in space 1 or 2.
  std::uint64_t call_in(std::uint16_t space) {
    if (space != space_) {
      machine_.block().cr3 = space == 1 ? TestMachine::kTables : kOtherTables;
      mmu::change_address_space(machine_.block(), space_, space, true);
      space_ = space;
    }
    run();
    return machine_.gpr(0);
  }

 private:
  std::uint16_t space_ = 1;
};

TEST_F(AddressSpaces, a_direct_call_reaches_the_code_of_its_own) {
  assemble([](Generator& c) {
    c.db(0xE8);
    c.dd(kFunction - (TestMachine::kCode + 5));
  });
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(call_in(1), 1U);
    EXPECT_EQ(call_in(2), 2U);
  }
}

TEST_F(AddressSpaces, an_indirect_call_reaches_the_code_of_its_own) {
  assemble([](Generator& c) {
    c.mov(ecx, kFunction);
    c.call(rcx);
  });
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(call_in(1), 1U);
    EXPECT_EQ(call_in(2), 2U);
  }
}

TEST_F(TierTest, attention_stops_an_endless_loop) {
  assemble([](Generator& c) {
    Xbyak::Label forever;
    c.mov(ecx, TestMachine::kData);
    c.L(forever);
    c.inc(rax);
    c.mov(ptr[rcx], rax);
    c.jmp(forever);
  });
  machine_.gpr(0) = 0;
  std::thread other([this] {
    const auto& count = *reinterpret_cast<const std::uint64_t*>(machine_.host(TestMachine::kData));
    while (std::atomic_ref(const_cast<std::uint64_t&>(count)).load() < 1000) std::this_thread::yield();
    machine_.block().attention = kAttentionKick;
  });
  EXPECT_EQ(machine_.run(TestMachine::kCode), Tier1Result::kAttention);
  EXPECT_GE(machine_.gpr(0), 1000U);
  other.join();
}

TEST_F(TierTest, indirect_jumps_and_calls) {
  assemble([](Generator& c) {
    Xbyak::Label function, after;
    c.mov(esi, TestMachine::kData);
    c.mov(r11d, 10);
    Xbyak::Label top;
    c.L(top);
    c.lea(rax, ptr[rip + function]);
    c.mov(ptr[rsi], rax);
    c.call(qword[rsi]);
    c.call(rax);
    c.dec(r11d);
    c.jnz(top);
    c.lea(r10, ptr[rip + after]);
    c.jmp(r10);
    c.ud2();
    c.L(function);
    c.inc(ebx);
    c.ret();
    c.L(after);
  });
  run();
  EXPECT_EQ(machine_.gpr(3), 20U);
}

TEST_F(TierTest, flags_travel_through_calls_and_returns) {
  assemble([](Generator& c) {
    Xbyak::Label function, done;
    c.stc();
    c.call(function);
    c.setz(al);
    c.jmp(done);
    c.L(function);
    c.setc(bl);
    c.cmp(rsp, rsp);
    c.ret();
    c.L(done);
  });
  machine_.gpr(0) = machine_.gpr(3) = 0;
  run();
  EXPECT_EQ(machine_.gpr(3), 1U);
  EXPECT_EQ(machine_.gpr(0), 1U);
}

TEST_F(TierTest, a_division_leaves_the_flags_that_the_hosts_leaves) {
  assemble([](Generator& c) {
    c.mov(esi, TestMachine::kData);
    c.mov(eax, 100);
    c.mov(ecx, 7);
    c.xor_(edx, edx);
    c.mov(ptr[rsi], rax);  // clobbers flags if they are not kept
    c.div(ecx);
    c.pushf();
    c.pop(rbx);
  });
  run();
  std::uint64_t quotient = 100, rest = 0, flags = 0;
  const std::uint64_t divisor = 7;
  asm volatile("xor %%edx, %%edx; div %%ecx; pushf; pop %2" : "+a"(quotient), "=&d"(rest), "=&r"(flags) : "c"(divisor) : "cc");
  EXPECT_EQ(machine_.gpr(0), quotient);
  EXPECT_EQ(machine_.gpr(3) & kArithmeticFlags, flags & kArithmeticFlags);
}

TEST_F(TierTest, control_registers_are_read_without_leaving) {
  assemble([](Generator& c) {
    c.cmp(rax, rax);
    for (const int each : {0x0F, 0x20, 0xD0}) c.db(each);        // mov rax, cr2
    for (const int each : {0x41, 0x0F, 0x20, 0xDA}) c.db(each);  // mov r10, cr3
    for (const int each : {0x0F, 0x20, 0xE1}) c.db(each);        // mov rcx, cr4
    for (const int each : {0x41, 0x0F, 0x20, 0xC7}) c.db(each);  // mov r15, cr0
    c.setz(bl);
  });
  machine_.block().cr2 = 0xFFFF'8123'4567'89AB;
  machine_.gpr(3) = 0;
  run();
  EXPECT_EQ(machine_.gpr(0), 0xFFFF'8123'4567'89ABU);
  EXPECT_EQ(machine_.gpr(10), machine_.block().cr3);
  EXPECT_EQ(machine_.gpr(1), machine_.block().cr4);
  EXPECT_EQ(machine_.gpr(15), machine_.block().cr0);
  EXPECT_EQ(machine_.gpr(3), 1U);
}

TEST_F(TierTest, return_from_a_fault_with_the_resume_flag_stays_in_translated_code) {
  assemble([](Generator& c) {
    Xbyak::Label target;
    c.mov(rcx, rsp);
    c.push(0x10);
    c.push(rcx);
    c.push(0x10046);  // RF, ZF, PF
    c.push(0x10);
    c.lea(rdx, ptr[rip + target]);
    c.push(rdx);
    c.db(0x48), c.db(0xCF);  // iretq
    c.ud2();
    c.L(target);
    c.setz(al);
    c.pushfq();
    c.pop(rdx);
  });
  const std::uint64_t stack = machine_.gpr(4);
  machine_.gpr(0) = 0;
  run();
  EXPECT_EQ(machine_.gpr(0), 1U);
  EXPECT_EQ(machine_.gpr(4), stack);
  EXPECT_EQ(machine_.gpr(2) & 0xFFFF'FFFF, 0x46U);
  EXPECT_EQ(machine_.block().rflags >> 16 & 1, 0U);
}

TEST_F(TierTest, interrupt_flag_and_pushf_popf) {
  assemble([](Generator& c) {
    c.cmp(rax, rax);
    c.pushf();
    c.cli();
    c.pop(rbx);
    c.pushf();
    c.pop(rcx);
    c.push(rbx);
    c.popf();
    c.sti();
    c.nop();
    c.pushf();
    c.pop(rdx);
  });
  machine_.block().rflags = 0x202;
  run();
  EXPECT_EQ(machine_.gpr(3) & 0xFFF, 0x246U);
  EXPECT_EQ(machine_.gpr(1) & 0x200, 0U);
  EXPECT_EQ(machine_.gpr(2) & 0x200, 0x200U);
}

TEST_F(TierTest, bit_test_reaches_beyond_its_operand) {
  std::memset(machine_.host(TestMachine::kData), 0, 64);
  assemble([](Generator& c) {
    c.mov(esi, TestMachine::kData + 16);
    c.mov(eax, 77);
    c.bts(ptr[rsi], rax);
    c.mov(r10, static_cast<std::uint64_t>(-3));
    c.bts(ptr[rsi], r10);
    c.lock();
    c.bts(ptr[rsi], r10d);
    c.setc(bl);
  });
  run();
  EXPECT_EQ(machine_.host(TestMachine::kData + 16 + 9)[0], 1 << 5);
  EXPECT_EQ(machine_.host(TestMachine::kData + 15)[0], 0x20);
  EXPECT_EQ(machine_.gpr(3) & 1, 1U);
}

/// A loop of user code that loads from rsi and goes on at rsi ^ rdx, rcx times.
void load_visits(TestMachine& machine) {
  Generator c(4096);
  Xbyak::Label top;
  c.xor_(eax, eax);
  c.L(top);
  c.add(rax, ptr[rsi]);
  c.xor_(rsi, rdx);
  c.dec(rcx);
  c.jnz(top);
  c.hlt();
  machine.load(TestMachine::kCode, {c.getCode(), c.getSize()});
}

std::uint64_t visit(TestMachine& machine, std::uint64_t step, std::uint64_t count) {
  machine.gpr(6) = TestMachine::kData;
  machine.gpr(2) = step;
  machine.gpr(1) = count;
  (void)machine.run(TestMachine::kCode);
  EXPECT_EQ(machine.gpr(1), 0U);
  return machine.gpr(0);
}

TEST(TierSlots, a_loop_that_changes_pages_all_the_time_loses_its_slot_and_sums_right) {
  TestMachine machine(64, true, {.code_cache_bytes = 8U << 20, .threshold = 0, .slot_patience = 1000});
  load_visits(machine);
  *machine.host(TestMachine::kData) = 3;
  *machine.host(TestMachine::kData + 0x1000) = 5;
  EXPECT_EQ(visit(machine, 0, 100'000), 300'000U) << "one page";
  EXPECT_EQ(machine.tier().cache().statistics().given_up_slots, 0U);
  EXPECT_EQ(visit(machine, 0x1000, 100'000), 400'000U) << "two pages in turns";
  EXPECT_EQ(machine.tier().cache().statistics().given_up_slots, 1U);
  EXPECT_EQ(visit(machine, 0x1000, 100'000), 400'000U) << "without the slot";
  EXPECT_EQ(machine.tier().cache().statistics().given_up_slots, 1U);
}

TEST(TierSlots, a_loop_sees_its_page_mapped_elsewhere) {
  for (const std::uint32_t patience : {1000U, 1U}) {  // with the slot, and once it is given up
    TestMachine machine(64, true, {.code_cache_bytes = 8U << 20, .threshold = 0, .slot_patience = patience});
    load_visits(machine);
    *machine.host(TestMachine::kData) = 3;
    *machine.host(TestMachine::kData + 0x1000) = 5;
    *machine.host(TestMachine::kData + 0x2000) = 7;
    EXPECT_EQ(visit(machine, 0x1000, 100), 400U);
    EXPECT_EQ(machine.tier().cache().statistics().given_up_slots, patience == 1 ? 1U : 0U);
    machine.map(TestMachine::kData, TestMachine::kData + 0x2000);
    EXPECT_EQ(visit(machine, 0, 100), 700U);
    machine.map(TestMachine::kData, 0);
    machine.gpr(6) = TestMachine::kData;
    machine.gpr(1) = 10;
    EXPECT_EQ(machine.run(TestMachine::kCode), Tier1Result::kFault);
    EXPECT_EQ(machine.block().fault.address, TestMachine::kData);
    EXPECT_EQ(machine.gpr(1), 10U);
  }
}

TEST(Tier32, compatibility_mode_code) {
  TestMachine machine(32, true);
  // inc eax; mov [0x800010], eax; push 5; pop ecx; call +1; hlt; add eax, [esp]; ret
  const std::uint8_t code[] = {0x40, 0xA3, 0x10, 0x00, 0x80, 0x00, 0x6A, 0x05, 0x59, 0xE8, 0x01, 0x00, 0x00, 0x00, 0xF4,
                               0x8B, 0x14, 0x24, 0x03, 0x05, 0x10, 0x00, 0x80, 0x00, 0xC3};
  machine.load(TestMachine::kCode, code);
  machine.gpr(0) = 41;
  ASSERT_EQ(machine.run(TestMachine::kCode), Tier1Result::kInterpret);
  EXPECT_EQ(machine.block().rip, TestMachine::kCode + 14);
  EXPECT_EQ(machine.gpr(0), 84U);
  EXPECT_EQ(machine.gpr(1), 5U);
  EXPECT_EQ(machine.gpr(2), TestMachine::kCode + 14);
}

TEST(Tier32, access_beyond_the_limit_of_fs_or_to_a_read_only_segment_is_for_the_interpreter) {
  TestMachine machine(32, true);
  const std::uint8_t code[] = {0x64, 0x8B, 0x01,  // mov eax, fs:[ecx]
                               0x0F, 0x05};       // the interpreter's
  machine.load(TestMachine::kCode, code);
  Segment& fs = machine.block().segments[static_cast<std::size_t>(SegmentName::kFs)];
  const auto stops_behind = [&](std::uint64_t offset) {
    machine.gpr(0) = 0;
    machine.gpr(1) = offset;
    EXPECT_EQ(machine.run(TestMachine::kCode), Tier1Result::kInterpret);
    return machine.block().rip - TestMachine::kCode;
  };
  fs = {TestMachine::kData, 0xFFF, 0x3B, 0x40F3};
  *machine.host(TestMachine::kData + 0x10) = 0x5A;
  EXPECT_EQ(stops_behind(0x10), 3U);
  EXPECT_EQ(machine.gpr(0), 0x5AU);
  EXPECT_EQ(stops_behind(0x1000), 0U);
  EXPECT_EQ(stops_behind(0xFFD), 0U);
  fs = {TestMachine::kData, 0xFFFF'FFFF, 0x3B, 0xC0F3};
  EXPECT_EQ(stops_behind(0x1000), 3U);
  EXPECT_EQ(stops_behind(0xFFFF'FFF0), 3U) << "a negative offset";
  fs.attributes = 0xC0F1;
  EXPECT_EQ(stops_behind(0x10), 0U) << "whether it is a load is the interpreter's to see";
}

}  // namespace
}  // namespace bygone::cpu::translator::jit
