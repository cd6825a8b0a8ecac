#!/usr/bin/env python3
"""Boots Debian's cloud kernel, unmodified, on `bygone boot` and has it use its network.

The guest loads hv_netvsc, gets its address by DHCP, pings its router, fetches a Debian package (its own kernel's) from a web
server of this test's on the host, and serves a page that the host fetches through a port forward. The capture of all that is
looked at too.

Usage: guest_network_test.py --bygone PROGRAM --cache DIRECTORY [--engine NAME] [--url URL]
--url names something else to fetch, such as a package on Debian's mirror by the address of its server; its SHA-256 is printed.
"""
import argparse
import fcntl
import hashlib
import http.server
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

PACKAGE = "linux-image-cloud-amd64"
MODULES = ["drivers/hv/hv_vmbus.ko", "drivers/net/hyperv/hv_netvsc.ko"]
LIMIT = 500  # seconds; a quiet host needs 30

INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev
insmod /modules/hv_vmbus.ko; insmod /modules/hv_netvsc.ko
for i in $(seq 1000); do [ -d /sys/class/net/eth0 ] && break; sleep 0.1; done
ip link set lo up; ip link set eth0 up
udhcpc -i eth0 -t 100 -n -q -s /udhcpc
echo "result: address $(ip -4 -o addr show eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/') mac $(cat /sys/class/net/eth0/address)"
ping -q -c 3 10.0.2.2 | grep -o '[0-9]* packets received' | sed 's/^/result: /'
echo "result: sha256 $(wget -q -O - @URL@ | sha256sum)"
mkdir /www; echo "a page of the guest" > /www/page
httpd -p 80 -h /www
echo "result: serving"
for i in $(seq 300); do [ -e /www/fetched ] && break; netstat -tn | grep -q ':80 .*TIME_WAIT\\|:80 .*CLOSE' && touch /www/fetched; sleep 0.1; done
echo "result: frames $(cat /sys/class/net/eth0/statistics/rx_packets) errors $(cat /sys/class/net/eth0/statistics/rx_errors) $(cat /sys/class/net/eth0/statistics/tx_errors)"
ip link set eth0 down
rmmod hv_netvsc && insmod /modules/hv_netvsc.ko
for i in $(seq 1000); do [ -d /sys/class/net/eth0 ] && break; sleep 0.1; done
ip link set eth0 up
udhcpc -i eth0 -t 100 -n -q -s /udhcpc > /dev/null 2>&1 && ping -q -c 1 10.0.2.2 > /dev/null && echo "result: again"
poweroff -f
"""
UDHCPC = """#!/bin/busybox sh
[ "$1" = bound ] || exit 0
ip addr add $ip/24 dev $interface; ip route add default via $router
for server in $dns; do echo "nameserver $server" > /etc/resolv.conf; done
"""


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def fetch_kernel(cache):
    """The directory of a kernel package: the package itself as package.deb, vmlinuz, modules/."""
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = sorted(cache.glob("*/complete"), key=lambda path: path.stat().st_mtime)
        if found:
            return found[-1].parent
        name = re.search(r"Depends: (linux-image-\S+)", run("apt-cache", "depends", PACKAGE))[1]
        target = cache / name
        shutil.rmtree(target, ignore_errors=True)
        (target / "modules").mkdir(parents=True)
        run("apt-get", "-o", "APT::Sandbox::User=", "download", name, cwd=target)
        next(target.glob("*.deb")).rename(target / "package.deb")
        with tempfile.TemporaryDirectory(dir=cache) as tree:
            run("dpkg-deb", "-x", str(target / "package.deb"), tree)
            tree = pathlib.Path(tree)
            shutil.copy(next((tree / "boot").glob("vmlinuz-*")), target / "vmlinuz")
            for module in MODULES:
                shutil.copy(next((tree / "lib/modules").iterdir()) / "kernel" / module, target / "modules")
        (target / "complete").touch()
        return target


def make_initrd(scratch, kernel, url):
    root = scratch / "root"
    for name in ("bin", "dev", "proc", "sys", "etc", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(shutil.which("busybox"), root / "bin/busybox")
    shutil.copytree(kernel / "modules", root / "modules")
    for name, text in (("init", INIT.replace("@URL@", url)), ("udhcpc", UDHCPC)):
        (root / name).write_text(text)
        (root / name).chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    archive = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=names.encode(), capture_output=True, check=True)
    (scratch / "initrd").write_bytes(archive.stdout)
    return scratch / "initrd"


def serve(directory):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=directory)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch_from_guest(port, pages):
    """Fetches the guest's page as soon as it serves one."""
    for _ in range(LIMIT):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/page", timeout=10) as answer:
                pages.append(answer.read().decode())
                return
        except OSError:
            time.sleep(1)


def captured_frames(path):
    """How many frames a pcapng file holds, walked block by block."""
    data, at, frames = path.read_bytes(), 0, 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        if length < 12 or at + length > len(data) or struct.unpack_from("<I", data, at + length - 4)[0] != length:
            sys.exit(f"the capture is broken at byte {at}")
        frames += kind == 6
        at += length
    return frames


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bygone", required=True)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--url")
    arguments = parser.parse_args()
    kernel = fetch_kernel(arguments.cache)
    url = arguments.url or f"http://10.0.2.2:{serve(kernel)}/package.deb"
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        initrd = make_initrd(scratch, kernel, url)
        port, pages = free_port(), []
        threading.Thread(target=fetch_from_guest, args=(port, pages), daemon=True).start()
        capture = scratch / "capture.pcapng"
        guest = subprocess.run([arguments.bygone, "boot", "--engine", arguments.engine, "--memory", "512M", "--kernel", kernel / "vmlinuz",
                                "--initrd", initrd, "--append", "console=ttyS0 quiet panic=-1", "--network",
                                f"nat,forward=tcp:{port}:80,mac=02:00:00:12:34:56,capture={capture}"],
                               stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=LIMIT)
        output = guest.stdout + guest.stderr
        frames = captured_frames(capture)
    results = re.findall(r"result: (.*?)\r?$", guest.stdout, re.MULTILINE)
    print("\n".join(results), f"\ncaptured {frames} frames")
    digest = hashlib.sha256((kernel / "package.deb").read_bytes()).hexdigest()
    expected = ["address 10.0.2.15 mac 02:00:00:12:34:56", "3 packets received", "serving", "again"]
    if not arguments.url:
        expected.append(f"sha256 {digest}  -")
    missing = [line for line in expected if line not in results]
    if not any(re.fullmatch(r"frames \d+ errors 0 0", line) for line in results):
        missing.append("frames without errors")
    if pages != ["a page of the guest\n"]:
        missing.append(f"the guest's page through the forward, not {pages}")
    if frames < 100:
        missing.append("a capture of it all")
    if missing:
        sys.exit("missing: " + "; ".join(missing) + "\n" + output)


if __name__ == "__main__":
    main()
