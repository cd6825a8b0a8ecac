#!/usr/bin/env python3
"""Runs bench/cpu/workloads.c natively, on the software CPU and under QEMU's TCG, and prints the ratios.

    bench/cpu/compare.py --kernel VMLINUZ [--bygone build/release/bin/bygone] [--rounds N] [--without-qemu] [--markdown]

The three run in turns on the same machine with the same kernel; every number is the best of many short runs in --rounds turns. Then: how
long the kernel takes from the machine's start to init, and how much more two processes on two processors do than one. Needs
gcc, a static busybox, cpio and, for the comparison, qemu-system-x86_64.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
echo BENCH-INIT
for word in $(/bin/busybox cat /proc/cmdline); do
  case $word in run=*) /workloads ${word#run=} ;; esac
done
/bin/busybox poweroff -f
"""


def build(folder):
    """The workloads as a static program, and an initial RAM disk that runs them."""
    program = folder / "workloads"
    subprocess.run(["gcc", "-O2", "-static", "-o", program, HERE / "workloads.c"], check=True)
    busybox = shutil.which("busybox")
    if busybox is None:
        sys.exit("compare.py: busybox is missing (package busybox-static)")
    root = folder / "root"
    for name in ("bin", "proc", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    shutil.copy(program, root / "workloads")
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*"))) + "\n"
    disk = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=names.encode(), capture_output=True, check=True)
    (folder / "initrd").write_bytes(disk.stdout)
    return program, folder / "initrd"


def measure(command, limit):
    """Workload → nanoseconds an iteration, from the lines the workloads print; "boot": until the guest's init spoke."""
    result = {}
    said = []
    start = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        stop = threading.Timer(limit, process.kill)
        stop.start()
        for raw in process.stdout:
            line = raw.decode(errors="replace")
            said.append(line)
            words = line.split()
            if words == ["BENCH-INIT"]:
                result["boot"] = (time.monotonic() - start) * 1e9
            elif len(words) == 3 and words[0] == "BENCH":
                result[words[1]] = float(words[2])
        stop.cancel()
    if not result:
        sys.exit(f"compare.py: no results from {command[0]}:\n{''.join(said)[-2000:]}")
    return result


def best(runs):
    """The least of each figure."""
    result = {}
    for run in runs:
        for name, value in run.items():
            result[name] = min(value, result.get(name, value))
    return result


def gain(times):
    return 2 * times["one-process"] / times["two-processes"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernel", required=True, help="a Linux kernel (bzImage)")
    parser.add_argument("--bygone", default="build/release/bin/bygone")
    parser.add_argument("--without-qemu", action="store_true")
    parser.add_argument("--markdown", action="store_true", help="a table for docs/software-cpu.md")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--limit", type=int, default=600, help="seconds that one of the runs may take")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        program, disk = build(folder)

        def on_linux(machine):
            """What runs the workloads as a guest's init: `machine` gives the command for a number of processors and a kernel's parameters."""
            return lambda what, processors: machine(processors, f"console=ttyS0 quiet panic=-1 run={what}")

        here = {"natively": lambda what, processors: [program, what], "on the software CPU": on_linux(lambda processors, append: [
            arguments.bygone, "boot", "--engine", "software", "--memory", "512M", "--cpus", str(processors), "--kernel", arguments.kernel,
            "--initrd", disk, "--append", append])}
        if not arguments.without_qemu:
            here["on the QEMU TCG"] = on_linux(lambda processors, append: [
                "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-m", "512", "-smp", str(processors), "-nodefaults", "-display", "none",
                "-serial", "stdio", "-no-reboot", "-kernel", arguments.kernel, "-initrd", disk, "-append", append])
        # In turns: what else keeps the computer busy for a while then meets all of them.
        runs = {who: [] for who in here}
        for _ in range(arguments.rounds):
            for who, command in here.items():
                runs[who] += [measure(command("all", 1), arguments.limit), measure(command("pair", 2), arguments.limit)]
                runs[who][-1].pop("boot", None)  # told of one processor
    results = {who: best(each) for who, each in runs.items()}
    native, ours, theirs = results["natively"], results["on the software CPU"], results.get("on the QEMU TCG", {})
    boots = [f"{times['boot'] / 1e9:.2f} s {who}" for who, times in results.items() if "boot" in times]
    gains = [f"{gain(times):.2f} {who}" for who, times in results.items()]
    for pair in ("one-process", "two-processes"):
        del native[pair]
    if arguments.markdown:
        print("| workload | native, ns | software CPU / native | QEMU TCG / native | TCG / software CPU |")
        print("| --- | --- | --- | --- | --- |")
    for workload, base in native.items():
        if workload not in ours:
            sys.exit(f"compare.py: {workload} did not run on the software CPU")
        cells = [workload, f"{base:.1f}", f"{ours[workload] / base:.2f}"]
        cells += [f"{theirs[workload] / base:.2f}", f"{theirs[workload] / ours[workload]:.2f}"] if workload in theirs else ["", ""]
        print("| " + " | ".join(cells) + " |" if arguments.markdown else "{:18} {:>14} {:>8} {:>8} {:>8}".format(*cells))
    print(f"\nFrom the machine's start to the guest's init: {', '.join(boots)}.")
    print(f"Two processes on two processors do as much as one does, times: {', '.join(gains)}.")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("LC_ALL", "C")
    sys.exit(main())
