"""What the firmware's tests have in common: a machine that the real firmware starts, the media that it starts from, programs for it, and
what is to be seen on its screen. Needs mtools, xorriso, and EDK II's source where firmware/build has left it (its font tells what is on
the screen)."""
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import screen
from console_machine import LIMIT_SECONDS, Machine
from tested_engine import ENGINE

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMED_PROGRAM = """
#include <bygone/uefi.h>
extern "C" BYGONE_UEFI_CALL bygone::uefi::Status efi_main(void*, bygone::uefi::SystemTable* system) {
  system->console_out->output_string(system->console_out, u"this is NAME\\r\\n");
  for (;;) system->boot_services->stall(1'000'000);
}
"""


class BootCase(unittest.TestCase):
    bygone, firmware = None, None

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bygone-firmware-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def start(self, *arguments, memory="256M"):
        machine = Machine(self.bygone, "boot", "--firmware", self.firmware, "--memory", memory, "--engine", ENGINE, *arguments)
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
        """From a text, or a file of one."""
        text, unit, program = (self.folder / f"{name}.{end}" for end in ("cpp", "o", "efi"))
        text.write_text(source if isinstance(source, str) else source.read_text())
        subprocess.run(["g++", "-std=c++20", "-O1", "-ffreestanding", "-fpie", "-mno-red-zone", "-fno-stack-protector",
                        "-fno-asynchronous-unwind-tables", "-I", ROOT / "sdk/include", "-c", "-o", unit, text], check=True)
        subprocess.run(["ld", "-m", "i386pep", "-T", ROOT / "sdk/uefi.ld", "--subsystem", "10", "--entry", "efi_main",
                        "--image-base", "0", "--file-alignment", "0x1000", "-s", "-o", program, unit], check=True)
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

    def look(self, machine, picture):
        """Has the machine, started with --screenshot, write a new picture of its screen."""
        picture.unlink(missing_ok=True)
        machine.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + LIMIT_SECONDS
        while not picture.exists() and time.monotonic() < end:
            time.sleep(0.05)

    def expect_on_screen(self, machine, picture, text):
        """Waits until the screen says it, whatever spaces and ends of lines there are."""
        glyphs = screen.read_glyphs(next(ROOT.glob("build/firmware/edk2-*/MdeModulePkg")).parent)
        end = time.monotonic() + LIMIT_SECONDS
        while True:
            self.look(machine, picture)
            shown = screen.read_text(picture, glyphs)
            if text.replace(" ", "") in re.sub(r"\s", "", shown):
                return
            self.assertLess(time.monotonic(), end, f"not on the screen: {text!r}, but\n{shown}")

    def expect_fields(self, machine, name):
        """A line of inspect.cpp's: its name, then words and fields."""
        line = machine.expect(rf"(?:^|\n)\s*{name}( [^\r]*)\r\n")[1].decode()
        return {key: int(value, 16) for key, value in re.findall(r" ([\w-]+)=([0-9a-f]+)", line)}, line
