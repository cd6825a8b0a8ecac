#!/usr/bin/env python3
"""How long from the start of the process to the first line of /init: Bygone beside QEMU's q35 and microvm machines, the same kernel
(Debian's for clouds), initial RAM disk, memory and command line for all.

  boot_time.py BYGONE CACHE [--runs N] [--nested]

Without --nested on software processors: Bygone's own and QEMU's TCG. With it, all of them on KVM inside the machine of tests/nested,
which has one processor that QEMU emulates: there only the ratios mean something. The machines take turns; the least of the runs counts,
the median is printed with it. Needs qemu-system-x86_64, busybox and, for the kernel, Debian's packages.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/machine"), str(TOP / "tests/nested")]
import guest_files  # noqa: E402

MEMORY_MEBIBYTES = 512
COMMAND_LINE = "console=ttyS0 quiet panic=-1"
FIRST_LINE = "init: the first line"
LIMIT_SECONDS = 300

# Runs inside the nested machine, where there is no Python: the uptime before and after, in hundredths of a second.
NESTED_SCRIPT = """#!/bin/sh
runs=$1
for run in $(seq $runs); do
  for machine in bygone q35 microvm; do
    read before rest < /proc/uptime
    mkfifo out
    case $machine in
    bygone) ./bygone boot --engine kvm --memory %(memory)dM --kernel kernel --initrd initrd --append "%(append)s" < /dev/null > out 2>err & ;;
    q35) ./qemu -L . -nodefaults -no-user-config -display none -M q35,accel=kvm -cpu host -m %(memory)d -no-reboot -serial stdio -kernel kernel -initrd initrd -append "%(append)s" < /dev/null > out 2>err & ;;
    microvm) ./qemu -L . -nodefaults -no-user-config -display none -M microvm,accel=kvm -cpu host -m %(memory)d -no-reboot -serial stdio -kernel kernel -initrd initrd -append "%(append)s" < /dev/null > out 2>err & ;;
    esac
    pid=$!
    after=
    while read -r line; do
      case $line in *"%(first)s"*) read after rest < /proc/uptime; break ;; esac
    done < out
    kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null
    rm out
    [ -n "$after" ] || { echo "$machine did not boot"; cat err; exit 1; }
    echo "measured $machine $before $after"
  done
done
"""


def machines(bygone, kernel, initrd):
    qemu = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-cpu", "max", "-m", str(MEMORY_MEBIBYTES), "-no-reboot",
            "-serial", "stdio", "-kernel", kernel, "-initrd", initrd, "-append", COMMAND_LINE]
    return {
        "bygone": [bygone, "boot", "--engine", "software", "--memory", f"{MEMORY_MEBIBYTES}M", "--kernel", kernel, "--initrd", initrd,
                   "--append", COMMAND_LINE],
        "q35": [*qemu, "-M", "q35,accel=tcg"],
        # With ACPI Linux finds no timer on it that TCG has, and hangs.
        "microvm": [*qemu, "-M", "microvm,acpi=off,accel=tcg"],
    }


def time_to_init(command):
    start = time.monotonic()
    with subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        output = b""
        try:
            while time.monotonic() - start < LIMIT_SECONDS:
                data = os.read(process.stdout.fileno(), 4096)
                output += data
                if FIRST_LINE.encode() in output:
                    return time.monotonic() - start
                if not data:
                    break
        finally:
            process.kill()
    raise SystemExit(f"no /init ran: {' '.join(map(str, command))}\n{output[-500:]!r}")


def measure_here(bygone, kernel, initrd, runs):
    commands = machines(bygone, kernel, initrd)
    times = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            times[name].append(time_to_init(command))
            print(f"  {name} {times[name][-1]:.2f} s", flush=True)
    return times


def measure_nested(bygone, kernel, initrd, runs, scratch):
    script = scratch / "measure.sh"
    script.write_text(NESTED_SCRIPT % {"memory": MEMORY_MEBIBYTES, "append": COMMAND_LINE, "first": FIRST_LINE})
    files = [f"{script}:measure.sh", f"{bygone}:bygone", "/usr/bin/qemu-system-x86_64:qemu", f"{kernel}:kernel", f"{initrd}:initrd"]
    for rom in ("seabios/bios-256k.bin", "seabios/bios-microvm.bin", "qemu/linuxboot_dma.bin", "qemu/kvmvapic.bin", "qemu/qboot.rom", "qemu/bios-microvm.bin"):
        path = pathlib.Path("/usr/share") / rom
        if path.exists():
            files.append(f"{path}:{path.name}")
    command = [sys.executable, TOP / "tests/nested/run_nested.py", "--cache", TOP / "build/nested-kernel", "--processors", "1", "--memory", "2048",
               "--timeout", "1200"]
    rate = pathlib.Path(bygone).parents[1] / "tests/tsc_rate"
    for candidate in (rate, pathlib.Path(bygone).parent / "tsc_rate"):
        if candidate.exists():
            command += ["--tsc-rate", candidate]
            break
    for file in files:
        command += ["--file", file]
    times = {"bygone": [], "q35": [], "microvm": []}
    with subprocess.Popen([str(part) for part in [*command, "--", "sh", "./measure.sh", str(runs)]], stdout=subprocess.PIPE, text=True) as outer:
        output = ""
        for line in outer.stdout:
            output += line
            words = line.split()
            if words[:1] == ["measured"]:
                times[words[1]].append(float(words[3]) - float(words[2]))
                print(f"  {words[1]} {times[words[1]][-1]:.2f} s", flush=True)
    if outer.returncode != 0 or not all(times.values()):
        raise SystemExit(output)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bygone", type=pathlib.Path)
    parser.add_argument("cache", type=pathlib.Path, help="where the kernel is kept")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--nested", action="store_true")
    arguments = parser.parse_args()
    kernel = guest_files.kernel(arguments.cache, "cloud-amd64")
    with tempfile.TemporaryDirectory(prefix="bygone-bench-") as scratch:
        scratch = pathlib.Path(scratch)
        guest_files.initrd(scratch / "initrd", kernel, "", head=f'#!/bin/busybox sh\necho "{FIRST_LINE}"\nexec /bin/busybox sleep 1000\n')
        if arguments.nested:
            times = measure_nested(arguments.bygone, kernel / "vmlinuz", scratch / "initrd", arguments.runs, scratch)
        else:
            times = measure_here(arguments.bygone, kernel / "vmlinuz", scratch / "initrd", arguments.runs)
    best = min(min(seconds) for name, seconds in times.items() if name != "bygone")
    for name, seconds in times.items():
        print(f"{name}: least {min(seconds):.2f} s, median {statistics.median(seconds):.2f} s of {len(seconds)}")
    print(f"bygone takes {min(times['bygone']) / best:.2f} of the best other's time")


main()
