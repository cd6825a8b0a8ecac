#!/usr/bin/env python3
"""Runs a command inside a small Linux machine that has a real KVM, on any host.

The outer machine is Debian's qemu-system-x86 without acceleration (its processor has SVM) with Debian's kernel and kvm-amd.
All its processors run on one thread of the host: with a thread each, QEMU before 8.1 may keep a translation of code that
another processor was just overwriting, and an outer kernel that patches its own code (as KVM makes it, whenever the first
machine is created or the last one goes) then meets a breakpoint that is no longer there, for ever.
Everything that the command needs is packed into an initial ram disk, so nothing is shared and nothing can hang on a file
system. The kernel comes out of Debian's package without installing it; it is kept in the cache directory by version.

  run_nested.py --cache DIR [--file SOURCE[:TARGET]]… [--tsc-rate PROGRAM] [--with-kernel] [--timeout SECONDS] [--processors N] [--memory MiB] -- COMMAND…
  run_nested.py --cache DIR --host-files … -- COMMAND…

Programs given with --file bring their shared libraries along. With --host-files the command runs among all of the host's files
instead, in the folder where this was started: it can read each, what it writes stays in the machine's memory, and it has the
host's network through QEMU's NAT. The exit status is the command's; 97 when the machine did not come up or ended without one.
"""
import argparse
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from debian_kernel import Failure, Kernel, run  # noqa: E402

KVM_MODULES = ["irqbypass", "kvm", "kvm-amd"]
HOST_FILES_MODULES = KVM_MODULES + ["virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_net", "tun"]
NO_STATUS = 97
STATUS_LINE = re.compile(r"^nested-status (\d+)\s*$")

INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /tmp /root
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev; mount -t proc none /proc; mount -t sysfs none /sys; mount -t tmpfs none /tmp
mkdir -p /dev/shm; mount -t tmpfs none /dev/shm
export HOME=/root XDG_RUNTIME_DIR=/tmp TMPDIR=/tmp
for module in {modules}; do insmod /modules/$module.ko || echo "nested: $module does not load"; done
ip link set lo up
cd /work
{command}
echo "nested-status $?"
poweroff -f
"""

# The host's files with a layer of the machine's own over them. 10.0.9.0/24, for machines inside have QEMU's usual 10.0.2.0/24.
HOST_FILES = """\
mkdir -p /lower /layer /host
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose host /lower
mount -t tmpfs -o size=90% none /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work none /host
for folder in dev proc sys; do mount --rbind /$folder /host/$folder; done
mkdir -p /dev/pts; mount -t devpts none /dev/pts
for folder in tmp run; do mount -t tmpfs none /host/$folder; done
ip link set eth0 up; ip address add 10.0.9.15/24 dev eth0; ip route add default via 10.0.9.2
rm -f /host/etc/resolv.conf; echo nameserver 10.0.9.3 > /host/etc/resolv.conf
chroot /host /usr/bin/env -i --chdir={folder} HOME={home} USER={user} PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin XDG_RUNTIME_DIR=/tmp {command}"""


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


def build_ramdisk(kernel, files, command):
    archive = Archive()
    for name in ("dev", "proc", "sys", "tmp", "bin", "root", "work"):
        archive.directory(name)
    archive.entry("dev/console", 0o020600)
    busybox = shutil.which("busybox")
    if busybox is None:
        raise Failure("busybox is not installed (package busybox-static)")
    archive.file("bin/busybox", pathlib.Path(busybox).read_bytes())
    for module in kernel.modules:
        archive.file(f"modules/{module.name}", module.read_bytes())
    wanted = [(busybox, "bin/busybox")]
    for item in files:
        source, _, target = item.partition(":")
        wanted.append((source, "work/" + (target or os.path.basename(source))))
    for source, target in wanted:
        archive.file(target, pathlib.Path(source).read_bytes())
        for library in libraries(source):
            archive.file(library, pathlib.Path(library).read_bytes())
    modules = " ".join(module.stem for module in kernel.modules)
    archive.file("init", INIT.format(modules=modules, command=command).encode())
    return archive.bytes()


def boot(kernel, ramdisk, arguments):
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
        "-kernel", str(kernel.image), "-initrd", ramdisk,
        "-append", " ".join(parameters),
    ]
    if arguments.host_files:
        command += ["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap", "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
                    "-netdev", "user,id=net,net=10.0.9.0/24", "-device", "virtio-net-pci,netdev=net,romfile="]
    if "NESTED_MONITOR" in os.environ:  # a socket for QEMU's monitor, to look at a machine that stands
        command += ["-monitor", f"unix:{os.environ['NESTED_MONITOR']},server=on,wait=off"]
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
    parser.add_argument("--host-files", action="store_true", help="runs the command among the host's files")
    parser.add_argument("--with-kernel", action="store_true", help="puts the kernel itself into /work as vmlinuz")
    parser.add_argument("--timeout", type=float, default=170, help="seconds that it may take")
    parser.add_argument("--tsc-rate", metavar="PROGRAM", help="prints the host's TSC rate in kHz")
    parser.add_argument("--processors", type=int, default=2)
    parser.add_argument("--memory", type=int, default=1024)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    try:
        command = shlex.join(arguments.command)
        if arguments.host_files:  # 9p is in Debian's full kernel only
            kernel = Kernel(arguments.cache, "linux-image-amd64", HOST_FILES_MODULES)
            command = HOST_FILES.format(folder=shlex.quote(os.getcwd()), home=shlex.quote(os.path.expanduser("~")),
                                        user=shlex.quote(os.environ.get("USER", "root")), command=command)
        else:
            kernel = Kernel(arguments.cache, "linux-image-cloud-amd64", KVM_MODULES)
        with tempfile.NamedTemporaryFile(prefix="nested-", suffix=".cpio") as ramdisk:
            ramdisk.write(build_ramdisk(kernel, arguments.file + ([str(kernel.image)] if arguments.with_kernel else []), command))
            ramdisk.flush()
            return boot(kernel, ramdisk.name, arguments)
    except (Failure, OSError) as error:
        print(f"nested: {error}")
        return NO_STATUS


if __name__ == "__main__":
    sys.exit(main())
