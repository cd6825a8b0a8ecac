#!/usr/bin/env python3
"""A Debian kernel with its root on a VHDX is saved in the middle of its work, resumed in a new process, and must end with the right
sums: what it had in memory, what it had written, and what it wrote afterwards.

  saved_state_test.py BYGONE CACHE [--cpus N] [--rounds N]
"""
import argparse
import hashlib
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import guest_files  # noqa: E402

FILES = 24  # of 256 KiB, each with its own content

INIT = """
while [ ! -b /dev/sda ]; do sleep 0.1; done
mount -t ext4 /dev/sda /mnt || { echo "init: no root"; poweroff -f; }
exec /bin/busybox switch_root /mnt /work
"""

# Runs from the disk. Every processor has a worker that computes; one writes files, which the end reads back and adds up.
WORK = """#!/bin/busybox sh
export PATH=/bin
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev 2>/dev/null
echo "work: begins on $(grep -c ^processor /proc/cpuinfo) processors, clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
worker() {
  n=0; sum=0
  while [ $n -lt 30000 ]; do n=$((n + 1)); sum=$(((sum * 31 + n) % 1000003)); done
  echo $sum > /sum.$1
}
for i in 1 2 3; do worker $i & done
i=0
while [ $i -lt FILES ]; do
  yes "line of file $i" | head -c 262144 > /data.$i; sync
  echo "work: file $i"
  i=$((i + 1))
done
wait
echo 3 > /proc/sys/vm/drop_caches
echo "work: workers $(cat /sum.1 /sum.2 /sum.3 | sort -u | tr '\\n' ' ')"
echo "work: data $(for i in $(seq 0 LAST); do cat /data.$i; done | md5sum | cut -d' ' -f1)"
echo "work: uptime $(cut -d' ' -f1 /proc/uptime) date $(date +%s)"
dmesg | grep -E "BUG:|WARNING:|stall|lockup|Oops|EXT4-fs error|I/O error" && echo "work: complaints"
mount -o remount,ro /
poweroff -f
""".replace("FILES", str(FILES)).replace("LAST", str(FILES - 1))


def expected():
    total = 0
    for n in range(1, 30001):
        total = (total * 31 + n) % 1000003
    data = hashlib.md5()
    for i in range(FILES):
        line = f"line of file {i}\n".encode()
        data.update((line * (262144 // len(line) + 1))[:262144])
    return total, data.hexdigest()


def make_disk(bygone, folder):
    root = folder / "root"
    for name in ("bin", "proc", "sys", "dev", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "bin/busybox").write_bytes(pathlib.Path("/bin/busybox").read_bytes())
    (root / "bin/busybox").chmod(0o755)
    for applet in guest_files.run("/bin/busybox", "--list").split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "work").write_text(WORK)
    (root / "work").chmod(0o755)
    raw = folder / "disk.raw"
    with open(raw, "wb") as file:
        file.truncate(64 << 20)
    guest_files.run("/sbin/mke2fs", "-q", "-t", "ext4", "-d", root, raw)
    guest_files.run(bygone, "disk", "convert", raw, folder / "disk.vhdx")
    return folder / "disk.vhdx"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bygone", type=pathlib.Path)
    parser.add_argument("cache")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", default="software", help="for each round in turn, such as software,kvm")
    arguments = parser.parse_args()
    kernel = guest_files.kernel(arguments.cache)
    engines = arguments.engines.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        disk = make_disk(arguments.bygone, scratch)
        guest_files.initrd(scratch / "initrd", kernel, INIT, ["hv_storvsc", "sd_mod", "ext4", "hv_utils"])
        state = scratch / "machine.state"

        def command(round_number):
            return [arguments.bygone, "boot", "--engine", engines[round_number % len(engines)], "--kernel", kernel / "vmlinuz", "--initrd",
                    scratch / "initrd", "--append", "console=ttyS0 panic=-1 quiet", "--memory", "256M", "--cpus", arguments.cpus, "--disk", disk]

        for round_number in range(arguments.rounds):
            extra = ["--resume", state] if round_number else []
            machine = guest_files.Console([*command(round_number), *extra, "--save", state], scratch / f"log{round_number}")
            try:
                # Each process sees the writing go on for a while before it is told to save.
                # On a busy host it may have come further than that before it was saved.
                numbers = "|".join(str(number) for number in range(round_number * 5 + 4, FILES))
                machine.wait_for(rf"work: file ({numbers})$", 120)
                begin = time.monotonic()
                machine.process.send_signal(signal.SIGUSR2)
                if machine.wait(120) != 0:
                    raise RuntimeError(f"round {round_number}: saving failed:\n{machine.text()[-2000:]}")
                print(f"round {round_number}: saved {state.stat().st_size >> 20} MiB in {time.monotonic() - begin:.2f} s")
            finally:
                machine.kill()
        time.sleep(2)  # the guest's clock must make up for this
        machine = guest_files.Console([*command(arguments.rounds), "--resume", state], scratch / "last")
        try:
            machine.wait_for(r"^work: uptime", 240)
            status = machine.wait(60)
        finally:
            machine.kill()
        text = machine.text()
        total, data = expected()
        checks = {"exit status": status == 0, "workers": f"work: workers {total} \n" in text, "data": f"work: data {data}\n" in text,
                  "no complaints": "work: complaints" not in text}
        if not all(checks.values()):
            print(text[-4000:])
            raise SystemExit(f"wrong: {[name for name, good in checks.items() if not good]}; wanted {total} and {data}")
        date = int(re.search(r"work: uptime \S+ date (\d+)", text)[1])
        if abs(date - time.time()) > 30:
            raise SystemExit(f"the guest's clock says {date}, the host's {time.time():.0f}")
        # The disk has been written since the file was saved: it must not be resumed again.
        again = subprocess.run([str(p) for p in [*command(arguments.rounds), "--resume", state]], capture_output=True, text=True, timeout=60)
        if again.returncode == 0 or "has been written since" not in again.stderr:
            raise SystemExit(f"an old state was resumed over a newer disk: {again.returncode} {again.stderr}")
        print(f"the sums are right after {arguments.rounds} saves")


main()
