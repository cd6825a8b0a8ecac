#!/usr/bin/env python3
"""How long from the start of the process to a boot loader's first instruction: Bygone, and OVMF under QEMU beside it.

Usage: boot_time.py BYGONE FIRMWARE HELLO_EFI [RUNS] [--kvm | --exits]
Both machines run on a software processor, or with --kvm on the KVM of the nested machine (tests/nested), boot the same disk, take
turns, and count when COM1 says "hello". Needs mtools; OVMF (/usr/share/ovmf/OVMF.fd) and qemu-system-x86_64 for the comparison;
--kvm also time_to_text and tsc_rate beside BYGONE. Prints the median and the least of RUNS (default 5). --exits measures no time: it
counts, on the same KVM, how often each cause makes the processor leave the guest until then.
"""
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

OVMF = "/usr/share/ovmf/OVMF.fd"
LIMIT_SECONDS = 120


def make_disk(folder, program):
    image = folder / "disk.img"
    with open(image, "wb") as file:
        file.truncate(8 << 20)
    for command in (["mformat", "-i", image, "::"], ["mmd", "-i", image, "::/EFI", "::/EFI/BOOT"],
                    ["mcopy", "-i", image, program, "::/EFI/BOOT/BOOTX64.EFI"]):
        subprocess.run(command, check=True)
    return str(image)


def time_to_hello(command):
    start = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        output = b""
        try:
            while time.monotonic() - start < LIMIT_SECONDS:
                data = os.read(process.stdout.fileno(), 4096)
                output += data
                if b"hello: on COM1" in output:
                    return time.monotonic() - start
                if not data:
                    break
        finally:
            process.kill()
    raise SystemExit(f"no boot loader ran: {' '.join(command)}\n{output[-500:]!r}")


def report(times):
    for name, seconds in times.items():
        print(f"{name}: median {statistics.median(seconds):.2f} s, least {min(seconds):.2f} s of {len(seconds)}")


def measure_here(bygone, firmware, disk, runs):
    machines = {"Bygone, software processor": [bygone, "boot", "--firmware", firmware, "--engine", "software",
                                               "--memory", "512M", "--disk", disk]}
    if os.path.exists(OVMF):
        machines["OVMF, QEMU TCG"] = ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-m", "512", "-display", "none",
                                      "-bios", OVMF, "-net", "none", "-serial", "stdio", "-monitor", "none",
                                      "-drive", f"format=raw,file={disk}"]
    times = {name: [] for name in machines}
    for _ in range(runs):
        for name, command in machines.items():
            times[name].append(time_to_hello(command))
    report(times)


def run_in_nested_machine(bygone, firmware, disk, script, *arguments, files=()):
    """What the script, from beside this file, prints there."""
    top = pathlib.Path(__file__).resolve().parents[2]
    programs = pathlib.Path(bygone).resolve().parent
    files = [bygone, programs / "time_to_text", f"{firmware}:bygone.fd", f"{disk}:disk.img", *files,
             pathlib.Path(__file__).resolve().with_name(script)]
    return subprocess.run(
        [sys.executable, top / "tests/nested/run_nested.py", "--cache", top / "build/nested-kernel", "--tsc-rate", programs / "tsc_rate",
         "--processors", "1", "--memory", "2048", "--timeout", "900", *(word for file in files for word in ("--file", file)),
         "--", "sh", f"./{script}", *arguments], stdout=subprocess.PIPE, text=True, check=False).stdout


def measure_in_nested_machine(bygone, firmware, disk, runs):
    output = run_in_nested_machine(bygone, firmware, disk, "boot_time_kvm.sh", str(runs),
                                   files=(OVMF, "/usr/bin/qemu-system-x86_64", "/usr/share/qemu/kvmvapic.bin"))
    labels = {"program": "`bygone --version` in the nested machine", "bygone": "Bygone, KVM in the nested machine",
              "huge": "Bygone, the same with --huge-pages",
              "ovmf": "OVMF, QEMU on the same KVM"}
    times = {}
    for line in output.splitlines():
        name, _, milliseconds = line.partition(" ")
        if name in labels and milliseconds.isdigit():
            times.setdefault(labels[name], []).append(int(milliseconds) / 1000)
    report(times)
    for label in labels.values():
        if label not in times:
            raise SystemExit(f"{label}: not measured. The nested machine's end:\n{output[-1500:]}")


def main(bygone, firmware, hello, *options):
    runs = next((int(option) for option in options if option.isdigit()), 5)
    with tempfile.TemporaryDirectory(prefix="bygone-bench-") as folder:
        disk = make_disk(pathlib.Path(folder), hello)
        if "--exits" in options:
            print(run_in_nested_machine(bygone, firmware, disk, "exits_kvm.sh"), end="")
        else:
            (measure_in_nested_machine if "--kvm" in options else measure_here)(bygone, firmware, disk, runs)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
