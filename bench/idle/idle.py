#!/usr/bin/env python3
"""What a machine costs that does nothing: processor time of its process, and memory beyond the guest's.

  idle.py BYGONE CACHE [--engine NAME] [--nested] [--cpus N] [--seconds 20]

Boots Debian's kernel for clouds with its bus, disk, network, screen, keyboard, mouse and integration drivers to a shell that waits, lets it
settle, and looks at the process: utime and stime over --seconds; and the resident pages of everything but guest memory (the mappings that
are left out of forks and dumps), shared ones by their share (Pss).

With --nested on KVM inside the machine of tests/nested: its one processor is emulated, so the memory is what is measured there.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/machine")]
import guest_files  # noqa: E402

MODULES = ["hv_vmbus", "hv_storvsc", "hv_utils", "hv_balloon", "hv_netvsc", "hyperv_drm", "hyperv-keyboard", "hid-hyperv", "sd_mod", "wdat_wdt", "vmgenid", "rtc-cmos"]
INIT = """
ifconfig eth0 up 2>/dev/null
echo "guest is up"
exec sh
"""

# A shell is all that there is in the nested machine. $1: seconds; then the machine's command.
WATCH = """#!/bin/sh
seconds=$1; shift
mkfifo in
sleep 100000 > in & holder=$!
"$@" < in > out 2>&1 & pid=$!
until grep -q "guest is up" out; do
  kill -0 $pid 2>/dev/null || { cat out; exit 1; }
  sleep 0.2
done
sleep 10
echo "before $(cat /proc/uptime) $(cat /proc/$pid/stat)"
sleep $seconds
echo "after $(cat /proc/uptime) $(cat /proc/$pid/stat)"
echo "smaps begin"
cat /proc/$pid/smaps
echo "smaps end"
kill -9 $pid $holder
"""


def processor_seconds(stat):
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(smaps):
    """Kibibytes: guest memory that is there, all else, and the largest parts of the latter."""
    guest, size, parts = 0, 0, {}
    name = ""
    for line in smaps.splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            fields = line.split(None, 5)
            name = fields[5] if len(fields) > 5 else "anonymous"
        elif line.startswith("Pss:"):
            size = int(line.split()[1])
        elif line.startswith("VmFlags:"):  # the last line of a mapping
            if {"dc", "dd"} <= set(line.split()):
                guest += size
            else:
                parts[name] = parts.get(name, 0) + size
    return guest, sum(parts.values()), sorted(parts.items(), key=lambda part: -part[1])[:6]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bygone", type=pathlib.Path)
    parser.add_argument("cache")
    parser.add_argument("--engine", default="software")
    parser.add_argument("--nested", action="store_true")
    parser.add_argument("--cpus", default="1")
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    kernel = guest_files.kernel(arguments.cache).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        guest_files.initrd(scratch / "initrd", kernel, INIT, MODULES)
        with open(scratch / "disk.raw", "wb") as disk:
            disk.truncate(64 << 20)
        (scratch / "watch").write_text(WATCH)
        (scratch / "watch").chmod(0o755)
        files = {scratch / "watch": "watch", arguments.bygone.resolve(): "bygone", kernel / "vmlinuz": "vmlinuz", scratch / "initrd": "initrd",
                 scratch / "disk.raw": "disk.raw"}

        def command(watch, bygone, vmlinuz, initrd, disk, engine):
            return [watch, arguments.seconds, bygone, "boot", "--engine", engine, "--memory", "512M", "--cpus", arguments.cpus, "--kernel", vmlinuz,
                    "--initrd", initrd, "--append", "console=ttyS0 quiet panic=-1", "--disk", disk, "--network", "nat"]

        if arguments.nested:
            outer = guest_files.nested(TOP / "build/nested-kernel", arguments.bygone, files, command(*(f"./{name}" for name in files.values()), "kvm"))
        else:
            outer = command(*files, arguments.engine)
        done = subprocess.run([str(part) for part in outer], stdout=subprocess.PIPE, text=True, cwd=scratch)
    text = done.stdout.replace("\r", "")
    looks = dict(re.findall(r"^(before|after) (.*)$", text, re.M))
    smaps = re.search(r"^smaps begin\n(.*?)^smaps end$", text, re.M | re.S)
    if done.returncode != 0 or len(looks) != 2 or not smaps:
        raise SystemExit(f"no measurement (status {done.returncode}):\n{text[-3000:]}")
    used = processor_seconds(looks["after"]) - processor_seconds(looks["before"])
    passed = float(looks["after"].split()[0]) - float(looks["before"].split()[0])
    guest, other, parts = memory(smaps[1])
    print(f"idle: {used / passed * 100:.2f} % of a core")
    print(f"memory beyond the guest's: {other / 1024:.1f} MiB (the guest has touched {guest / 1024:.0f} MiB)")
    for name, size in parts:
        print(f"  {size / 1024:6.1f} MiB {name}")


main()
