#!/usr/bin/env python3
"""bygone-window on a virtual display, in front of a real Linux guest: what it shows is the guest's screen, what is typed and pointed
there arrives in the guest, it outlives the machine and finds it again, and it does not take the machine with it.

Usage: window_test.py BYGONE BYGONE_WINDOW --cache DIR [unittest options]
Nothing here measures time: the limits only end what hangs.
"""
import argparse
import ctypes
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).parents[1] / "machines")]
import guest_test
from display import Compositor, Display

LIMIT_SECONDS = 240
MAGENTA = b"\xaa\x00\xaa"  # as the guest's console mixes it; nothing else on these displays has it
WINDOW = None


class KeyboardOfAnother:
    """Another client of the display, that takes all keys if nobody else has."""

    def __init__(self, display):
        self.x11 = ctypes.CDLL("libX11.so.6")
        self.x11.XOpenDisplay.restype = ctypes.c_void_p
        self.x11.XDefaultRootWindow.restype = ctypes.c_ulong
        self.connection = ctypes.c_void_p(self.x11.XOpenDisplay(display.name.encode()))
        self.root = ctypes.c_ulong(self.x11.XDefaultRootWindow(self.connection))

    def grab(self):
        """Whether it had them; gives them back at once."""
        asynchronous, now, success = 1, ctypes.c_ulong(0), 0
        was_given = self.x11.XGrabKeyboard(self.connection, self.root, 1, asynchronous, asynchronous, now) == success
        if was_given:
            self.x11.XUngrabKeyboard(self.connection, now)
            self.x11.XSync(self.connection, 0)
        return was_given

    def close(self):
        self.x11.XCloseDisplay(self.connection)


