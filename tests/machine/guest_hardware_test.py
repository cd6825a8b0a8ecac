#!/usr/bin/env python3
"""What a guest does with the machine's own hardware: serial ports that are a socket, a file, a pseudo-terminal; the clock's alarm and
periodic interrupts; the enlightenments that were chosen; a crash that it reports.

  guest_hardware_test.py BYGONE CACHE [--engine NAME]
"""
import argparse
import os
import pathlib
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import guest_files  # noqa: E402

LIMIT_SECONDS = 240

# Commands come over COM1 and are answered there. COM2 repeats what it is sent.
INIT = """
stty -F /dev/ttyS0 -echo 2>/dev/null
(echo "second is up"; while read -r line; do echo "second got $line"; done) < /dev/ttyS1 > /dev/ttyS1 &
echo "guest is up"
while read -r line; do eval "$line"; done
sleep 1000
"""
ALARM = ("before=$(awk '/rtc0/ {print $2}' /proc/interrupts); echo +2 > /sys/class/rtc/rtc0/wakealarm; "
         "while [ -s /sys/class/rtc/rtc0/wakealarm ] && [ -n \"$(cat /sys/class/rtc/rtc0/wakealarm)\" ]; do sleep 0.2; done; "
         "echo alarm $before to $(awk '/rtc0/ {print $2}' /proc/interrupts)")
# Linux has periodic interrupts from timers of its own; the clock's are switched on behind its back: rate 2 Hz in register A, bit 6 of B.
PERIODIC = ("before=$(awk '/rtc0/ {print $2}' /proc/interrupts); /cmos 10 47 11 66; sleep 3; /cmos 11 2 10 38; "
            "echo periodic $before to $(awk '/rtc0/ {print $2}' /proc/interrupts)")
CMOS = r"""
#include <stdlib.h>
#include <sys/io.h>
int main(int count, char** words) {
  if (ioperm(0x70, 2, 1) != 0) return 1;
  for (int i = 1; i + 1 < count; i += 2) {
    outb((unsigned char)atoi(words[i]), 0x70);
    outb((unsigned char)atoi(words[i + 1]), 0x71);
  }
}
"""


class Stream:
    """The guest's console at the host's end of a socket or a pseudo-terminal."""

    def __init__(self, descriptor):
        self.descriptor, self.text = descriptor, ""

    def expect(self, pattern):
        end = time.monotonic() + LIMIT_SECONDS
        while True:
            match = re.search(pattern, self.text, re.M)
            if match:
                return match
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.descriptor], [], [], left)[0]:
                raise AssertionError(f"no {pattern!r} in {self.text[-2000:]!r}")
            data = os.read(self.descriptor, 65536)
            if not data:
                raise AssertionError(f"the console ended before {pattern!r}: {self.text[-2000:]!r}")
            self.text += data.decode(errors="replace").replace("\r", "")

    def send(self, line):
        os.write(self.descriptor, (line + "\n").encode())


class GuestHardware(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "cmos.c").write_text(CMOS)
        subprocess.run(["gcc", "-O1", "-static", "-o", self.folder / "cmos", self.folder / "cmos.c"], check=True)
        guest_files.initrd(self.folder / "initrd", KERNEL, INIT, ["hv_vmbus", "rtc-cmos"], files=[(self.folder / "cmos", "cmos")])

    def boot(self, *options, append=""):
        process = subprocess.Popen(
            [BYGONE, "boot", "--engine", ENGINE, "--memory", "256M", "--kernel", str(KERNEL / "vmlinuz"), "--initrd", str(self.folder / "initrd"),
             "--append", f"console=ttyS0 quiet panic=-1 8250.nr_uarts=2 {append}", *map(str, options)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(lambda: (process.kill(), process.wait(), process.stdout.close(), process.stderr.close()))
        return process

    def connect(self, process, path):
        """To a socket that the machine makes when it is put together."""
        connection = socket.socket(socket.AF_UNIX)
        self.addCleanup(connection.close)
        while True:
            try:
                connection.connect(str(path))
                return Stream(connection.fileno())
            except (FileNotFoundError, ConnectionRefusedError):
                self.assertIsNone(process.poll(), "the machine ended")
                time.sleep(0.05)

    def end(self, process, wanted=0):
        output, errors = process.communicate(timeout=LIMIT_SECONDS)
        self.assertEqual(process.returncode, wanted, errors)
        return errors.decode(errors="replace")

    def test_socket_file_and_clock(self):
        process = self.boot("--com1", f"socket:{self.folder}/com1", "--com2", f"file:{self.folder}/com2")
        console = self.connect(process, self.folder / "com1")
        console.expect("^guest is up")
        console.send("echo written to a file > /dev/ttyS1")
        console.send(ALARM)
        before, after = map(int, console.expect(r"^alarm (\d+) to (\d+)\n").groups())
        self.assertGreater(after, before)
        console.send(PERIODIC)
        before, after = map(int, console.expect(r"^periodic (\d+) to (\d+)\n").groups())
        self.assertGreaterEqual(after, before + 3)  # six are due; a busy host merges some
        console.send("poweroff -f")
        self.end(process)
        self.assertIn("written to a file", (self.folder / "com2").read_text())

    def test_pseudo_terminals(self):
        process = self.boot("--com1", "pty", "--com2", "pty")
        ports = {}
        while len(ports) < 2:
            line = process.stderr.readline().decode()
            self.assertTrue(line, "the machine ended")
            if match := re.match(r"bygone: COM(\d) is (\S+)", line):
                ports[match[1]] = os.open(match[2], os.O_RDWR | os.O_NOCTTY)
                self.addCleanup(os.close, ports[match[1]])
        console, second = Stream(ports["1"]), Stream(ports["2"])
        console.expect("^guest is up")
        second.expect("^second is up")  # what comes before a port is open is lost
        second.send("hello")
        second.expect("^second got hello")
        console.send("poweroff -f")
        self.end(process)

    def test_chosen_enlightenments(self):
        clock = "echo clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
        for options, wanted in ((["--enlightenments=-reference-tsc"], "hyperv_clocksource_msr"),
                                (["--enlightenments=+tsc-invariant,+apic-registers"] if ENGINE == "software" else ["--enlightenments=+tsc-invariant"], "tsc"),
                                (["--guest", "windows"], "hyperv_clocksource_tsc_page")):
            with self.subTest(options=options):
                path = self.folder / f"com1-{wanted}"
                process = self.boot("--com1", f"socket:{path}", *options)
                console = self.connect(process, path)
                console.expect("^guest is up")
                console.send(clock)
                self.assertEqual(console.expect(r"^clock (\S+)\n")[1], wanted)
                console.send("poweroff -f")
                self.end(process)

    def test_reported_crash(self):
        process = self.boot("--com1", f"socket:{self.folder}/com1")
        console = self.connect(process, self.folder / "com1")
        console.expect("^guest is up")
        console.send("echo c > /proc/sysrq-trigger")
        said = self.end(process, wanted=1)  # its reset afterwards ends a machine without definition
        self.assertRegex(said, r"(?s)the guest crashed: processor 0 reports 0x[0-9a-f]+ .*sysrq: Trigger a crash.*Kernel panic - not syncing")
        self.assertEqual(console.text.count("guest is up"), 1)


parser = argparse.ArgumentParser()
parser.add_argument("bygone")
parser.add_argument("cache")
parser.add_argument("--engine", default="software")
known, rest = parser.parse_known_args()
BYGONE, ENGINE = known.bygone, known.engine
KERNEL = guest_files.kernel(known.cache)
unittest.main(argv=[sys.argv[0], *rest])
