#!/usr/bin/env python3
"""A machine with a real Linux guest (Debian's cloud kernel, busybox) from its making to its end, through the commands that people use.

Usage: guest_test.py BYGONE --cache DIR [unittest options]
Nothing here measures time: the limits only end what hangs.
"""
import argparse
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest
import zlib

sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1] / "nested")]
import run_nested  # the test kernel's source, and a cpio writer
from bygone_runner import Person

LIMIT_SECONDS = 240
PROGRAM = KERNEL = None
run_nested.MODULES = ["drivers/hv/hv_vmbus.ko", "drivers/hv/hv_utils.ko", "drivers/hid/hid.ko", "drivers/hid/hid-hyperv.ko",
                      "drivers/input/serio/hyperv-keyboard.ko", "drivers/video/fbdev/hyperv_fb.ko", "drivers/input/evdev.ko",
                      "drivers/scsi/scsi_common.ko", "drivers/scsi/scsi_mod.ko", "drivers/scsi/scsi_transport_fc.ko", "drivers/scsi/hv_storvsc.ko",
                      "drivers/scsi/sd_mod.ko", "drivers/net/hyperv/hv_netvsc.ko"]

INIT = """#!/bin/busybox sh
export PATH=/bin:/sbin
/bin/busybox --install -s /bin
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev
for module in hv_vmbus hyperv-keyboard hid hid-hyperv evdev hyperv_fb scsi_common scsi_mod scsi_transport_fc hv_storvsc sd_mod hv_netvsc; do insmod /modules/$module.ko; done
grep -q deaf /proc/cmdline || insmod /modules/hv_utils.ko
for try in 1 2 3 4 5 6 7 8 9; do [ -e /dev/fb0 ] && [ -e /dev/input/event1 ] && break; sleep 1; done
for event in /dev/input/event*; do
  (dd if=$event of=/dev/null bs=24 count=1 2>/dev/null; echo "heard $(cat /sys/class/input/${event##*/}/device/name)" > /dev/ttyS0) &
done
echo "screen $(cat /sys/class/graphics/fb0/virtual_size)" > /dev/ttyS0
setsid sh -c 'exec sh </dev/tty1 >/dev/tty1 2>&1' &
echo "guest is up" > /dev/ttyS0
while read -r line < /dev/ttyS0; do echo "com1 got $line" > /dev/ttyS0; done
sleep 100000
"""


def make_ramdisk(path):
    archive = run_nested.Archive()
    for name in ("dev", "proc", "sys", "tmp", "bin", "sbin", "modules"):
        archive.directory(name)
    archive.entry("dev/console", 0o020600)
    archive.file("bin/busybox", pathlib.Path(run_nested.shutil.which("busybox")).read_bytes())
    for module in run_nested.MODULES:
        name = os.path.basename(module)
        archive.file(f"modules/{name}", (KERNEL / "modules" / name).read_bytes())
    archive.file("sbin/poweroff", b"#!/bin/busybox sh\nexec /bin/busybox poweroff -f\n")
    archive.file("init", INIT.encode())
    path.write_bytes(archive.bytes())


