#!/usr/bin/env python3
"""Runs a command inside a small Linux machine that has a real KVM, on any host.

The outer machine is Debian's qemu-system-x86 without acceleration (its processor has SVM) with Debian's kernel and kvm-amd.
All its processors run on one thread of the host: with a thread each, QEMU before 8.1 may keep a translation of code that
another processor was just overwriting, and an outer kernel that patches its own code (as KVM makes it, whenever the first
machine is created or the last one goes) then meets a breakpoint that is no longer there, for ever.
Everything that the command needs is packed into an initial ram disk, so nothing is shared and nothing can hang on a file
system. The kernel comes out of Debian's package without installing it; it is kept in the cache directory by version.

  run_nested.py --cache DIR [--file SOURCE[:TARGET]]… [--tsc-rate PROGRAM] [--with-kernel] [--timeout SECONDS] [--processors N] [--memory MiB] -- COMMAND…

Programs given with --file bring their shared libraries along. The exit status is the command's; 97 when the machine did not
come up or ended without a status.
"""
import argparse
import fcntl
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading

PACKAGE = "linux-image-cloud-amd64"
MODULES = ["virt/lib/irqbypass.ko", "arch/x86/kvm/kvm.ko", "arch/x86/kvm/kvm-amd.ko"]
NO_STATUS = 97
STATUS_LINE = re.compile(r"^nested-status (\d+)\s*$")

INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /tmp /root
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev; mount -t proc none /proc; mount -t sysfs none /sys; mount -t tmpfs none /tmp
mkdir -p /dev/shm; mount -t tmpfs none /dev/shm
export HOME=/root XDG_RUNTIME_DIR=/tmp TMPDIR=/tmp
for module in irqbypass kvm kvm-amd; do insmod /modules/$module.ko || echo "nested: $module does not load"; done
ip link set lo up
cd /work
{command}
echo "nested-status $?"
poweroff -f
"""


class Failure(Exception):
    pass


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise Failure(f"{shlex.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def newest_kernel_package():
    """The name of the package that the meta package stands for, such as linux-image-6.1.0-56-cloud-amd64."""
    listing = run("apt-cache", "depends", PACKAGE)
    match = re.search(r"Depends: (linux-image-\S+)", listing)
    if not match:
        raise Failure(f"apt-cache knows no {PACKAGE}: run apt-get update")
    return match[1]


def cached_kernel(cache):
    """A directory with vmlinuz and all of MODULES in modules/, or None."""
    found = sorted(cache.glob("linux-image-*/complete"), key=lambda path: path.stat().st_mtime)
    found = [path.parent for path in found if all((path.parent / "modules" / os.path.basename(module)).exists() for module in MODULES)]
    return found[-1] if found else None


def fetch_kernel(cache):
    name = newest_kernel_package()
    target = cache / name
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        scratch = pathlib.Path(scratch)
        run("apt-get", "-o", "APT::Sandbox::User=", "download", name, cwd=scratch)
        package = next(scratch.glob("*.deb"))
        run("dpkg-deb", "-x", str(package), str(scratch / "tree"))
        modules = next((scratch / "tree/lib/modules").iterdir()) / "kernel"
        shutil.rmtree(target, ignore_errors=True)
        (target / "modules").mkdir(parents=True)
        shutil.copy(next((scratch / "tree/boot").glob("vmlinuz-*")), target / "vmlinuz")
        for module in MODULES:
            shutil.copy(modules / module, target / "modules")
    (target / "complete").touch()
    return target


def kernel(cache):
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = cached_kernel(cache)
        if found:
            return found
        try:
            return fetch_kernel(cache)
        except Failure:
            run("apt-get", "update", "-qq")
            return fetch_kernel(cache)


def libraries(program):
    """The shared libraries of a dynamic program, as absolute paths."""
    with open(program, "rb") as file:
        if file.read(4) != b"\x7fELF":
            return []
    done = subprocess.run(["ldd", program], capture_output=True, text=True)
    if done.returncode != 0:
        return []
    missing = re.findall(r"(\S+) => not found", done.stdout)
    if missing:
        raise Failure(f"{program} needs {', '.join(missing)}")
    return re.findall(r"(/\S+) \(0x", done.stdout)


class Archive:
    """A cpio archive in the "newc" format, which the kernel unpacks."""

    def __init__(self):
        self.parts = []
        self.inode = 0
        self.made = set()

    def entry(self, name, mode, body=b""):
        self.inode += 1
        encoded = name.encode() + b"\0"
        fields = [self.inode, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(encoded), 0]
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (header + encoded, body):
            self.parts.append(part + b"\0" * (-len(part) % 4))

    def directory(self, path):
        if path in ("", ".", "/") or path in self.made:
            return
        self.directory(os.path.dirname(path))
        self.made.add(path)
        self.entry(path, 0o040755)

    def file(self, path, body, mode=0o755):
        path = path.lstrip("/")
        if path in self.made:
            return
        self.directory(os.path.dirname(path))
        self.made.add(path)
        self.entry(path, 0o100000 | mode, body)

    def bytes(self):
        self.entry("TRAILER!!!", 0)
        data = b"".join(self.parts)
        return data + b"\0" * (-len(data) % 512)


def build_ramdisk(kernel_directory, files, command):
    archive = Archive()
    for name in ("dev", "proc", "sys", "tmp", "bin", "root", "work"):
        archive.directory(name)
    archive.entry("dev/console", 0o020600)
    busybox = shutil.which("busybox")
    if busybox is None:
        raise Failure("busybox is not installed (package busybox-static)")
    archive.file("bin/busybox", pathlib.Path(busybox).read_bytes())
    for module in MODULES:
        name = os.path.basename(module)
        archive.file(f"modules/{name}", (kernel_directory / "modules" / name).read_bytes())
    wanted = [(busybox, "bin/busybox")]
    for item in files:
        source, _, target = item.partition(":")
        wanted.append((source, "work/" + (target or os.path.basename(source))))
    for source, target in wanted:
        archive.file(target, pathlib.Path(source).read_bytes())
        for library in libraries(source):
            archive.file(library, pathlib.Path(library).read_bytes())
    archive.file("init", INIT.format(command=shlex.join(command)).encode())
    return archive.bytes()


def boot(kernel_directory, ramdisk, arguments):
    """Runs the machine, copies its console to ours, and returns the status that it printed."""
    # no_timer_check: on a busy host no tick may come while the kernel looks whether the timer is connected, and it gives up.
    parameters = ["console=ttyS0", "quiet", "panic=-1", "nokaslr", "mitigations=off", "tsc=reliable", "random.trust_cpu=on",
                  # Its one thread of the host leaves processors waiting for long, and what is said of it would stand amid the command's output.
                  "rcupdate.rcu_cpu_stall_timeout=300",
                  "no_timer_check"]
    if arguments.tsc_rate:  # without acceleration QEMU's time stamp counter is the host's
        parameters.append(f"tsc_early_khz={run(arguments.tsc_rate).strip()}")
    command = [
        "qemu-system-x86_64", "-accel", "tcg,thread=single", "-machine", "q35", "-cpu", "max,erms=off,fsrm=off",
        "-smp", str(arguments.processors), "-m", str(arguments.memory),
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
        "-kernel", str(kernel_directory / "vmlinuz"), "-initrd", ramdisk,
        "-append", " ".join(parameters),
    ]
    machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    timer = threading.Timer(arguments.timeout, machine.kill)
    timer.start()
    status = None
    try:
        for raw in machine.stdout:
            line = raw.decode(errors="replace").rstrip("\r\n")
            match = STATUS_LINE.match(line)
            if match:
                status = int(match[1])
            else:
                print(line, flush=True)
        machine.wait()
    finally:
        timed_out = not timer.is_alive()
        timer.cancel()
        machine.kill()
    if status is None:
        print(f"nested: no status{f' within {arguments.timeout} s' if timed_out else ''}", flush=True)
        return NO_STATUS
    return status


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--file", action="append", default=[])
    parser.add_argument("--with-kernel", action="store_true", help="puts the kernel itself into /work as vmlinuz")
    parser.add_argument("--timeout", type=float, default=170, help="seconds that it may take")
    parser.add_argument("--tsc-rate", metavar="PROGRAM", help="prints the host's TSC rate in kHz")
    parser.add_argument("--processors", type=int, default=2)
    parser.add_argument("--memory", type=int, default=1024)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    try:
        kernel_directory = kernel(arguments.cache)
        with tempfile.NamedTemporaryFile(prefix="nested-", suffix=".cpio") as ramdisk:
            kernel_file = [f"{kernel_directory}/vmlinuz"] if arguments.with_kernel else []
            ramdisk.write(build_ramdisk(kernel_directory, arguments.file + kernel_file, arguments.command))
            ramdisk.flush()
            return boot(kernel_directory, ramdisk.name, arguments)
    except (Failure, OSError) as error:
        print(f"nested: {error}")
        return NO_STATUS


if __name__ == "__main__":
    sys.exit(main())
