#!/usr/bin/env python3
"""How far a guest's clock runs from the host's: both are compared at the start and for ten minutes, and the difference is printed.

  drift.py BYGONE CACHE [--engine NAME] [--seconds 600]

The guest has no time synchronization (hv_utils is not loaded), so what is measured is its clock source. It answers a line on COM1
with CLOCK_MONOTONIC and CLOCK_REALTIME; of many questions the one that was answered soonest bounds the offset best, which keeps a busy host
out of the result. The bound is printed with it; status 1 when the drift may be 100 ppm or more.
"""
import argparse
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests/machine"))
import guest_files  # noqa: E402

CLOCK = r"""
#include <stdio.h>
#include <time.h>
int main(void) {
  char line[64];
  puts("clock is ready");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin)) {
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    clock_gettime(CLOCK_REALTIME, &b);
    printf("answer %ld.%09ld %ld.%09ld\n", (long)a.tv_sec, a.tv_nsec, (long)b.tv_sec, b.tv_nsec);
    fflush(stdout);
  }
}
"""
ROUND = 60  # questions at the beginning, and at the end


class Guest:
    def __init__(self, command):
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.text = b""

    def line(self, start, limit=300):
        end = time.monotonic() + limit
        while True:
            head, found, rest = self.text.partition(b"\n")
            if found:
                self.text = rest
                if head.startswith(start):
                    return head.decode().split()
                continue
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise SystemExit(f"the guest says nothing more after {self.text!r}")
            data = os.read(self.process.stdout.fileno(), 4096)
            if not data:
                raise SystemExit("the guest has ended")
            self.text += data

    def ask(self):
        """Host time, half of the answer's way, and the guest's two clocks."""
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self.process.stdin.write(b"?\n")
        self.process.stdin.flush()
        words = self.line(b"answer")
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        return (before + after) // 2, (after - before) // 2, *(int(word.replace(".", "")) for word in words[1:3])

    def best(self):
        answers = []
        for _ in range(ROUND):
            answers.append(self.ask())
            time.sleep(0.05)
        return min(answers, key=lambda answer: answer[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bygone", type=pathlib.Path)
    parser.add_argument("cache")
    parser.add_argument("--engine", default="software")
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    kernel = guest_files.kernel(arguments.cache)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "clock.c").write_text(CLOCK)
        subprocess.run(["gcc", "-O1", "-static", "-o", scratch / "clock", scratch / "clock.c"], check=True)
        guest_files.initrd(scratch / "initrd", kernel, "stty -F /dev/ttyS0 -echo\ncat /sys/devices/system/clocksource/clocksource0/current_clocksource\nexec /clock\n",
                           files=[(scratch / "clock", "clock")])
        guest = Guest([arguments.bygone, "boot", "--engine", arguments.engine, "--memory", "256M", "--kernel", kernel / "vmlinuz",
                       "--initrd", scratch / "initrd", "--append", "console=ttyS0 quiet panic=-1"])
        try:
            guest.line(b"clock is ready")
            first = guest.best()
            end = time.monotonic() + arguments.seconds
            while time.monotonic() < end:
                time.sleep(min(60, max(0, end - time.monotonic())))
            last = guest.best()
        finally:
            guest.process.kill()
            guest.process.wait()
    passed = last[0] - first[0]
    doubt = (first[1] + last[1]) / passed * 1e6
    worst = 0
    for name, index in (("monotonic", 2), ("real time", 3)):
        drift = (last[index] - first[index] - passed) / passed * 1e6
        worst = max(worst, abs(drift))
        print(f"{name}: {drift:+.2f} ppm over {passed / 1e9:.0f} s, to within {doubt:.2f} ppm")
    raise SystemExit(0 if worst + doubt < 100 else 1)


main()
