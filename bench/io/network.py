#!/usr/bin/env python3
"""The network of a guest on a software processor: Bygone (hv_netvsc) beside QEMU's TCG (virtio-net), both behind libslirp.

Usage: network.py BYGONE [SECONDS [ROUNDS]]
The same Debian kernel and initial RAM disk on both, in turns: a TCP stream from the guest to the host and one back, measured on
the host, and pings to the router. Prints each machine's medians, their ratio and the packets that the guest received per
interrupt. Needs busybox-static, gcc and qemu-system-x86_64.
"""
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests/network"))
import guest_network_test as guest_test  # noqa: E402  (its kernel and initial RAM disk)

LIMIT = 600
guest_test.MODULES = ["drivers/hv/hv_vmbus.ko", "drivers/net/hyperv/hv_netvsc.ko", "net/core/failover.ko", "drivers/net/net_failover.ko",
                      "drivers/virtio/virtio.ko", "drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio_pci_modern_dev.ko",
                      "drivers/virtio/virtio_pci_legacy_dev.ko", "drivers/virtio/virtio_pci.ko", "drivers/net/virtio_net.ko"]
guest_test.INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev
for module in virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover net_failover virtio_net hv_vmbus hv_netvsc; do
  [ -e /modules/$module.ko ] && insmod /modules/$module.ko 2> /dev/null
done
for i in $(seq 1000); do [ -d /sys/class/net/eth0 ] && break; sleep 0.1; done
ip link set eth0 up
udhcpc -i eth0 -t 100 -n -q -s /udhcpc || { ip -s link; cat /sys/class/net/eth0/device/channels/*/*; cat /proc/interrupts; dmesg | tail -n 20; poweroff -f; }
count() {
  if [ -d /sys/bus/vmbus ]; then cat /sys/class/net/eth0/device/channels/*/interrupts; else
    awk '/virtio0-input/ { print $2 }' /proc/interrupts; fi
}
measure() {
  packets=$(cat /sys/class/net/eth0/statistics/rx_packets); interrupts=$(count)
  stream $1 10.0.2.2 $2 $3
  echo "result: $1 $(($(cat /sys/class/net/eth0/statistics/rx_packets) - packets)) $(($(count) - interrupts))"
}
ping -q -c 5 10.0.2.2 > /dev/null
@WORK@
for i in $(seq 100); do ping -q -c 1 10.0.2.2; done | awk -F'[=/ ]+' '/round-trip/ { print $6 }' | sort -n | awk '{ t[NR] = $1 } END { print "result: ping", t[int(NR / 2) + 1] }'
poweroff -f
"""


class Server:
    """Takes streams and sends streams; each connection's rate in MB/s, from its first byte to its last."""

    def __init__(self, sends, seconds):
        self.sends, self.seconds, self.rates = sends, seconds, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        buffer = bytearray(1 << 20)
        while True:
            stream, _ = self.listener.accept()
            total, start = 0, time.monotonic()
            try:
                while time.monotonic() - start < self.seconds:
                    done = stream.send(buffer) if self.sends else stream.recv_into(buffer)
                    if done == 0:
                        break
                    total += done
            except OSError:
                pass
            self.rates.append(total / (time.monotonic() - start) / 1e6)
            stream.close()


def run(command, send_server, receive_server):
    before = len(send_server.rates), len(receive_server.rates)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=LIMIT)
    if "--verbose" in sys.argv:
        print(done.stdout, done.stderr)
    results = {key: values.split() for key, values in re.findall(r"result: (\w+) (.*?)\r?$", done.stdout, re.MULTILINE)}
    if set(results) != {"send", "receive", "ping"} or "" in results["ping"]:
        sys.exit(f"{command[0]} did not measure everything: {results}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return {"guest to host, MB/s": receive_server.rates[before[1]], "host to guest, MB/s": send_server.rates[before[0]],
            "ping, ms": float(results["ping"][0]),
            "packets per interrupt": int(results["receive"][0]) / max(1, int(results["receive"][1]))}


def main(bygone, seconds="8", rounds="3"):
    kernel = guest_test.fetch_kernel(ROOT / "build/network-bench")
    sending, receiving = Server(True, float(seconds)), Server(False, float(seconds))
    guest_test.INIT = guest_test.INIT.replace("@WORK@", f"measure send {receiving.port} {2 * int(float(seconds))}\n"
                                                        f"measure receive {sending.port} {2 * int(float(seconds))}")
    with tempfile.TemporaryDirectory(prefix="bygone-bench-") as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "root/bin").mkdir(parents=True)
        subprocess.run(["gcc", "-O2", "-static", "-o", scratch / "root/bin/stream", HERE / "stream.c"], check=True)
        initrd = guest_test.make_initrd(scratch, kernel, "")
        common = ["-kernel", kernel / "vmlinuz", "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 no_timer_check"]
        machines = {
            "Bygone": [bygone, "boot", "--engine", "software", "--memory", "512M", "--network", "nat", *[
                "-" + word if isinstance(word, str) and word.startswith("-") else word for word in common]],
            "QEMU": ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-m", "512", "-display", "none", "-monitor", "none", "-serial", "stdio",
                     "-no-reboot", "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net", *common],
        }
        measured = {name: [] for name in machines}
        for _ in range(int(rounds)):
            for name, command in machines.items():
                measured[name].append(run(command, sending, receiving))
                print(name, measured[name][-1], file=sys.stderr, flush=True)
    print(f"{'median of ' + rounds:24} {'Bygone':>10} {'QEMU':>10} {'ratio':>7}")
    for key in measured["Bygone"][0]:
        ours, theirs = (statistics.median(result[key] for result in measured[name]) for name in ("Bygone", "QEMU"))
        ratio = theirs / ours if key == "ping, ms" else ours / theirs
        print(f"{key:24} {ours:10.2f} {theirs:10.2f} {ratio:7.2f}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*[word for word in sys.argv[1:] if word != "--verbose"])
