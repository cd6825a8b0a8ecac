#!/usr/bin/env python3
"""What `bygone boot` says to bad kernels, initial RAM disks larger than memory, and nonsense: an error that names the thing, at once.

  bad_input_test.py BYGONE
"""
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest


def kernel(payload=4096, version=0x20F, magic=b"HdrS", needs=1 << 20, preferred=1 << 24, flags=1, setup_sectors=1):
    """A file as bzImage begins. Its code halts for ever; no test here gets that far."""
    file = bytearray(512 * (setup_sectors + 1) + payload)
    file[0x1F1] = setup_sectors
    file[0x1FE:0x200] = b"\x55\xAA"
    file[0x202:0x206] = magic
    struct.pack_into("<H", file, 0x206, version)
    struct.pack_into("<I", file, 0x22C, 0x7FFFFFFF)  # initrd_addr_max
    struct.pack_into("<H", file, 0x236, flags)       # xloadflags
    struct.pack_into("<I", file, 0x238, 255)         # cmdline_size
    struct.pack_into("<Q", file, 0x258, preferred)
    struct.pack_into("<I", file, 0x260, needs)
    if len(file) > 512 * (setup_sectors + 1) + 0x204:
        file[512 * (setup_sectors + 1) + 0x200:512 * (setup_sectors + 1) + 0x203] = b"\xF4\xEB\xFD"
    return bytes(file)


class BadInput(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.good = self.file("good", kernel())

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return path

    def says(self, *wanted, kernel=None, **options):
        command = [sys.argv[1], "boot", "--engine", "software", "--kernel", str(kernel or self.good)]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}={value}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        self.assertNotIn(done.returncode, (0, -6, -11), command)
        for text in wanted:
            self.assertIn(text, done.stderr)
        self.assertNotRegex(done.stderr, "terminate|Assertion|what\\(\\)")

    def test_kernels(self):
        self.says("reading the kernel", "none", kernel=self.folder / "none")
        self.says("reading the kernel", kernel=self.folder)
        self.says("too short for a bzImage", kernel=self.file("empty", b""))
        self.says("not a Linux bzImage", "/boot/vmlinuz", kernel=self.file("elf", b"\x7fELF" + bytes(100_000)))
        self.says("not a Linux bzImage", kernel=self.file("noise", os.urandom(50_000)))
        self.says("no 64-bit entry (boot protocol 2.4)", kernel=self.file("old", kernel(version=0x204)))
        self.says("no 64-bit entry", kernel=self.file("32", kernel(flags=0)))
        self.says("cut off after its setup code", kernel=self.file("cut", kernel(payload=100)))
        self.says("cut off after its setup code", kernel=self.file("sectors", kernel(setup_sectors=1)[:512 + 600]))
        self.says("the kernel needs 4095 MiB", kernel=self.file("large", kernel(needs=0xFFF00000)))
        self.says("the kernel needs", kernel=self.file("high", kernel(preferred=1 << 63)))
        self.says("the kernel needs", kernel=self.file("low", kernel(preferred=0x1000)))

    def test_initrds(self):
        large = self.folder / "initrd"
        with open(large, "wb") as file:
            file.truncate(200 << 20)
        self.says("the initrd of 200 MiB does not fit", "Give the machine more memory", initrd=large, memory="128M")
        self.says("reading the initrd", initrd=self.folder / "none")
        with open(large, "wb") as file:
            file.truncate(5 << 30)
        self.says("reading the initrd", "has 5120 MiB", initrd=large)
        self.says("reading the initrd", "is not a file", initrd=self.folder)
        self.says("command line has 300 characters; this kernel takes 255", append="x" * 300)

    def test_sizes(self):
        for memory in ("0", "16M", "33554433", "2T", "18446744073709551615", "99999999999999999999G", "-1G", "lots", ""):
            with self.subTest(memory=memory):
                self.says(memory="" + memory)
        self.says("a machine cannot have", "whole mebibytes, from 32M to 1024G", memory="16M")
        for processors, wanted in (("0", "1 to 64"), ("65", "1 to 64"), ("4294967296", ""), ("-1", ""), ("many", "")):
            with self.subTest(processors=processors):
                self.says(wanted, cpus=processors)

    def test_other_choices(self):
        self.says("no enlightenment named warp", "direct-timers", enlightenments="+warp")
        self.says("does not add (+) or remove (-)", enlightenments="linux,reset")
        self.says("no enlightenment profile named beos", enlightenments="beos")
        self.says("not a kind of guest", guest="beos")
        self.says("not a serial port", com1="telegraph")
        self.says("none/port", com2=f"file:{self.folder}/none/port")
        self.says("none/port", com2=f"socket:{self.folder}/none/port")
        self.says("engine", engine="steam")


unittest.main(argv=sys.argv[:1] + sys.argv[2:])
