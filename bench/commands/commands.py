#!/usr/bin/env python3
"""How long the commands take that only look, and going on from a saved state, with a machine that runs. Wanted: list, show and
status below 30 ms, start from a saved state below 3 s. Usage: commands.py BYGONE MACHINE [--count N]; the machine is saved and resumed.
Only a quiet computer measures anything.
"""
import argparse
import statistics
import subprocess
import sys
import time

WANTED_MS = {"list": 30, "show": 30, "status": 30, "start": 3000}


def milliseconds(*command):
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return 1000 * (time.perf_counter() - begin)


def report(name, times):
    median, wanted = statistics.median(times), WANTED_MS.get(name, float("inf"))
    print(f"{name:6} median {median:8.1f} ms   longest {max(times):8.1f} ms   ({len(times)} times){'' if median < wanted else f'   more than {wanted} ms'}")
    return median < wanted


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("machine")
    parser.add_argument("--count", type=int, default=50)
    options = parser.parse_args()
    looks = {name: (name, *([] if name == "list" else [options.machine])) for name in ("list", "show", "status")}
    good = True
    for name, words in looks.items():
        good &= report(name, [milliseconds(options.program, *words) for _ in range(options.count)])
    saves, starts = [], []
    for _ in range(5):
        saves.append(milliseconds(options.program, "save", options.machine))
        starts.append(milliseconds(options.program, "start", options.machine))
    report("save", saves)
    good &= report("start", starts)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
