#!/usr/bin/env python3
"""./run-demo: from no demo guest to a Windows program on the screen of a machine; again on a desktop; and after being killed.

Usage: demo_test.py BYGONE_SOURCE --cache DIR [unittest options]
The demo guest is kept in DIR, for the next time. The tests go in the order of their names; the first builds the guest.
Nothing here measures time: the limits only end what hangs.
"""
import argparse
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).parents[1] / folder) for folder in ("machines", "window")]
from bygone_runner import Person
from display import Display

LIMIT_SECONDS = 1800
PROGRAM_SECONDS = 900  # for one program in the guest to do what is asked of it
SOURCE = CACHE = None


def is_shown(picture):
    return subprocess.run([SOURCE / "guest/demo/welcome/is-shown", picture], capture_output=True, text=True)


class DemoTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.person = Person(SOURCE / "build/ci/bin/bygone")
        cls.addClassCleanup(cls.person.leave)
        cls.person.environment["XDG_CACHE_HOME"] = str(CACHE)
        for key in ("DISPLAY", "WAYLAND_DISPLAY"):
            cls.person.environment.pop(key, None)

    def command(self, *options):
        return [str(SOURCE / "run-demo"), "--limit", str(PROGRAM_SECONDS), *map(str, options)]

    def run_demo(self, *options, **environment):
        done = subprocess.run(self.command(*options), env={**self.person.environment, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=LIMIT_SECONDS)
        print(done.stdout)
        self.assertEqual(done.returncode, 0)
        return done.stdout

    def until(self, what, condition):
        end = time.monotonic() + PROGRAM_SECONDS
        while not (found := condition()):
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.3)
        return found

    def state(self):
        return self.person.json("status", "Demo")["state"]

    def windows(self):
        return [window["title"] for window in self.person.json("app", "Demo", "--windows")]

    def test_1_headless(self):
        picture = self.person.root / "demo.png"
        said = self.run_demo("--headless", "--screenshot", picture)
        self.assertIn("the window of SumatraPDF", said)
        self.assertEqual(is_shown(picture).stderr, "")
        self.assertEqual(self.state(), "off")

    def test_2_on_a_desktop(self):
        person = self.person
        display = Display(person.root)
        self.addCleanup(display.close)  # the window goes with it
        self.addCleanup(person.try_run, "stop", "Demo", "--force")
        picture = person.root / "desktop.png"
        self.run_demo("--screenshot", picture, DISPLAY=display.name, QT_QPA_PLATFORM="xcb")
        self.assertEqual(is_shown(picture).stderr, "")
        self.assertEqual(self.state(), "running")

        with self.subTest("the window shows the program"):
            heading = b"\x57\x3a\x1f"  # the page's heading, blue first
            self.until("no window shows the page", lambda: display.count(heading, tolerance=1) > 4000)  # a renderer may round it the other way

        with self.subTest("what runs, by the agent"):
            self.assertIn("WineMine", self.windows())
            self.assertTrue(any("Welcome to Bygone.pdf" in title for title in self.windows()))
            programs = {program["name"]: program for program in person.json("app", "Demo")}
            self.assertTrue(programs["SumatraPDF"]["windows"] and programs["Winemine"]["windows"], programs)

        with self.subTest("a program is started, and used by mouse and keyboard"):
            def numbers():
                return {window["id"] for window in person.json("app", "Demo", "--windows")}
            before = numbers()
            person.run("app", "Demo", programs["Winemine"]["id"])
            second = self.until("no second Winemine", lambda: numbers() - before).pop()
            field = next(window for window in person.json("app", "Demo", "--windows") if window["id"] == second)
            self.assertEqual(field["title"], "WineMine")

            # The click takes the keyboard there; which window the keys then close tells whether it did.
            person.run("click", "Demo", field["x"] + field["width"] // 2, field["y"] + field["height"] * 3 // 4)
            time.sleep(2)
            person.run("type", "Demo", "--keys", "alt-f4")
            self.until("Alt-F4 closes no window", lambda: len(numbers()) == len(before))
            self.assertEqual(numbers(), before)

        with self.subTest("saved, and as it was"):
            before = sorted(self.windows())

            def is_drawn():
                person.run("screenshot", "Demo", picture)
                return is_shown(picture).stderr == ""
            self.until("what the closed window had covered is not drawn again", is_drawn)
            person.run("save", "Demo")
            self.assertEqual(self.state(), "saved")
            person.run("start", "Demo")
            self.assertEqual(sorted(self.windows()), before)
            person.run("screenshot", "Demo", picture)
            self.assertEqual(is_shown(picture).stderr, "")

        person.run("stop", "Demo", "--wait", PROGRAM_SECONDS)
        self.assertEqual(self.state(), "off")

    def test_3_killed(self):
        """At points that chance chooses: the script and all that it has started, and at times the machine's process too."""
        seed = random.randrange(1 << 32)
        print("seed", seed)
        chance = random.Random(seed)
        definition = None
        for _ in range(3):
            process = subprocess.Popen(self.command("--headless", "--screenshot", self.person.root / "killed.png"), env=self.person.environment,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
            time.sleep(chance.uniform(0.2, 12))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if chance.random() < 0.5 and (machine := self.person.json("status", "Demo").get("process")):
                os.kill(machine, signal.SIGKILL)
            now = self.person.definition("Demo").read_text()
            self.assertIn(definition, (None, now))
            definition = now
        self.run_demo("--headless", "--screenshot", self.person.root / "killed.png")
        self.assertEqual(is_shown(self.person.root / "killed.png").stderr, "")
        self.assertEqual(self.state(), "off")


def seed_cache():
    """What the person's own cache has of the stages that take long: they are the same, having the same name."""
    own = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "bygone/demo"
    cache = CACHE / "bygone/demo"
    cache.mkdir(parents=True, exist_ok=True)
    for stage in [*own.glob("system-*.tar"), *own.glob("program-*.exe")]:
        target = cache / stage.name
        if not target.exists():
            subprocess.run(["cp", "--reflink=auto", stage, f"{target}.new"], check=True)
            pathlib.Path(f"{target}.new").rename(target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    options, rest = parser.parse_known_args()
    SOURCE, CACHE = options.source.resolve(), options.cache.resolve()
    seed_cache()
    unittest.main(argv=[sys.argv[0], *rest])
