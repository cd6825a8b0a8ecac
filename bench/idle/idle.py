#!/usr/bin/env python3
"""What a machine costs that does nothing: processor time of its process, and memory beyond the guest's.

  idle.py BYGONE CACHE [--engine NAME] [--cpus N] [--seconds 20]

Boots Debian's kernel for clouds with its bus, disk, network, screen, keyboard, mouse and integration drivers to a shell that waits, lets it
settle, and looks at the process: utime and stime over --seconds; and the resident pages of everything but guest memory (the mappings of
"bygone-ram"), shared ones by their share (Pss).
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/machine")]
import guest_files  # noqa: E402

MODULES = ["hv_vmbus", "hv_storvsc", "hv_utils", "hv_balloon", "hv_netvsc", "hyperv_drm", "hyperv-keyboard", "hid-hyperv", "sd_mod", "wdat_wdt", "vmgenid", "rtc-cmos"]
INIT = """
ifconfig eth0 up 2>/dev/null
echo "guest is up"
exec sh
"""


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid):
    """Kibibytes: guest memory that is there, all else, and the largest parts of the latter."""
    guest, parts = 0, {}
    name = ""
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            fields = line.split(None, 5)
            name = fields[5] if len(fields) > 5 else "anonymous"
        elif line.startswith("Pss:"):
            size = int(line.split()[1])
            if "bygone-ram" in name:
                guest += size
            else:
                parts[name] = parts.get(name, 0) + size
    return guest, sum(parts.values()), sorted(parts.items(), key=lambda part: -part[1])[:6]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bygone", type=pathlib.Path)
    parser.add_argument("cache")
    parser.add_argument("--engine", default="software")
    parser.add_argument("--cpus", default="1")
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    kernel = guest_files.kernel(arguments.cache)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        guest_files.initrd(scratch / "initrd", kernel, INIT, MODULES)
        with open(scratch / "disk.raw", "wb") as disk:
            disk.truncate(64 << 20)
        machine = guest_files.Console(
            [arguments.bygone, "boot", "--engine", arguments.engine, "--memory", "512M", "--cpus", arguments.cpus, "--kernel", kernel / "vmlinuz",
             "--initrd", scratch / "initrd", "--append", "console=ttyS0 quiet panic=-1", "--disk", scratch / "disk.raw", "--network", "nat"], scratch / "log",
            stdin=subprocess.PIPE)
        try:
            machine.wait_for("guest is up", 300)
            time.sleep(10)
            pid = machine.process.pid
            before, start = processor_seconds(pid), time.monotonic()
            time.sleep(arguments.seconds)
            used = (processor_seconds(pid) - before) / (time.monotonic() - start)
            guest, other, parts = memory(pid)
        finally:
            machine.kill()
    print(f"idle: {used * 100:.2f} % of a core")
    print(f"memory beyond the guest's: {other / 1024:.1f} MiB (the guest has touched {guest / 1024:.0f} MiB)")
    for name, size in parts:
        print(f"  {size / 1024:6.1f} MiB {name}")


main()