class WindowTest(guest_test.MachineTest):
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

    def start_guest(self, name, *settings):
        self.create(name)
        if settings:
            self.person.run("set", name, *settings)
        self.person.run("start", name)
        console = self.console(name)
        console.expect("guest is up")
        return console

    def state(self, name):
        return self.person.json("status", name)["state"]

    def open_menu(self, number, *keys):
        """The window's menu of that number, from its left edge; then keys in it."""
        self.do("mousemove", 15, 10, "click", 1)
        self.do("key", "--delay", 50, *["Right"] * number, *keys)

    def answer(self, question, *keys):
        """Strikes keys in a box with that title."""
        number = self.find(question)
        self.do("windowfocus", "--sync", number)
        self.do("key", "--delay", 50, *keys)

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
            self.assertNotIn(MAGENTA, self.colours())
            person.run("type", name, "printf '\\033[45m\\033[2J'\n")
            self.until("the guest's picture is not on the display", lambda: MAGENTA in self.colours())

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
                return self.display.pixels()[2](300, 3) not in (b"\x00\x00\x00", MAGENTA)
            self.assertTrue(menu_is_there())
            self.do("key", "Control_R+f")
            self.until("the menu is still there", lambda: not menu_is_there())
            self.do("key", "Control_R+f")
            self.until("the menu did not come back", menu_is_there)

        with self.subTest("all keys of the desktop by the host key"):
            another = KeyboardOfAnother(self.display)
            self.assertTrue(another.grab())
            self.do("key", "Control_R")
            self.until("the host key does not take the keyboard", lambda: not another.grab())
            self.do("key", "Control_R")
            self.until("the host key does not give the keyboard back", another.grab)
            another.close()

        with self.subTest("Ctrl-Alt-Del by the host key"):
            self.do("windowfocus", "--sync", number)
            self.do("key", "Control_R+Delete")
            console.expect("guest is up", 2)

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

    def test_without_a_desktop(self):
        for display in ("", ":4711"):
            environment = {**self.environment, "DISPLAY": display}
            shown = subprocess.run([WINDOW, "--help"], env=environment, capture_output=True, text=True, timeout=60)
            self.assertEqual((shown.returncode, "Example: bygone-window" in shown.stdout), (0, True), shown.stderr)
            refused = subprocess.run([WINDOW, "Any"], env=environment, capture_output=True, text=True, timeout=60)
            self.assertEqual((refused.returncode, "there is no desktop" in refused.stderr), (1, True), refused.stderr)

    def test_the_windows_menus(self):
        person, name = self.person, "Menus"
        console = self.start_guest(name, "dvds=[{}]")
        window = self.window(name)
        self.do("windowfocus", "--sync", self.find("^Menus – Bygone$"))

        def medium():
            return json.loads(person.run("inspect", name))["bus"]["devices"]["scsi0"]["luns"]["0"]["medium"]

        with self.subTest("a DVD is inserted and ejected"):
            disc = person.root / "disc.iso"
            disc.write_bytes(bytes(1 << 20))
            self.assertFalse(medium())
            self.open_menu(3, "Return")  # by arrow keys a menu opens with its first entry chosen
            number = self.find("Insert a DVD")
            self.do("windowfocus", "--sync", number)
            self.do("type", "--delay", 40, str(disc))
            self.do("key", "Return")
            self.until("no DVD was inserted", medium)
            self.do("windowfocus", "--sync", self.find("^Menus – Bygone$"))
            self.open_menu(3, "Down", "Return")
            self.until("the DVD was not ejected", lambda: not medium())

        with self.subTest("reset, after a question"):
            self.open_menu(0, "Down", "Down", "Down", "Down", "Return")  # Pause, Save and close, Shut down, Reset…
            self.answer("^Menus$", "alt+y")
            console.expect("guest is up", 2)

        with self.subTest("closing: keep running"):
            self.do("windowfocus", "--sync", self.find("^Menus – Bygone$"))
            self.do("key", "Control_R+q")
            self.answer("^Menus$", "alt+k")
            self.assertEqual(window.wait(LIMIT_SECONDS), 0)
            self.assertEqual(self.state(name), "running")

        with self.subTest("closing: save"):
            window = self.window(name)
            self.do("windowfocus", "--sync", self.find("^Menus – Bygone$"))
            self.do("key", "Control_R+q")
            self.answer("^Menus$", "alt+s")
            self.assertEqual(window.wait(LIMIT_SECONDS), 0)
            self.assertEqual(self.state(name), "saved")

        with self.subTest("closing: shut down"):
            person.run("start", name)
            window = self.window(name)
            self.do("windowfocus", "--sync", self.find("^Menus – Bygone$"))
            self.do("key", "Control_R+q")
            self.answer("^Menus$", "alt+d")
            self.assertEqual(window.wait(LIMIT_SECONDS), 0)
            self.assertEqual(self.state(name), "off")

    def test_a_guests_pixel_is_one_of_the_display_at_any_scale(self):
        console = self.start_guest("Sharp")
        width, height = map(int, re.search(r"screen (\d+),(\d+)", console.text).groups())
        self.person.run("type", "Sharp", "printf '\\033[?25l\\033[45m\\033[2J'; while :; do sleep 9; done\n")
        self.do("mousemove", 1279, 1023)  # the display's own pointer is in its picture
        for factor in ("1", "1.25", "1.5", "2"):
            with self.subTest(scale=factor):
                self.environment["QT_SCALE_FACTOR"] = factor
                window = self.window("Sharp")
                self.do("windowfocus", "--sync", self.find("^Sharp – Bygone$"))
                self.until(f"not {width}x{height} pixels of the guest's are shown", lambda: self.display.count(MAGENTA) == width * height,
                           lambda: f"there are {self.display.count(MAGENTA)}")
                window.kill()
                window.wait()

    def test_on_wayland(self):
        person, name = self.person, "Wayland"
        console = self.start_guest(name)
        compositor = Compositor(person.runtime, self.display)
        self.addCleanup(compositor.close)
        screen = self.until("no Wayland compositor", compositor.window)
        self.environment |= {"QT_QPA_PLATFORM": "wayland", "WAYLAND_DISPLAY": compositor.socket}
        window = self.window(name)
        person.run("type", name, "printf '\\033[45m\\033[2J'\n")

        def is_shown():
            if window.poll() is not None:
                self.fail(f"bygone-window ended with {window.returncode}: {window.stderr.read()}")
            return MAGENTA in self.colours()
        self.until("the guest's picture is not on the display", is_shown)
        self.do("windowfocus", "--sync", screen)
        self.do("mousemove", "--window", screen, 600, 500, "click", 1)
        console.expect("heard Microsoft Vmbus HID-compliant Mouse")
        self.do("type", "--delay", 60, "echo Keys-$((6*7)) > /dev/ttyS0")
        self.do("key", "Return")
        console.expect("Keys-42")
        self.do("key", "Control_R+p")
        self.until("the host key does not pause", lambda: self.state(name) == "paused")
        self.do("key", "Control_R+p")
        self.until("the host key does not resume", lambda: self.state(name) == "running")
        person.run("stop", name, "--force")
        self.assertIsNone(window.poll())


def main():
    global WINDOW
    parser = argparse.ArgumentParser()
    parser.add_argument("bygone")
    parser.add_argument("window")
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    options, rest = parser.parse_known_args()
    WINDOW = str(pathlib.Path(options.window).resolve())
    guest_test.PROGRAM, guest_test.KERNEL = options.bygone, guest_test.take_kernel(options.cache)
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
