#!/usr/bin/env python3
"""A machine with a real Linux guest (Debian's cloud kernel, busybox) from its making to its end, through the commands that people use.

Usage: guest_test.py BYGONE --cache DIR [unittest options]
Nothing here measures time: the limits only end what hangs.
"""
import argparse
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

TESTS = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "machines"), str(TESTS / "nested"), str(TESTS)]
import run_nested  # a cpio writer
from bygone_runner import Person
from debian_kernel import Kernel
from pictures import read_png
from process_threads import threads_of

LIMIT_SECONDS = 240
PROGRAM = KERNEL = None
MODULES = ["hv_utils", "hid_hyperv", "hyperv_keyboard", "hyperv_fb", "evdev", "hv_storvsc", "sd_mod", "sr_mod", "hv_netvsc"]

INIT = """#!/bin/busybox sh
export PATH=/bin:/sbin
/bin/busybox --install -s /bin
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev
for module in $(cat /modules/order); do [ $module = hv_utils.ko ] && grep -q deaf /proc/cmdline || insmod /modules/$module; done
for try in 1 2 3 4 5 6 7 8 9; do [ -e /dev/fb0 ] && [ -e /dev/input/event1 ] && break; sleep 1; done
for event in /dev/input/event*; do
  (dd if=$event of=/dev/null bs=24 count=1 2>/dev/null; echo "heard $(cat /sys/class/input/${event##*/}/device/name)" > /dev/ttyS0) &
done
echo "screen $(cat /sys/class/graphics/fb0/virtual_size)" > /dev/ttyS0
for try in 1 2 3 4 5 6 7 8 9; do grep -q disk /proc/cmdline && [ ! -e /dev/sda ] || break; sleep 1; done
load=$(sed -n 's/.*load=\\([0-9]*\\).*/\\1/p' /proc/cmdline)
[ -z "$load" ] || write_load $load > /dev/ttyS0 &
setsid sh -c 'exec sh </dev/tty1 >/dev/tty1 2>&1' &
echo "guest is up" > /dev/ttyS0
while read -r line < /dev/ttyS0; do echo "com1 got $line" > /dev/ttyS0; done
sleep 100000
"""

# Records of 4 KiB, each flushed before it is told, far from each other, so that the image grows at each; and beside them what is never
# flushed, in the disk's second half.
LOAD = """#!/bin/busybox sh
n=$1
while :; do dd if=/dev/zero of=/dev/sda bs=64k count=16 seek=$((10000 + n * 61 % 6000)) conv=notrunc 2>/dev/null; done &
while :; do
  printf 'record %08d %4079s' $n . > /tmp/record
  dd if=/tmp/record of=/dev/sda bs=4k count=1 seek=$((n * 53 % 128 * 1024 + n)) conv=notrunc,fsync 2>/dev/null && echo "flushed $n"
  n=$((n + 1))
done
"""
DISK_BYTES = 1 << 30


def record_place(n):
    return (n * 53 % 128 * 1024 + n) * 4096


def take_kernel(cache):
    return Kernel(cache.resolve(), "linux-image-cloud-amd64", MODULES)


def make_ramdisk(path):
    archive = run_nested.Archive()
    for name in ("dev", "proc", "sys", "tmp", "bin", "sbin", "modules"):
        archive.directory(name)
    archive.entry("dev/console", 0o020600)
    archive.file("bin/busybox", pathlib.Path(run_nested.shutil.which("busybox")).read_bytes())
    archive.file("modules/order", "".join(f"{module.name}\n" for module in KERNEL.modules).encode())
    for module in KERNEL.modules:
        archive.file(f"modules/{module.name}", module.read_bytes())
    archive.file("sbin/poweroff", b"#!/bin/busybox sh\nexec /bin/busybox poweroff -f\n")
    archive.file("bin/write_load", LOAD.encode())
    archive.file("init", INIT.encode())
    path.write_bytes(archive.bytes())


