#!/usr/bin/env python3
"""fio in the same guest on the same disk image: Bygone's software CPU with hv_storvsc beside QEMU's TCG with virtio-blk.

    bench/io/storage.py [--bygone build/release/bin/bygone] [--seconds 5] [--size MIB] [--markdown]

4 KiB random reads and writes at queue depth 1 and 32, and 1 MiB sequential reads and writes at depth 4, past the guest's page cache
(direct=1), with Debian's cloud kernel, one processor and 512 MiB; the image is a raw file, cached by the host, for both. Every number is from
one run; the two machines run one after another. Needs fio, qemu-system-x86 and what tests/linux_guest/make_guest.py needs; the
guest's kernel comes from Debian's mirror the first time (kept in build/linux-guest/cache).
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/linux_guest"))
import make_guest  # noqa: E402

JOBS = [("4 KiB random read, QD 1", "randread", "4k", 1), ("4 KiB random read, QD 32", "randread", "4k", 32),
        ("4 KiB random write, QD 1", "randwrite", "4k", 1), ("4 KiB random write, QD 32", "randwrite", "4k", 32),
        ("1 MiB sequential read", "read", "1m", 4), ("1 MiB sequential write", "write", "1m", 4)]
INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
ln -sf kmod /bin/modprobe
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev; mount -t tmpfs none /tmp; mkdir -p /dev/shm
for module in hv_vmbus hv_storvsc sd_mod virtio_pci virtio_blk; do modprobe $module; done
for i in $(seq 100); do for disk in sda vda; do [ -b /dev/$disk ] && break 2; done; sleep 0.1; done
cat /sys/block/$disk/queue/scheduler
echo none > /sys/block/$disk/queue/scheduler
{jobs}
poweroff -f
"""


def initrd(tree, seconds):
    lines = []
    for number, (_, pattern, block, depth) in enumerate(JOBS):
        lines.append(f"echo BENCH {number} $(fio --name=j --filename=/dev/$disk --rw={pattern} --bs={block} --iodepth={depth} "
                     f"--ioengine=libaio --direct=1 --time_based --runtime={seconds} --ramp_time=1 --randrepeat=1 --thread "
                     "--output-format=json | tr -d '\\n')")
    make_guest.MODULES += ["virtio_pci", "virtio_blk"]
    make_guest.HOST_PROGRAMS = ["fio", "kmod"]
    make_guest.DEBIAN_PROGRAMS = []
    with tempfile.TemporaryDirectory() as scratch:
        make_guest.HERE = pathlib.Path(scratch)
        (make_guest.HERE / "init").write_text(INIT.replace("{jobs}", "\n".join(lines)))
        return make_guest.build(tree, [], [], False)


def measure(command, limit):
    """Job → (I/O operations a second, bytes a second)."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=limit, check=False)
    text = done.stdout.decode(errors="replace")
    result = {}
    for number, line in re.findall(r"^BENCH (\d+) (.*?)\r?$", text, re.M):
        found = re.search(r"\{.*\}", line)
        job = json.loads(found[0])["jobs"][0]
        side = job["write" if "write" in JOBS[int(number)][1] else "read"]
        result[int(number)] = (side["iops"], side["bw_bytes"])
    if len(result) != len(JOBS):
        sys.exit(f"storage.py: {command[0]} gave {len(result)} results of {len(JOBS)}:\n{text[-3000:]}\n{done.stderr.decode()[-2000:]}")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bygone", type=pathlib.Path, default=ROOT / "build/release/bin/bygone")
    parser.add_argument("--seconds", type=int, default=5, help="for each job, after one to warm up")
    parser.add_argument("--size", type=int, default=256, help="the image's size in MiB")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    cache = ROOT / "build/linux-guest/cache"
    cache.mkdir(parents=True, exist_ok=True)
    tree = make_guest.fetch(cache)[0]["cloud"]
    kernel = str(next((tree / "boot").glob("vmlinuz-*")))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        ramdisk, image = folder / "initrd", folder / "disk.raw"
        ramdisk.write_bytes(initrd(tree, arguments.seconds))
        image.write_bytes(b"")
        with open(image, "r+b") as file:
            for _ in range(arguments.size):
                file.write(b"\x5a" * (1 << 20))
        append = "console=ttyS0 quiet panic=-1"
        limit = 300 + len(JOBS) * (arguments.seconds + 1) * 20
        bygone = measure([str(arguments.bygone), "boot", "--engine", "software", "--memory", "512M", "--kernel", kernel, "--initrd", str(ramdisk),
                          "--append", append, "--disk", str(image)], limit)
        qemu = measure(["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "512", "-nodefaults", "-no-user-config", "-display", "none",
                        "-no-reboot", "-serial", "stdio", "-kernel", kernel, "-initrd", str(ramdisk), "-append", append,
                        "-drive", f"file={image},format=raw,if=none,id=d,cache=writeback,aio=threads", "-device", "virtio-blk-pci,drive=d"], limit)
    if arguments.markdown:
        print("| job | Bygone | QEMU | ratio |\n| --- | --- | --- | --- |")
    for number, (name, _, block, _) in enumerate(JOBS):
        mine, theirs = bygone[number], qemu[number]
        show = (lambda value: f"{value[0]:,.0f} IOPS") if block == "4k" else (lambda value: f"{value[1] / (1 << 20):,.0f} MiB/s")
        ratio = f"{mine[1] / theirs[1]:.2f}"
        row = (name, show(mine), show(theirs), ratio)
        print("| " + " | ".join(row) + " |" if arguments.markdown else f"{row[0]:28}{row[1]:>16}{row[2]:>16}{row[3]:>8}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
