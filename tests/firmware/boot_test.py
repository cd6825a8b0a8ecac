#!/usr/bin/env python3
"""Boots the real firmware on the software CPU and talks to it over COM1.

Usage: boot_test.py BYGONE FIRMWARE HELLO_EFI
Needs mtools and xorriso.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from console_machine import Machine

BYGONE, FIRMWARE, HELLO = (None,) * 3
ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMED_PROGRAM = """
#include <bygone/uefi.h>
extern "C" BYGONE_UEFI_CALL bygone::uefi::Status efi_main(void*, bygone::uefi::SystemTable* system) {
  system->console_out->output_string(system->console_out, u"this is NAME\\r\\n");
  for (;;) system->boot_services->stall(1'000'000);
}
"""
FAULTING_PROGRAM = """
#include <bygone/uefi.h>
extern "C" BYGONE_UEFI_CALL bygone::uefi::Status efi_main(void*, bygone::uefi::SystemTable*) {
  asm volatile("ud2");
  return 0;
}
"""


class Boot(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bygone-firmware-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def start(self, *arguments):
        machine = Machine(BYGONE, "boot", "--firmware", FIRMWARE, "--memory", "256M", "--engine", "software", *arguments)
        self.addCleanup(machine.stop)
        return machine

    def make_fat(self, name, program):
        image = self.folder / name
        with open(image, "wb") as file:
            file.truncate(8 << 20)
        for command in (["mformat", "-i", image, "::"], ["mmd", "-i", image, "::/EFI", "::/EFI/BOOT"],
                        ["mcopy", "-i", image, program, "::/EFI/BOOT/BOOTX64.EFI"]):
            subprocess.run(command, check=True)
        return image

    def build_program(self, name, source):
        text, unit, program = (self.folder / f"{name}.{end}" for end in ("cpp", "o", "efi"))
        text.write_text(source)
        subprocess.run(["g++", "-std=c++20", "-O1", "-ffreestanding", "-fpie", "-mno-red-zone", "-fno-stack-protector",
                        "-fno-asynchronous-unwind-tables", "-I", ROOT / "sdk/include", "-c", "-o", unit, text], check=True)
        subprocess.run(["ld", "-m", "i386pep", "-T", ROOT / "sdk/uefi.ld", "--subsystem", "10", "--entry", "efi_main",
                        "--image-base", "0", "-s", "-o", program, unit], check=True)
        return program

    def named_program(self, name):
        return self.build_program(name, NAMED_PROGRAM.replace("NAME", name))

    def make_dvd(self, program):
        tree = self.folder / "tree"
        tree.mkdir()
        self.make_fat("tree/efi.img", program)
        iso = self.folder / "dvd.iso"
        subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", iso, "-e", "efi.img", "-no-emul-boot", tree], check=True)
        return iso

    def test_boot_order_of_the_host_is_obeyed_and_kept(self):
        media = ["--disk", self.make_fat("one.img", self.named_program("one")),
                 "--disk", self.make_fat("two.img", self.named_program("two")),
                 "--dvd", self.make_dvd(self.named_program("three")), "--variables", self.folder / "variables"]
        for options, first in (([], "one"), (["--boot-order", "disk2"], "two"), ([], "two"), (["--boot-order", "dvd,disk"], "three")):
            with self.subTest(options=options):
                machine = self.start(*media, *options)
                machine.expect(f"this is {first}")
                machine.stop()

    def test_boot_order_that_names_no_drive_is_refused(self):
        for order, why in (("floppy", "not a drive to boot from"), ("disk2", "there are 1 of its kind"), ("dvd", "there are 0")):
            machine = self.start("--disk", self.make_fat("one.img", HELLO), "--boot-order", order)
            machine.expect(why)

    def test_boot_loader_that_faults_is_ended_and_the_next_one_starts(self):
        faulting = self.make_fat("faulting.img", self.build_program("faulting", FAULTING_PROGRAM))
        machine = self.start("--disk", faulting, "--disk", self.make_fat("disk.img", HELLO))
        machine.expect("the boot loader faulted: exception 6")
        machine.expect("hello: on COM1")

    def test_disk_boots_by_the_default_path(self):
        machine = self.start("--disk", self.make_fat("disk.img", HELLO))
        machine.expect("hello: on COM1")
        machine.expect("firmware by Bygone")
        machine.send("x")
        machine.expect("hello: done")

    def test_program_named_on_the_command_line_starts(self):
        machine = self.start("--efi", HELLO)
        machine.expect("hello: on COM1")

    def test_dvd_boots_by_el_torito(self):
        iso = self.make_dvd(HELLO)
        machine = self.start("--dvd", iso)
        machine.expect("hello: on COM1")

    def test_damaged_loader_is_passed_over(self):
        iso = self.make_dvd(HELLO)
        not_a_program = self.folder / "empty"
        not_a_program.write_bytes(b"not a program")
        machine = self.start("--disk", self.make_fat("disk.img", not_a_program), "--dvd", iso)
        # The disk's loader is damaged: the boot manager goes on to the DVD.
        machine.expect("hello: on COM1")

    def start_shell(self, *arguments):
        """A machine without anything to boot: through the menu to the shell."""
        machine = self.start(*arguments)
        machine.expect("nothing to boot")
        machine.expect("Boot Manager.*Continue.*Reset")
        machine.send("\x1b[B\r")
        machine.expect("UEFI Shell")
        machine.send("\x1b[B\r")
        machine.expect("Shell> ")
        return machine

    def run_in_shell(self, machine, command):
        machine.send(command + "\r")
        return machine.expect(re.escape(command) + r"\s*\r\n(.*?)Shell> ")[1].decode().replace("\r", "")

    def test_machine_without_media_opens_the_menu_and_the_shell_runs_from_it(self):
        variables = self.folder / "variables"
        machine = self.start_shell("--variables", variables)
        self.assertRegex(self.run_in_shell(machine, "ver"), "UEFI v2.*Bygone")
        self.assertIn(b"BootOrder", variables.read_bytes().replace(b"\0", b""))

    def test_shell_tells_memory_variables_and_devices(self):
        disk = self.make_fat("data.img", HELLO)
        subprocess.run(["mdel", "-i", disk, "::/EFI/BOOT/BOOTX64.EFI"], check=True)
        machine = self.start_shell("--disk", disk, "--variables", self.folder / "variables")
        self.check_memory_map(self.run_in_shell(machine, "memmap"))

        variables = self.run_in_shell(machine, "dmpstore -all")
        for name in ("BootOrder", "Boot0001", "ConOut", "Timeout", "Lang"):
            self.assertRegex(variables, rf"Variable\s+NV\+RT\+BS\s+'\s*EFIGlobalVariable\s*:\s*{name}\s*'")
        self.assertRegex(variables, r"Variable\s+RT\+BS\s+'\s*EFIGlobalVariable\s*:\s*BootCurrent\s*'")

        devices = self.run_in_shell(machine, "devices").replace("\n", "")
        self.assertIn("Msft Virtual Disk", devices)
        for interface in ("D96361BAA104294DB60572E2FFB1DC7F", "02780ADA77E3AC4A8E770558EB1073F8", "6DAD12F9172BEA48BD65F927A61C7684"):
            self.assertIn(interface, devices)  # storage, video, keyboard

        mapping = self.run_in_shell(machine, "map -r").replace("\n", "").replace(" ", "")
        self.assertRegex(mapping, r"FS0:Alias\(s\):.*BLK0:AcpiEx\(VMBus,,\)/VenHw\(.*\)/Scsi\(0x0,0x0\)")

    def check_memory_map(self, text):
        rows = [(kind, *(int(each, 16) for each in rest)) for kind, *rest in
                re.findall(r"^(\w+)\s+([0-9A-F]{16})-([0-9A-F]{16}) ([0-9A-F]{16}) ([0-9A-F]{16})", text, re.M)]
        self.assertGreater(len(rows), 10)
        end = -1
        for _, first, last, pages, attributes in sorted(rows, key=lambda row: row[1]):
            self.assertGreater(first, end, "ranges overlap")
            self.assertEqual(last - first + 1, pages * 4096)
            self.assertEqual(attributes & 0xF, 0xF)
            end = last
        self.assertEqual(end, (256 << 20) - 1)
        total = sum(row[3] for row in rows) * 4096
        self.assertEqual(total, 256 << 20)
        for kind, *_, attributes in rows:
            self.assertEqual(attributes >> 63, kind in ("RT_Code", "RT_Data"), f"{kind}: {attributes:#x}")
        self.assertEqual({"RT_Code", "RT_Data", "ACPI_NVS", "ACPI_Recl", "Available"} - {row[0] for row in rows}, set())


if __name__ == "__main__":
    BYGONE, FIRMWARE, HELLO = sys.argv[1:4]
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