class Console:
    """`bygone console` with its output gathered."""

    def __init__(self, person, name):
        self.process = subprocess.Popen([*person.prefix, person.program, "console", name], env=person.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.person, self.name = person, name
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
                    raise AssertionError(f"no {pattern!r} ({times} times) in the console: {self.text[-1500:]}\n{self.machine()}")

    def machine(self):
        """What the machine does instead."""
        status = self.person.json("status", self.name)
        said = [json.dumps(status), self.person.log(self.name)[-1500:]]
        if "process" in status:
            picture = pathlib.Path(f"failed-{self.name}.png").resolve()
            self.person.try_run("screenshot", self.name, picture)
            said += [threads_of(status["process"]), self.person.run("inspect", self.name)[-6000:], f"its screen: {picture}"]
        return "\n".join(said)

    def send(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.process.stdin.close()
        self.process.stdout.close()


class MachineTest(unittest.TestCase):
    def setUp(self):
        self.person = Person(PROGRAM)
        self.addCleanup(self.person.leave)
        self.ramdisk = self.person.root / "initrd"
        make_ramdisk(self.ramdisk)

    def create(self, name, *options, append=""):
        self.person.run("create", name, "--memory", "256M", "--engine", "software", "--kernel", KERNEL.image, "--initrd", self.ramdisk,
                        "--append", f"console=ttyS0 quiet panic=-1 {append}", *options)

    def console(self, name):
        console = Console(self.person, name)
        self.addCleanup(console.close)
        return console

    def wait_for_state(self, name, *states):
        for _ in range(100):
            now = self.person.json("status", name)["state"]
            if now in states:
                break
            time.sleep(0.1)
        return now


class GuestTest(MachineTest):
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

    def test_a_definition_and_its_copies_are_what_the_guest_finds(self):
        """edit, show, list, rename and clone, by what a guest makes of them: one that is saved, and one that starts."""
        person, name = self.person, "First"
        self.create(name, "--disk-size", "64M", append="disk")
        person.environment["EDITOR"] = "sed -i 's/\"memory\": \"256M\"/\"memory\": \"320M\"/'"
        person.run("edit", name)
        self.assertEqual(json.loads(person.run("show", name))["memory"], "320M")
        person.edit(name, colour="green")
        self.assertIn("colour: unknown key", person.try_run("start", name).stderr)
        self.assertEqual(person.json("status", name)["memory_bytes"], 320 << 20)
        console = self.console(name)
        console.expect("guest is up")
        person.run("type", name, "kept=Kept; echo first > /dev/sda; sync; echo wrote-$((40+2)) $(grep MemTotal /proc/meminfo) > /dev/ttyS0\n")
        console.expect(r"wrote-42 MemTotal: +2\d{5} kB")
        self.assertIn("is running", person.fails("clone", name, "Copy"))
        person.run("save", name)
        person.run("rename", name, "Second")
        self.assertEqual([(machine["name"], machine["state"]) for machine in person.json("list")], [("Second", "saved")])
        self.assertIn("is saved; the copy has its disks", person.try_run("clone", "Second", "Copy").stderr)
        person.run("start", "Second")
        console = self.console("Second")
        person.run("type", "Second", "echo $kept-$((40+2)) > /dev/ttyS0; echo other > /dev/sda; sync\n")
        console.expect("Kept-42")
        person.run("start", "Copy")  # beside it: nothing is shared
        copy = self.console("Copy")
        copy.expect("guest is up")
        person.run("type", "Copy", "echo has-$(head -c 5 /dev/sda) > /dev/ttyS0\n")
        copy.expect("has-first")
        self.assertEqual([(machine["name"], machine["state"]) for machine in person.json("list")], [("Copy", "running"), ("Second", "running")])
        for each in ("Second", "Copy"):
            person.run("stop", each)

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

    def test_media_stay_in_a_saved_machines_drive(self):
        person, name = self.person, "Media"
        images = {}
        for text in ("first", "second"):
            images[text] = person.root / f"{text}.iso"
            images[text].write_bytes(text.encode().ljust(1 << 20))
        self.create(name, "--dvd", images["first"])
        person.run("start", name)
        console = self.console(name)
        console.expect("guest is up")
        reads = [0]

        def read_from_guest():
            reads[0] += 1
            person.run("type", name, f"echo \"read {reads[0]}: $(head -c 6 /dev/sr0 2>&1)\" > /dev/ttyS0\n")
            console.expect(rf"read {reads[0]}: .*\n")
            return re.search(rf"read {reads[0]}: (.*)\r?\n", console.text)[1].strip()

        def save_and_start():
            nonlocal console
            person.run("save", name)
            person.run("start", name)
            console = self.console(name)

        self.assertEqual(read_from_guest(), "first")
        person.run("insert", name, images["second"])
        self.assertEqual(read_from_guest(), "second")
        save_and_start()
        self.assertEqual(read_from_guest(), "second")
        person.run("save", name)
        hidden = images["second"].rename(person.root / "hidden.iso")
        refusal = person.fails("start", name)
        self.assertIn(str(images["second"]), refusal)
        self.assertIn("--fresh", refusal)
        hidden.rename(images["second"])
        person.run("start", name)
        console = self.console(name)
        self.assertEqual(read_from_guest(), "second")
        person.run("eject", name)
        save_and_start()
        self.assertIn("No medium", read_from_guest())
        person.run("stop", name)
        person.run("start", name)
        console = self.console(name)
        console.expect("guest is up")
        self.assertEqual(read_from_guest(), "first")
        person.run("stop", name)

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

    def test_killed_under_write_load(self):
        """kill -9 at any time, also while it is being saved: every record that the guest has flushed is on the disk, and it starts again."""
        person, name = self.person, "Load"
        self.create(name, "--disk-size", DISK_BYTES)
        chance, told = random.Random(time.time_ns()), -1
        saved_rounds = 0
        for round_number in range(6):
            # Of a machine that was saved the next round goes on there.
            saved = person.json("status", name)["state"] == "saved"
            saved_rounds += saved
            if not saved:
                person.run("set", name, f"boot.command_line=console=ttyS0 quiet panic=-1 disk load={told + 1}")
            person.run("start", name)
            console = self.console(name)
            console.expect(r"flushed \d+\r?\n" if saved else rf"flushed {told + 1}\r?\n")
            process = person.json("status", name)["process"]
            time.sleep(chance.uniform(0, 2))
            saving = None
            if round_number % 2:
                saving = subprocess.Popen([person.program, "save", name], env=person.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(chance.uniform(0, 0.6))
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            if saving:
                saving.wait()
            console.thread.join(LIMIT_SECONDS)
            told = max([told, *map(int, re.findall(r"flushed (\d+)\r?\n", console.text))])
            console.close()
            self.assertIn(self.wait_for_state(name, "off", "saved"), ("off", "saved"))
            self.check_records(name, told)
        person.run("start", name)
        person.run("stop", name, "--force")
        self.assertGreater(told, 20)

    def check_records(self, name, last):
        raw = self.person.root / "check.raw"
        raw.unlink(missing_ok=True)
        image = self.person.place / name / f"{name}.vhdx"
        for _ in range(100):  # a process that was killed takes a moment to let go of its files
            checked = self.person.try_run("disk", "check", image)
            if "open in another program" not in checked.stderr:
                break
            time.sleep(0.1)
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.person.run("disk", "convert", image, raw)
        with open(raw, "rb") as disk:
            for n in range(last + 1):
                disk.seek(record_place(n))
                self.assertEqual(disk.read(15), b"record %08d" % n, f"of {last} flushed records")

    def test_a_full_disk(self):
        """The host's disk is full: the guest's write fails, the machine goes on, and when there is room again, it writes again."""
        person, name = self.person, "Full"
        person.place.mkdir(parents=True)
        spaces = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
        holder = subprocess.Popen(["unshare", *spaces, "sh", "-c", f"mount -t tmpfs -o size=40m tmpfs '{person.place}' && echo ready && exec sleep 100000"],
                                  stdout=subprocess.PIPE, text=True)
        self.addCleanup(holder.communicate)
        self.addCleanup(holder.kill)
        self.assertEqual(holder.stdout.readline(), "ready\n")
        person.prefix = ["nsenter", "--target", str(holder.pid), "--mount", *([] if os.geteuid() == 0 else ["--user", "--preserve-credentials"])]
        self.create(name, "--disk-size", "256M", append="disk")
        filler = pathlib.Path(f"/proc/{holder.pid}/root{person.place}/filler")
        filler.write_bytes(bytes(16 << 20))
        person.run("start", name)
        console = self.console(name)
        console.expect("guest is up")

        def write(megabytes):
            person.run("type", name, f"dd if=/dev/zero of=/dev/sda bs=1M count={megabytes} conv=fsync 2>/dev/null; echo wrote-$? > /dev/ttyS0\n")
        write(64)
        console.expect("wrote-1")
        self.assertEqual(person.json("status", name)["state"], "running")
        said = person.fails("save", name)
        self.assertIn("No space left", said)
        self.assertEqual(person.json("status", name)["state"], "running")
        self.assertIn("No space left", person.run("log", name))
        filler.unlink()
        write(8)
        console.expect("wrote-0")
        person.run("stop", name)
        person.run("disk", "check", person.place / name / f"{name}.vhdx")

    def test_integration_features_one_by_one(self):
        person, name = self.person, "Alone"
        self.create(name)
        person.run("set", name, "integration.heartbeat=off", "integration.time=off", "video.width=800", "video.height=600")
        person.run("start", name)
        console = self.console(name)
        console.expect("guest is up")
        self.assertRegex(console.text, r"screen 800,600")
        devices = json.loads(person.run("inspect", name))["bus"]["devices"]
        names = " ".join(map(str, devices))
        self.assertIn("shutdown", names)
        self.assertNotIn("heartbeat", names)
        self.assertNotIn("time", names)
        person.run("stop", name, "--force")
        person.run("set", name, "boot.secure_boot=true")
        self.assertIn("Secure Boot", person.fails("start", name))
        person.run("set", name, "boot.secure_boot=false", 'disks=[{"path": "d.vhdx", "undo": true}]')
        self.assertIn("undo disk", person.fails("start", name))

    def test_a_folder_on_another_host(self):
        """Another person with another home, and the folder under another path: what it needs is in it."""
        person, name = self.person, "Moved"
        self.create(name, "--disk-size", "64M", append="disk")
        for file, key in ((KERNEL.image, "kernel"), (self.ramdisk, "initrd")):
            shutil.copy(file, person.place / name / key)
            person.run("set", name, f"boot.{key}={key}")
        person.run("start", name)
        self.console(name).expect("guest is up")
        person.run("type", name, "echo moved > /dev/sda; sync; echo done-$((1+1)) > /dev/ttyS0\n")
        self.console(name).expect("done-2")
        person.run("save", name)
        other = Person(PROGRAM)
        self.addCleanup(other.leave)
        other.place.mkdir(parents=True)
        shutil.move(person.place / name, other.place / name)
        other.run("start", name)
        console = Console(other, name)
        self.addCleanup(console.close)
        other.run("type", name, "head -c 5 /dev/sda > /dev/ttyS0; echo > /dev/ttyS0\n")
        console.expect("moved")
        other.run("stop", name)

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
    KERNEL = take_kernel(known.cache)
    unittest.main(argv=[sys.argv[0], *rest])
