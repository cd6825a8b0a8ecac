#!/usr/bin/env python3
"""The firmware of a machine with a definition: its boot order, its variables.

Usage: definition_test.py BYGONE FIRMWARE
Needs what boot_case.py needs. Nothing here measures time: the limit only ends what hangs.
"""
import pathlib
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/machines"), str(ROOT / "tests/firmware")]
from boot_case import BootCase  # noqa: E402
from bygone_runner import Person  # noqa: E402
from console_machine import LIMIT_SECONDS  # noqa: E402
from tested_engine import ENGINE  # noqa: E402


class Definition(BootCase):
    def setUp(self):
        super().setUp()
        self.person = Person(self.bygone)
        self.addCleanup(self.person.leave)
        self.output = self.folder / "com1.txt"

    def expect_at_start(self, text):
        self.output.unlink(missing_ok=True)
        self.person.run("start", "Bare")
        end = time.monotonic() + LIMIT_SECONDS
        while not self.output.exists() or text not in self.output.read_text(errors="replace"):
            self.assertLess(time.monotonic(), end, f"no {text!r} on COM1: {self.output.read_text(errors='replace')[-800:]}")
            time.sleep(0.05)
        self.person.run("stop", "Bare", "--force")

    def test_boot_order_is_obeyed_and_kept(self):
        disks = [word for name in ("one", "two") for word in ("--disk", self.make_fat(f"{name}.img", self.named_program(name)))]
        dvd = self.make_dvd(self.named_program("three"))
        self.person.run("create", "Bare", "--memory", "256M", "--engine", ENGINE, "--firmware", self.firmware, "--network", "none", *disks,
                        "--dvd", dvd, "--boot-order", "dvd,disk2")
        self.person.edit("Bare", com1=f"file:{self.output}")
        self.expect_at_start("this is three")
        self.person.run("set", "Bare", "boot.order=disk2")
        self.expect_at_start("this is two")
        self.person.run("set", "Bare", "boot.order=")
        self.expect_at_start("this is two")  # as it was left
        self.person.run("set", "Bare", "boot.order=disk")
        self.expect_at_start("this is one")

    def test_boot_order_that_names_no_drive_is_refused_with_its_place(self):
        disk = self.make_fat("one.img", self.named_program("one"))
        self.person.run("create", "Bare", "--memory", "256M", "--engine", ENGINE, "--firmware", self.firmware, "--network", "none", "--disk", disk,
                        "--boot-order", "dvd,disk")
        told = self.person.fails("start", "Bare")
        self.assertRegex(told, r"Bare\.json, line \d+.*the boot order names dvd, and there are 0 of its kind")


if __name__ == "__main__":
    BootCase.bygone, BootCase.firmware = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
