#!/usr/bin/env python3
"""Boots the real firmware on the software CPU and talks to it over COM1.

Usage: boot_test.py BYGONE FIRMWARE HELLO_EFI
Needs mtools and xorriso. Nothing here measures time: the limits only end a machine that hangs.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

BYGONE, FIRMWARE, HELLO = (None,) * 3
LIMIT_SECONDS = 120


ROOT = pathlib.Path(__file__).resolve().parents[2]
FAULTING_PROGRAM = """
#include <bygone/uefi.h>
extern "C" BYGONE_UEFI_CALL bygone::uefi::Status efi_main(void*, bygone::uefi::SystemTable*) {
  asm volatile("ud2");
  return 0;
}
"""


class Machine:
    """A running machine whose console is a pair of pipes."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [BYGONE, "boot", "--firmware", FIRMWARE, "--memory", "256M", "--engine", "software", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.output = bytearray()
        self.seen = 0
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while data := os.read(self.process.stdout.fileno(), 65536):
            with self.changed:
                self.output += data
                self.changed.notify_all()
        with self.changed:
            self.output += b"\n[the machine ended]\n"
            self.changed.notify_all()

    def expect(self, pattern):
        """Waits for the pattern in what has come since the last match; screen control sequences count as a space."""
        end = time.monotonic() + LIMIT_SECONDS
        with self.changed:
            while True:
                text = re.sub(rb"\x1b\[[0-9;=?]*[a-zA-Z]", b" ", bytes(self.output))
                if match := re.search(pattern.encode(), text[self.seen:], re.S):
                    self.seen += match.end()
                    return
                ended = b"[the machine ended]" in self.output
                if ended or not self.changed.wait(end - time.monotonic()):
                    raise AssertionError(f"no {pattern!r}; the console's end: {text[-800:]!r}")

    def send(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Boot(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bygone-firmware-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def start(self, *arguments):
        machine = Machine(*map(str, arguments))
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
        tree = self.folder / "tree"
        tree.mkdir()
        self.make_fat("tree/efi.img", HELLO)
        iso = self.folder / "dvd.iso"
        subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", iso, "-e", "efi.img", "-no-emul-boot", tree], check=True)
        machine = self.start("--dvd", iso)
        machine.expect("hello: on COM1")

    def test_damaged_loader_is_passed_over(self):
        tree = self.folder / "tree"
        tree.mkdir()
        self.make_fat("tree/efi.img", HELLO)
        iso = self.folder / "dvd.iso"
        subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", iso, "-e", "efi.img", "-no-emul-boot", tree], check=True)
        not_a_program = self.folder / "empty"
        not_a_program.write_bytes(b"not a program")
        machine = self.start("--disk", self.make_fat("disk.img", not_a_program), "--dvd", iso)
        # The disk's loader is damaged: the boot manager goes on to the DVD.
        machine.expect("hello: on COM1")

    def test_machine_without_media_opens_the_menu_and_the_shell_runs_from_it(self):
        variables = self.folder / "variables"
        machine = self.start("--variables", variables)
        machine.expect("nothing to boot")
        machine.expect("Boot Manager.*Continue.*Reset")
        machine.send("\x1b[B\r")
        machine.expect("UEFI Shell")
        machine.send("\x1b[B\r")
        machine.expect("Shell> ")
        machine.send("ver\r")
        machine.expect("UEFI v2.*Bygone")
        self.assertIn(b"BootOrder", variables.read_bytes().replace(b"\0", b""))


if __name__ == "__main__":
    BYGONE, FIRMWARE, HELLO = sys.argv[1:4]
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
