#!/usr/bin/env python3
"""What it costs to show a guest's screen: 1920x1080, every frame new, drawn by Debian's hyperv_drm and shown by bygone-window on Xvfb.

    bench/io/screen.py [--build build/release] [--engine software] [--rate 60] [--seconds 10]

Prints the guest's frames a second, the updates that the machine's process told, and the share of a core that everything outside the
guest took: the machine's process without its virtual processors, and the window. The X server's own work is printed for itself. A
second line is for as many frames as the guest can make. Needs busybox-static, gcc, libdrm-dev, xvfb and what tests/linux_guest/make_guest.py needs.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
for folder in ("linux_guest", "machines", "window"):
    sys.path.insert(0, str(ROOT / "tests" / folder))
import make_guest  # noqa: E402
from bygone_runner import Person  # noqa: E402
from window_test import Display  # noqa: E402

SIZE = (1920, 1080)
INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
ln -sf kmod /bin/modprobe
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev; mount -t tmpfs none /tmp
for module in hv_vmbus hyperv_drm; do modprobe $module; done
for i in $(seq 300); do [ -e /dev/dri/card0 ] && break; sleep 0.1; done
for c in /sys/class/vtconsole/vtcon*; do grep -q 'frame buffer' $c/name && echo 0 > $c/bind; done
echo "result: ready"
read go
screen_updates @SIZE@ @RATE@ @SECONDS@
echo "result: paced"
screen_updates @SIZE@ 0 @SECONDS@
echo "result: done"
sleep 100000
"""


def ticks(process, of_processors=None):
    """CPU seconds of a process; of its virtual processors alone, or of all its other threads."""
    total = 0
    for task in pathlib.Path(f"/proc/{process}/task").iterdir():
        name = (task / "comm").read_text().strip()
        if of_processors is not None and bool(re.fullmatch(r"vp\d+", name)) != of_processors:
            continue
        fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def initrd(tree, arguments, scratch):
    program = scratch / "screen_updates"
    subprocess.run(["gcc", "-O2", "-static", "-o", program, pathlib.Path(__file__).parent / "screen_updates.c"], check=True)
    make_guest.HOST_PROGRAMS = ["kmod"]
    make_guest.DEBIAN_PROGRAMS = []
    make_guest.HERE = scratch
    text = INIT.replace("@SIZE@", f"{SIZE[0]} {SIZE[1]}").replace("@RATE@", str(arguments.rate)).replace("@SECONDS@", str(arguments.seconds))
    (scratch / "init").write_text(text)
    path = scratch / "initrd"
    path.write_bytes(make_guest.build(tree, [], [program], False))
    return path


class Measurement:
    def __init__(self, person, name, machine, window, display):
        self.person, self.name = person, name
        self.sources = {"machine": lambda: ticks(machine, False), "guest": lambda: ticks(machine, True), "window": lambda: ticks(window), "X server": lambda: ticks(display)}

    def look(self):
        video = json.loads(self.person.run("inspect", self.name))["bus"]["devices"]["video"]
        return {"time": time.monotonic(), "updates": video["dirt_messages"], **{key: read() for key, read in self.sources.items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--engine", default="software")
    parser.add_argument("--rate", type=int, default=60)
    parser.add_argument("--seconds", type=int, default=10)
    arguments = parser.parse_args()
    cache = ROOT / "build/linux-guest/cache"
    cache.mkdir(parents=True, exist_ok=True)
    tree = make_guest.fetch(cache)[0]["full"]
    person = Person(arguments.build / "bin/bygone")
    name = "Screen"
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        Display.SCREEN = f"{SIZE[0] + 100}x{SIZE[1] + 200}x24"
        display = Display(scratch)
        window = None
        try:
            person.run("create", name, "--memory", "512M", "--engine", arguments.engine, "--kernel", next((tree / "boot").glob("vmlinuz-*")),
                       "--initrd", initrd(tree, arguments, scratch), "--append", "console=ttyS0 quiet panic=-1")
            person.run("start", name)
            console = subprocess.Popen([person.program, "console", name], env=person.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            said = []

            def wait_for(text):
                for line in console.stdout:
                    said.append(line.decode(errors="replace").strip())
                    if text in said[-1]:
                        return said[-1]
                sys.exit("screen.py: the guest ended:\n" + "\n".join(said[-20:]))

            wait_for("result: ready")
            window = subprocess.Popen([arguments.build / "bin/bygone-window", name], env={**person.environment, "DISPLAY": display.name, "QT_QPA_PLATFORM": "xcb"},
                                      stderr=subprocess.DEVNULL)
            time.sleep(3)
            subprocess.run(f"xdotool search --onlyvisible --name Screen windowmove 0 0 windowsize {SIZE[0]} {SIZE[1] + 60}", shell=True,
                           env={**person.environment, "DISPLAY": display.name}, check=False)
            process = person.json("status", name)["process"]
            measurement = Measurement(person, name, process, window.pid, display.process.pid)
            console.stdin.write(b"\n")
            console.stdin.flush()
            for label, mark in ((f"{arguments.rate} frames a second asked for", "result: paced"), ("as many as possible", "result: done")):
                time.sleep(arguments.seconds * 0.2)
                first = measurement.look()
                time.sleep(arguments.seconds * 0.6)
                last = measurement.look()
                wait_for(mark)
                frames = next(re.search(r"([\d.]+) frames", line)[1] for line in reversed(said) if "frames a second" in line)
                passed = last["time"] - first["time"]
                share = {key: (last[key] - first[key]) / passed for key in measurement.sources}
                print(f"{label}: guest drew {frames}/s, {(last['updates'] - first['updates']) / passed:.1f} updates/s told; outside the guest "
                      f"{share['machine'] + share['window']:.1%} of a core (machine {share['machine']:.1%}, window {share['window']:.1%}); "
                      f"X server {share['X server']:.1%}, guest {share['guest']:.1%}", flush=True)
            console.kill()
        finally:
            if window:
                window.kill()
                window.wait()
            display.close()
            person.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