class Console:
    """`bygone console` with its output gathered."""

    def __init__(self, person, name):
        self.process = subprocess.Popen([person.program, "console", name], env=person.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.text, self.changed = "", threading.Condition()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        while data := os.read(self.process.stdout.fileno(), 65536):
            with self.changed:
                self.text += data.decode(errors="replace")
                self.changed.notify_all()
        with self.changed:
            self.text += "\n[the end]"
            self.changed.notify_all()

    def expect(self, pattern, times=1):
        end = time.monotonic() + LIMIT_SECONDS
        with self.changed:
            while len(re.findall(pattern, self.text)) < times:
                if self.text.endswith("[the end]") or not self.changed.wait(end - time.monotonic()):
                    raise AssertionError(f"no {pattern!r} ({times} times) in the console: {self.text[-1500:]}")

    def send(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.process.stdin.close()
        self.process.stdout.close()


def read_png(path):
    """Width, height and the set of pixels of an 8-bit RGB picture."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    assert (depth, kind) == (8, 2), (depth, kind)
    packed, at = b"", 8
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at:at + 8])
        packed += data[at + 8:at + 8 + size] if name == b"IDAT" else b""
        at += size + 12
    return width, height, zlib.decompress(packed)


class GuestTest(unittest.TestCase):
    def setUp(self):
        self.person = Person(PROGRAM)
        self.addCleanup(self.person.leave)
        self.ramdisk = self.person.root / "initrd"
        make_ramdisk(self.ramdisk)

    def create(self, name, *options, append=""):
        self.person.run("create", name, "--memory", "256M", "--engine", "software", "--kernel", KERNEL / "vmlinuz", "--initrd", self.ramdisk,
                        "--append", f"console=ttyS0 quiet panic=-1 {append}", *options)

    def console(self, name):
        console = Console(self.person, name)
        self.addCleanup(console.close)
        return console

    def test_a_machines_life(self):
        person, name = self.person, "A machine"
        self.create(name, "--disk-size", "64M")
        self.assertEqual(person.json("status", name)["state"], "off")
        person.run("start", name)
        self.assertIn("running already", person.fails("start", name))
        status = person.json("status", name)
        self.assertEqual((status["state"], status["engine"], status["processors"]), ("running", "software", 1))
        console = self.console(name)
        console.expect("guest is up")

        with self.subTest("sandbox"):
            process = pathlib.Path(f"/proc/{status['process']}")
            for task in (process / "task").iterdir():
                self.assertRegex((task / "status").read_text(), r"(?s)NoNewPrivs:\t1\n.*Seccomp:\t2\n")
            # Its starter's session, group and terminal are not its own.
            self.assertNotEqual(os.getsid(status["process"]), os.getsid(0))

        with self.subTest("screenshot"):
            size = re.search(r"screen (\d+),(\d+)", console.text)
            picture = person.root / "shot.png"
            person.run("screenshot", name, picture)
            width, height, before = read_png(picture)
            self.assertEqual((width, height), (int(size[1]), int(size[2])))

        with self.subTest("type"):
            person.run("type", name, "echo Typed-$((6*7)) | tee /dev/ttyS0\n")
            console.expect("Typed-42")
            console.expect("heard AT Translated Set 2 keyboard")
            person.run("screenshot", name, picture)
            self.assertNotEqual(read_png(picture)[2], before)

        with self.subTest("click"):
            person.run("click", name, "100", "100")
            console.expect("heard Microsoft Vmbus HID-compliant Mouse")
            self.assertIn("outside the screen", person.fails("click", name, "9000", "1"))

        with self.subTest("console"):
            console.send("hello\n")
            console.expect("com1 got hello")

        with self.subTest("pause"):
            person.run("pause", name)
            self.assertEqual(person.json("status", name)["state"], "paused")
            self.assertIn("paused", person.run("list"))
            person.run("resume", name)
            self.assertEqual(person.json("status", name)["state"], "running")

        with self.subTest("what needs a machine that is off"):
            self.assertIn("is running", person.fails("delete", name))
            self.assertIn("is running", person.fails("rename", name, "Other"))

        with self.subTest("a definition that is changed while the machine runs"):
            person.run("set", name, "memory=128M")
            self.assertEqual(person.json("status", name)["memory_bytes"], 256 << 20)
            person.run("set", name, "memory=256M")

        with self.subTest("activity"):
            before = person.json("status", name)["activity"]
            person.run("type", name, "dd if=/dev/sda of=/dev/null bs=4096 count=20 2>/dev/null; ifconfig eth0 10.0.2.15; ping -c 1 10.0.2.2; echo Busy-$((6*7)) > /dev/ttyS0\n")
            console.expect("Busy-42")
            after = person.json("status", name)["activity"]
            self.assertGreater(after["disk"], before["disk"])
            self.assertGreater(after["network"], before["network"])

        with self.subTest("inspect and log"):
            tree = json.loads(person.run("inspect", name))
            for part in ("cpu", "hypervisor", "bus", "io_apic", "power", "rtc", "watchdog", "com1", "generation", "helper_ports"):
                self.assertIn(part, tree)
            self.assertNotIn("crash", tree)
            self.assertIn("runs on the software engine", person.run("log", name))

        with self.subTest("save"):
            person.run("type", name, "kept=Kept\n")
            person.run("save", name)
            self.assertEqual(person.json("status", name)["state"], "saved")
            state = person.place / name / f"{name}.state"
            self.assertTrue(state.exists())
            self.assertIn("is not running", person.fails("pause", name))
            saved = state.read_bytes()
            person.run("set", name, "memory=64M")  # no longer the machine that was saved: refused, and the state is kept
            self.assertIn("going on from the saved state", person.fails("start", name))
            self.assertEqual(state.read_bytes(), saved)
            person.run("set", name, "memory=256M")
            person.run("start", name)
            self.assertFalse(state.exists())
            self.assertIn("goes on where it was saved, on the software engine", person.log(name))
            console.close()
            console = self.console(name)
            person.run("type", name, "echo $kept-$((40+2)) > /dev/ttyS0\n")
            console.expect("Kept-42")

        with self.subTest("reset"):
            person.run("reset", name)
            console.expect("guest is up")

        person.run("stop", name)
        self.assertEqual(person.json("status", name)["state"], "off")
        self.assertIn("powered-off", person.log(name))
        self.assertIn("is not running", person.fails("screenshot", name, picture))
        person.run("set", name, "memory=128M")
        person.run("start", name)  # with the memory that was set
        self.assertEqual(person.json("status", name)["memory_bytes"], 128 << 20)
        person.run("stop", name, "--force")
        person.run("delete", name)
        self.assertEqual(person.json("list"), [])
        trash = person.root / "data/Trash"
        self.assertTrue((trash / "files" / name / f"{name}.json").exists())
        self.assertIn("Path=", (trash / "info" / f"{name}.trashinfo").read_text())

    def test_a_guest_that_crashes(self):
        person, name = self.person, "Crash"
        self.create(name)
        person.run("start", name)
        console = self.console(name)
        console.expect("guest is up")
        self.assertNotIn("crash", person.json("status", name))
        person.run("type", name, "echo c > /proc/sysrq-trigger\n")
        console.expect("guest is up", times=2)  # it starts itself again
        record = r"(?s)processor 0 reports 0x[0-9a-f]+ .*sysrq: Trigger a crash.*Kernel panic - not syncing"
        self.assertRegex(person.json("status", name)["crash"], record)
        self.assertRegex(json.loads(person.run("inspect", name))["crash"], record)
        self.assertRegex(person.log(name), "the guest crashed: " + record.removeprefix("(?s)").split(" .*")[0])
        person.run("stop", name, "--force")

    def test_a_guest_that_ignores_shutdown(self):
        self.create("Deaf", append="deaf")
        self.person.run("start", "Deaf")
        self.console("Deaf").expect("guest is up")
        self.assertIn("still runs after 2 s", self.person.fails("stop", "Deaf", "--wait", "2"))
        self.assertEqual(self.person.json("status", "Deaf")["state"], "stopping")
        self.person.run("stop", "Deaf", "--force")
        self.assertEqual(self.person.json("status", "Deaf")["state"], "off")

    def test_killed_again_and_again(self):
        self.create("K", "--disk-size", "64M")
        before = self.person.definition("K").read_text()
        for round_number in range(6):
            self.person.run("start", "K")
            time.sleep(0.15 * round_number)
            os.kill(self.person.json("status", "K")["process"], signal.SIGKILL)
            self.assertEqual(self.wait_for_state("K", "off"), "off")
            self.assertEqual(self.person.definition("K").read_text(), before)
        self.person.run("start", "K")
        self.console("K").expect("guest is up")
        self.person.run("stop", "K")

    def wait_for_state(self, name, state):
        for _ in range(100):
            now = self.person.json("status", name)["state"]
            if now == state:
                break
            time.sleep(0.1)
        return now

    def test_two_starts_at_once(self):
        self.create("Two")
        starts = [subprocess.Popen([self.person.program, "start", "Two"], env=self.person.environment, stderr=subprocess.PIPE, text=True) for _ in range(4)]
        errors = [start.communicate()[1] for start in starts]
        codes = sorted(start.returncode for start in starts)
        self.assertEqual(codes, [0, 1, 1, 1], errors)
        self.assertEqual(sum("running already" in error for error in errors), 3, errors)
        self.person.run("stop", "Two", "--force")

    def test_clients_that_misbehave(self):
        self.create("M")
        self.person.run("start", "M")
        path = str(self.person.runtime / "bygone/M/control")
        for packet in (b"", b"{", b"\xff" * 1000, b'{"id":1,"do":"keys","keys":[{"code":0}]}', b'{"id":1,"do":"insert","name":"x"}', b"[" * 60000):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            client.connect(path)
            if packet:
                client.send(packet)
            client.close()
        crowd = []
        for _ in range(40):
            crowd.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            crowd[-1].connect(path)
        for client in crowd:
            client.close()
        self.assertEqual(self.person.json("status", "M")["state"], "running")
        self.person.run("stop", "M", "--force")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    known, rest = parser.parse_known_args()
    PROGRAM = known.program
    KERNEL = run_nested.kernel(known.cache)
    unittest.main(argv=[sys.argv[0], *rest])
