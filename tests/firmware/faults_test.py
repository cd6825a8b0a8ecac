#!/usr/bin/env python3
"""Boot loaders that fault, in every way that comes to mind: each is ended with a message, and the boot manager starts the next one.

Usage: faults_test.py BYGONE FIRMWARE
Needs what boot_case.py needs.
"""
import re
import sys
import unittest

from boot_case import BootCase
from tested_engine import ENGINE

STACK_FAULT = " (8|12)" if ENGINE == "software" else " (8|12|13)"  # QEMU's emulated processor has #GP for #SS
PROGRAM = """
#include <bygone/uefi.h>
using namespace bygone::uefi;
SystemTable* table;
template <typename... Arguments>
Status boot(unsigned slot, Arguments... arguments) {  // UEFI 2.10, 4.4: a service of the table, behind its header
  using Function = Status(BYGONE_UEFI_CALL*)(Arguments...);
  return (*reinterpret_cast<const Function*>(reinterpret_cast<const char*>(table->boot_services) + 24 + 8 * slot))(arguments...);
}
constexpr unsigned kRaiseTpl = 0, kCreateEvent = 7, kSetTimer = 8, kWaitForEvent = 9, kHandleProtocol = 16, kLoadImage = 22, kStall = 28;
const auto kNowhere = reinterpret_cast<void*>(0x8000'0000'0000'0000);  // not a canonical address
MORE
extern "C" BYGONE_UEFI_CALL Status efi_main(Handle image, SystemTable* system) {
  table = system;
  (void)image;
  FAULT
  system->console_out->output_string(system->console_out, u"it has not faulted\\r\\n");
  for (;;) system->boot_services->stall(1'000'000);
}
"""

# What the loader does, what it needs before, and what the firmware says of it. Vectors: Intel SDM volume 3, 6.3.1.
LOADER = "the boot loader faulted: exception"
CALLED = "what the boot loader called faulted: exception"
TIMER = """
volatile bool has_ended;
BYGONE_UEFI_CALL void on_timer(Event, void*) {
  if (has_ended) table->console_out->output_string(table->console_out, u"it is called after its end\\r\\n");
}
"""
START_TIMER = """
  Event event = nullptr;
  boot(kCreateEvent, std::uint32_t{0x8000'0200}, std::uint64_t{8}, &on_timer, nullptr, &event);
  boot(kSetTimer, event, std::uint32_t{1}, std::uint64_t{100'000});
  has_ended = true;
"""
FAULTS = {
    "invalid opcode": ('asm volatile("ud2");', "", LOADER + " 6"),
    "division by zero": ('asm volatile("xorl %%ecx, %%ecx; divl %%ecx" ::: "eax", "ecx", "edx");', "", LOADER + " 0"),
    "padding that is run": ('asm volatile("int3");', "", LOADER + " 3"),
    "an address that is none": ("*static_cast<volatile char*>(kNowhere) = 1;", "", LOADER + " 13"),
    "an address without memory": ("*reinterpret_cast<volatile char*>(0x7FFF'FFFF'F000) = 1;", "", LOADER + " 14"),
    "a jump to nowhere": ("reinterpret_cast<void (*)()>(0x7FFF'FFFF'F000)();", "", LOADER + " 14"),
    "a stack pointer that is none": ('asm volatile("movq %0, %%rsp; pushq $0" :: "r"(kNowhere));', "", LOADER + STACK_FAULT),
    "no stack pointer": ('asm volatile("xorl %esp, %esp; pushq $0");', "", LOADER + " (8|14)"),
    "recursion for ever": ("recurse(1);", "volatile int sink; __attribute__((noinline)) int recurse(int by) { volatile int here[256]; "
                           "here[sink] = by; return recurse(by + 1) + here[sink]; }", LOADER + " (8|14)"),
    "a firmware call with rubbish": ("system->console_out->output_string(system->console_out, static_cast<char16_t*>(kNowhere));", "",
                                     CALLED + " 13"),
    "in what a timer calls": (
        "Event event = nullptr; boot(kCreateEvent, std::uint32_t{0x8000'0200}, std::uint64_t{8}, &on_timer, nullptr, &event);"
        "boot(kSetTimer, event, std::uint32_t{2}, std::uint64_t{100'000}); boot(kStall, std::uint64_t{100'000});",
        'BYGONE_UEFI_CALL void on_timer(Event, void*) { asm volatile("ud2"); }', LOADER + " 6"),
    "with interrupts off, at the highest level": ('boot(kRaiseTpl, std::uint64_t{31}); asm volatile("cli; ud2");', "", LOADER + " 6"),
    "an interrupt that a BIOS would serve": ('asm volatile("int $0x16");', "", LOADER + " 22"),
    "after interrupts that no device has sent": (  # which do nothing
        'asm volatile(".set vector, 32; .rept 224; .byte 0xCD, vector; .set vector, vector + 1; .endr; ud2");', "", LOADER + " 6"),
    "with a timer that goes on": (START_TIMER + 'asm volatile("ud2");', TIMER, LOADER + " 6"),
    "no fault, but with a timer that goes on": (START_TIMER + "return 0x8000'0000'0000'0012;", TIMER, "ended: Time out"),
    "with an image loaded that does not run": (
        "std::uint64_t* memory = nullptr; Handle loaded = nullptr;"
        "if (boot(kHandleProtocol, image, &kLoadedImage, &memory) == 0 &&"  # itself, as it lies in memory
        "    boot(kLoadImage, std::uint8_t{0}, image, static_cast<void*>(nullptr), memory[8], memory[9], &loaded) == 0)"
        "  asm volatile(\"ud2\");",
        "constexpr Guid kLoadedImage{0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};", LOADER + " 6"),
}

# What starts after all of them: the firmware's clock still ticks.
LAST = """
  Event event = nullptr; std::uint64_t index = 0;
  boot(kCreateEvent, std::uint32_t{0x8000'0000}, std::uint64_t{0}, static_cast<void*>(nullptr), static_cast<void*>(nullptr), &event);
  boot(kSetTimer, event, std::uint32_t{2}, std::uint64_t{100'000});
  if (boot(kWaitForEvent, std::uint64_t{1}, &event, &index) == kSuccess)
    system->console_out->output_string(system->console_out, u"the clock ticks\\r\\n");
  for (;;) system->boot_services->stall(1'000'000);
"""


class Faults(BootCase):
    def build(self, name, fault, more=""):
        return self.make_fat(f"{name}.img", self.build_program(name, PROGRAM.replace("FAULT", fault).replace("MORE", more)))

    def test_each_is_ended_with_a_message_and_the_next_one_starts(self):
        disks = []
        for number, (fault, more, _) in enumerate(FAULTS.values()):
            disks += ["--disk", self.build(f"fault{number}", fault, more)]
        picture = self.folder / "screen.png"
        machine = self.start(*disks, "--disk", self.build("last", LAST), "--screenshot", picture)
        machine.expect("the clock ticks")
        told = machine.text()
        self.assertNotIn("it has not faulted", told)
        self.assertNotIn("it is called after its end", told)
        for name, (_, _, message) in FAULTS.items():
            match = re.search(message + r"\b", told)
            self.assertIsNotNone(match, f"{name}: no {message!r} in {told}")
            told = told[match.end():]
        self.expect_on_screen(machine, picture, "the boot loader faulted: exception 6")
        self.expect_on_screen(machine, picture, "the clock ticks")


if __name__ == "__main__":
    BootCase.bygone, BootCase.firmware = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
