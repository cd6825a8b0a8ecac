#!/usr/bin/env python3
"""Starts an installed Debian and an installation medium by the real firmware, with the boot loaders that Debian ships.

Usage: debian_test.py BYGONE FIRMWARE FOLDER [unittest options]
FOLDER is what `build` beside this file prints. Nothing here measures time.
"""
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from console_machine import Machine  # noqa: E402
from tested_engine import ENGINE, limit  # noqa: E402

BYGONE, FIRMWARE, FOLDER = (None,) * 3
LIMIT_SECONDS = limit(600)
PROMPT = r"root@debian:~#\s*$"


class Debian(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bygone-debian-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def start(self, *arguments):
        machine = Machine(BYGONE, "boot", "--firmware", FIRMWARE, "--engine", ENGINE, "--memory", "1G", "--cpus", "2", *arguments)
        self.addCleanup(machine.stop)
        return machine

    def copy_disk(self):
        disk = self.folder / "debian.vhdx"
        subprocess.run(["cp", "--sparse=always", pathlib.Path(FOLDER) / "debian.vhdx", disk], check=True)
        return disk

    def run_in_guest(self, machine, command):
        """What the command prints."""
        machine.send(f"echo be''gin; {command}; echo sta''tus=$?=\r")
        return machine.expect(r"begin\r\n(.*?)status=(\d+)=", LIMIT_SECONDS)[1].decode().replace("\r", "")

    def test_grub_then_systemd_boot_chosen_by_efibootmgr(self):
        media = ("--disk", self.copy_disk(), "--variables", self.folder / "variables")
        machine = self.start(*media)
        machine.expect("Welcome to GRUB!", LIMIT_SECONDS)
        machine.expect(PROMPT, LIMIT_SECONDS)
        self.assertIn("bootedby=grub", self.run_in_guest(machine, "cat /proc/cmdline"))
        self.assertNotRegex(self.run_in_guest(machine, "dmesg | grep -iE 'ACPI (BIOS )?(Error|Warning)|efi:.*(fail|bug)'"), "ACPI|efi")

        self.run_in_guest(machine, "modprobe efivarfs; mountpoint -q /sys/firmware/efi/efivars || "
                                   "mount -t efivarfs efivarfs /sys/firmware/efi/efivars")
        made = self.run_in_guest(machine, r"efibootmgr -c -d /dev/sda -p 1 -L 'Linux Boot Manager' -l '\EFI\systemd\systemd-bootx64.efi'")
        self.assertRegex(made, r"BootOrder: \w+.*\nBoot0000")
        self.assertRegex(made, r"Boot\w+\* Linux Boot Manager")
        machine.send("reboot -f\r")
        self.expect_systemd_boot(machine)
        machine.stop()
        # Another process, the same variables.
        self.expect_systemd_boot(self.start(*media))

    def expect_systemd_boot(self, machine):
        machine.expect(r"(?:bash-5\S+|root@\(none\):/)# ", LIMIT_SECONDS)
        machine.send("mount -t proc proc /proc; cat /proc/cmdline\r")
        machine.expect("bootedby=systemd-boot", LIMIT_SECONDS)

    def test_installation_medium_reaches_its_shell_with_grub(self):
        machine = self.start("--dvd", pathlib.Path(FOLDER) / "netinst.iso", "--disk", self.copy_disk(), "--boot-order", "dvd,disk")
        machine.expect("Welcome to GRUB!", LIMIT_SECONDS)
        machine.expect(r"\(initramfs\)", LIMIT_SECONDS)
        machine.send("cat /proc/cmdline\r")
        machine.expect("bootedby=dvd", LIMIT_SECONDS)


if __name__ == "__main__":
    BYGONE, FIRMWARE, FOLDER = sys.argv[1:4]
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
