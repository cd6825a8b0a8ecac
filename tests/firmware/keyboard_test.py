#!/usr/bin/env python3
"""The firmware on screen and keyboard alone: menu and shell, seen in pictures of the screen and steered with `bygone type`.

Usage: keyboard_test.py BYGONE FIRMWARE [unittest options]
Needs EDK II's source where firmware/build has left it: its font tells what is on the screen. Nothing here measures time: the limit only
ends what hangs.
"""
import pathlib
import re
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/machines"), str(ROOT / "tests/firmware")]
import screen  # noqa: E402
from bygone_runner import Person  # noqa: E402

BYGONE, FIRMWARE = None, None
LIMIT_SECONDS = 240


class Keyboard(unittest.TestCase):
    def setUp(self):
        self.person = Person(BYGONE)
        self.addCleanup(self.person.leave)
        self.glyphs = screen.read_glyphs(next(ROOT.glob("build/firmware/edk2-*/MdeModulePkg")).parent)

    def expect(self, pattern):
        """Waits until the screen's text, without the ends of its lines, has it."""
        end = time.monotonic() + LIMIT_SECONDS
        picture = self.person.root / "screen.png"
        while True:
            done = self.person.try_run("screenshot", "Bare", picture)  # until the firmware has switched the screen on, it fails
            shown = screen.read_text(picture, self.glyphs) if done.returncode == 0 else done.stderr
            if re.search(pattern, re.sub(r"\s+", " ", shown)):
                return
            self.assertLess(time.monotonic(), end, f"no {pattern!r} on the screen:\n{shown}")
            time.sleep(0.2)

    def test_menu_and_shell_by_keyboard(self):
        self.person.run("create", "Bare", "--memory", "256M", "--engine", "software", "--firmware", FIRMWARE, "--network", "none")
        self.person.run("start", "Bare")
        self.expect("Boot Manager.*Continue.*Reset")
        self.person.run("type", "Bare", "--keys", "down", "--keys", "enter")
        self.expect("UEFI Shell")
        self.person.run("type", "Bare", "--keys", "down", "--keys", "enter")
        self.expect("Shell> *_?")
        # Every kind of key: letters of both cases, digits, signs with and without shift.
        self.person.run("type", "Bare", "--enter", 'echo Aa-Zz_09 [{(;:,.?!@#$&*+=~)}]')
        self.expect(r"Shell> echo.*Aa-Zz_09 \[\{\(;:,\.\?!@#\$&\*\+=~\)\}\] Aa-Zz_09|Aa-Zz_09 \[.*Aa-Zz_09 \[")
        # Edited: arrow, delete, home.
        self.person.run("type", "Bare", "echo onne", "--keys", "left", "--keys", "left", "--keys", "del", "--keys", "enter")
        self.expect(r"echo one one")


if __name__ == "__main__":
    BYGONE, FIRMWARE = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
