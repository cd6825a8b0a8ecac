#!/usr/bin/env python3
"""bygone-window on a virtual display, in front of a real Linux guest: what it shows is the guest's screen, what is typed and pointed
there arrives in the guest, it outlives the machine and finds it again, and it does not take the machine with it.

Usage: window_test.py BYGONE BYGONE_WINDOW --cache DIR [unittest options]
Nothing here measures time: the limits only end what hangs.
"""
import argparse
import os
import pathlib
import struct
import subprocess
import sys
import time
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).parents[1] / "machines")]
import guest_test

LIMIT_SECONDS = 240
WINDOW = None


class Display:
    """An X server without a screen, whose picture can be read."""
    SCREEN = "1280x1024x24"

    def __init__(self, folder):
        self.file = folder / "Xvfb_screen0"
        # Two servers that start in the same moment may choose the same number, and one of them ends: tries again then.
        for _ in range(5):
            reader, writer = os.pipe()
            # -noreset: else the server starts anew when its last client goes, and turns away whoever comes meanwhile.
            self.process = subprocess.Popen(["Xvfb", "-noreset", "-displayfd", str(writer), "-screen", "0", self.SCREEN, "-fbdir", str(folder)],
                                            pass_fds=[writer], stderr=subprocess.DEVNULL)
            os.close(writer)
            with os.fdopen(reader) as answer:
                self.name = f":{answer.readline().strip()}"
            if self.name != ":" and self.process.poll() is None:
                return
            self.close()
        raise AssertionError("Xvfb did not start (Debian package xvfb)")

    def pixels(self):
        """(width, height, pixel function) of the display, from its XWD file (X11/XWDFile.h: big-endian words)."""
        data = self.file.read_bytes()
        words = struct.unpack(">25I", data[:100])
        header, width, height, line, colours = words[0], words[4], words[5], words[12], words[19]
        start = header + 12 * colours
        return width, height, lambda x, y: data[start + y * line + 4 * x:start + y * line + 4 * x + 3]

    def close(self):
        self.process.terminate()
        self.process.wait()


class WindowTest(guest_test.GuestTest):
    def setUp(self):
        super().setUp()
        self.display = Display(self.person.root)
        self.addCleanup(self.display.close)
        # Nothing of the desktop that the tests run on: no session's bus, no accessibility, no input method, no scaling.
        self.environment = {key: value for key, value in self.person.environment.items() if not key.startswith(("QT_", "DBUS_", "XAUTHORITY"))}
        self.environment |= {"DISPLAY": self.display.name, "QT_QPA_PLATFORM": "xcb", "QT_ACCESSIBILITY": "0", "LC_ALL": "C.UTF-8"}

    def window(self, name, *options):
        process = subprocess.Popen([WINDOW, name, *options], env=self.environment, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.newest = process
        return process

    def do(self, *arguments):
        return subprocess.run(["xdotool", *map(str, arguments)], env=self.environment, check=True, capture_output=True, text=True).stdout

    def until(self, what, condition, instead=lambda: ""):
        end = time.monotonic() + LIMIT_SECONDS
        while not (found := condition()):
            if time.monotonic() >= end:
                self.fail(f"{what}; {instead()}")
            time.sleep(0.2)
        return found

    def find(self, title):
        """The window's number, once it has that title."""
        def look():
            if self.newest.poll() is not None:
                self.fail(f"bygone-window ended with {self.newest.returncode}: {self.newest.stderr.read()}")
            return self.search("--onlyvisible", "--name", title)[:1]
        def there():
            windows = self.search("--name", ".")
            return [self.do("getwindowname", window).strip() for window in windows]
        return self.until(f"no window {title!r}", look, there)[0]

    def search(self, *arguments):
        return subprocess.run(["xdotool", "search", *arguments], env=self.environment, capture_output=True, text=True).stdout.split()

    def colours(self):
        width, height, pixel = self.display.pixels()
        return {pixel(x, y) for x in range(0, width, 3) for y in range(0, height, 3)}

    def test_a_persons_way_through_the_window(self):
        person, name = self.person, "Old Office"
        self.create(name)
        refused = subprocess.run([WINDOW, name], env=self.environment, capture_output=True, text=True, timeout=60)
        self.assertEqual((refused.returncode, "is not running" in refused.stderr), (1, True), refused.stderr)
        person.run("start", name)
        console = self.console(name)
        console.expect("guest is up")

        window = self.window(name)
        number = self.find("^Old Office – Bygone$")
        self.do("windowfocus", "--sync", number)

        with self.subTest("keys"):
            self.do("type", "--delay", 60, "echo Keys-$((6*7)) > /dev/ttyS0")
            self.do("key", "Return")
            console.expect("Keys-42")

        with self.subTest("picture"):
            magenta = b"\xaa\x00\xaa"  # as the guest's console mixes it; nothing else on this display has it
            self.assertNotIn(magenta, self.colours())
            person.run("type", name, "printf '\\033[45m\\033[2J'\n")
            self.until("the guest's picture is not on the display", lambda: magenta in self.colours())

        with self.subTest("pointer"):
            self.do("mousemove", "--window", number, 300, 300, "click", 1)
            console.expect("heard Microsoft Vmbus HID-compliant Mouse")

        with self.subTest("pause by the host key"):
            self.do("key", "Control_R+p")
            self.find("paused")
            self.assertEqual(person.json("status", name)["state"], "paused")
            self.do("key", "Control_R+p")
            self.find("^Old Office – Bygone$")
            self.assertEqual(person.json("status", name)["state"], "running")

        with self.subTest("full screen"):
            # Nobody manages windows here, so it stays where it is; the menu bar's grey goes, and comes back.
            def menu_is_there():
                return self.display.pixels()[2](300, 3) not in (b"\x00\x00\x00", magenta)
            self.assertTrue(menu_is_there())
            self.do("key", "Control_R+f")
            self.until("the menu is still there", lambda: not menu_is_there())
            self.do("key", "Control_R+f")
            self.until("the menu did not come back", menu_is_there)

        with self.subTest("the window goes, the machine stays"):
            window.kill()
            window.wait()
            self.assertEqual(person.json("status", name)["state"], "running")
            window = self.window(name)
            number = self.find("^Old Office – Bygone$")

        with self.subTest("the machine goes, the window waits and finds it again"):
            person.run("stop", name, "--force")
            self.find("off")
            person.run("start", name)
            self.find("^Old Office – Bygone$")
            self.assertIsNone(window.poll())


def main():
    global WINDOW
    parser = argparse.ArgumentParser()
    parser.add_argument("bygone")
    parser.add_argument("window")
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    options, rest = parser.parse_known_args()
    WINDOW = str(pathlib.Path(options.window).resolve())
    guest_test.PROGRAM, guest_test.KERNEL = options.bygone, guest_test.run_nested.kernel(options.cache)
    unittest.main(argv=[sys.argv[0], *rest], defaultTest="WindowTest.test_a_persons_way_through_the_window")


if __name__ == "__main__":
    main()
