#!/usr/bin/env python3
"""The network of the same guest: Bygone (hv_netvsc) beside QEMU (virtio-net), both behind libslirp.

    bench/io/network.py [--bygone build/release/bin/bygone] [--nested] [--rounds 3] [--seconds 3] [--markdown]

A TCP stream from the guest to the host and one back, counted by the one who receives, and pings to the router, with Debian's cloud
kernel, one processor and 512 MiB. Without --nested on software processors (QEMU: TCG), with it both on the KVM of the machine of
tests/nested, which has one processor that QEMU emulates: there only the ratios mean something. Both machines are up all the time and take
turns; the medians of all rounds are printed, and how many packets the guest received for one interrupt. Needs gcc, qemu-system-x86 and
what tests/linux_guest/make_guest.py needs.
"""
import pathlib
import socket
import subprocess
import sys
import tempfile

import guests

INIT = """
for module in virtio_pci virtio_net hv_vmbus hv_netvsc; do modprobe $module 2> /dev/null; done
for i in $(seq 1000); do [ -d /sys/class/net/eth0 ] && break; sleep 0.1; done
ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up
ping -q -c 3 10.0.2.2 > /dev/null
interrupts() {
  if [ -d /sys/class/net/eth0/device/channels ]; then cat /sys/class/net/eth0/device/channels/*/interrupts; else cat /proc/interrupts; fi |
    awk 'NF == 1 { n += $1 } /virtio0-input/ { n += $2 } END { print n }'
}
work() {
  packets=$(cat /sys/class/net/eth0/statistics/rx_packets); interrupts=$(interrupts)
  if [ $1 = ping ]; then
    value=$(ping -i 0.01 -c $2 10.0.2.2 | sed -n 's/.*time=\\([0-9.]*\\) ms.*/\\1/p' | sort -n | awk '{ t[NR] = $1 } END { print t[int((NR + 1) / 2)] }')
  else
    value=$(stream $1 10.0.2.2 $2 $3)
  fi
  echo "result: $value $(($(cat /sys/class/net/eth0/statistics/rx_packets) - packets)) $(($(interrupts) - interrupts))"
}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    parser = guests.arguments_of(__doc__)
    parser.add_argument("--pings", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bygone-bench-") as scratch:
        program = pathlib.Path(scratch) / "stream"
        subprocess.run(["gcc", "-O2", "-static", "-o", program, guests.HERE / "stream.c"], check=True)
        bench = guests.Bench(options, ["hv_vmbus", "hv_netvsc", "virtio_pci", "virtio_net"], [program], [], INIT)
        bench.files["stream"] = program
        port = free_port()
        bench.text("beside.sh", f"exec ./stream serve {port}\n")
        bench.machines("--network nat", "-netdev user,id=net -device virtio-net-pci,netdev=net,romfile=")
        works = {"guest to host": f"send {port} {options.seconds}", "host to guest": f"receive {port} {options.seconds}", "ping": f"ping {options.pings}"}
        answers = bench.run(list(works.values()))
    rows = []
    for name, work in works.items():
        mine, theirs = (guests.median(answers[machine][work], 0) for machine in ("bygone", "qemu"))
        unit, ratio = ("ms", theirs / mine) if name == "ping" else ("MB/s", mine / theirs)
        grouped = [f"{sum(int(row[1]) for row in answers[machine][work]) / max(1, sum(int(row[2]) for row in answers[machine][work])):.1f}"
                   for machine in ("bygone", "qemu")]
        rows.append((name, f"{mine:.2f} {unit}", f"{theirs:.2f} {unit}", f"{ratio:.2f}", *grouped))
    guests.table(options, ("", "Bygone", "QEMU", "ratio", "packets/interrupt", "QEMU's"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
