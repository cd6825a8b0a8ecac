#!/usr/bin/env python3
"""How much time bygone-window adds between a person and a machine, measured from outside: on a virtual X server and in front of a
machine's process that this program plays.

  key, pointer   from the X server's event to the request at the machine's control socket
  picture        from a change in the guest's framebuffer and its event to the pixel on the display

Usage: latency.py BYGONE_WINDOW [--count N]. Ends with 1 when a median is 5 ms or more. Only a quiet computer measures anything.
"""
import argparse
import ctypes
import json
import mmap
import os
import pathlib
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

sys.path[:0] = [str(pathlib.Path(__file__).parents[2] / "tests/window")]
from display import Display

NAME, WIDTH, HEIGHT = "Latency", 800, 600
LIMIT_MS = 5.0


class PlayedMachine:
    """The least of docs/control-protocol.md that a window needs."""

    def __init__(self, runtime):
        folder = runtime / "bygone" / NAME
        folder.mkdir(parents=True, mode=0o700)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(folder / "control"))
        self.listener.listen()
        self.memory = os.memfd_create("screen")
        os.ftruncate(self.memory, WIDTH * HEIGHT * 4)
        self.pixels = mmap.mmap(self.memory, WIDTH * HEIGHT * 4)
        self.clients, self.watcher = [], None

    def send(self, client, message, *files):
        socket.send_fds(client, [json.dumps(message).encode()], list(files))

    def serve(self, seconds, wanted=None):
        """Answers until a request of the wanted kind comes; the moment when it did, or None."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            ready, _, _ = select.select([self.listener, *self.clients], [], [], left)
            now = time.perf_counter()
            for each in ready:
                if each is self.listener:
                    client, _ = each.accept()
                    self.clients.append(client)
                    self.send(client, {"hello": 1, "machine": NAME, "process": os.getpid()})
                    continue
                packet = each.recv(65536)
                if not packet:
                    self.clients.remove(each)
                    continue
                request = json.loads(packet)
                self.answer(each, request)
                if request["do"] == wanted:
                    return now
        return None

    def answer(self, client, request):
        reply = {"id": request["id"], "reply": "ok"}
        if request["do"] == "status":
            reply |= {"name": NAME, "state": "running"}
        self.send(client, reply)
        if request["do"] == "watch":
            self.watcher = client
            self.send(client, {"event": "screen-mode", "width": WIDTH, "height": HEIGHT, "stride": WIDTH * 4, "depth": 32, "offset": 0}, self.memory)
            self.draw(0)

    def draw(self, colour):
        self.pixels[:] = struct.pack("<I", colour) * (WIDTH * HEIGHT)
        self.send(self.watcher, {"event": "screen-damage", "areas": [[0, 0, WIDTH, HEIGHT]]})


class Hand:
    """Strikes keys and moves the pointer as a device of the X server."""

    def __init__(self, display):
        self.x11, self.test = ctypes.CDLL("libX11.so.6"), ctypes.CDLL("libXtst.so.6")
        self.x11.XOpenDisplay.restype = ctypes.c_void_p
        self.display = ctypes.c_void_p(self.x11.XOpenDisplay(display.name.encode()))

    def key(self, code, is_pressed):
        self.test.XTestFakeKeyEvent(self.display, code, is_pressed, 0)
        self.x11.XFlush(self.display)

    def move(self, x, y):
        self.test.XTestFakeMotionEvent(self.display, -1, x, y, 0)
        self.x11.XFlush(self.display)


def report(name, times):
    times = sorted(1000 * each for each in times)
    median = statistics.median(times)
    print(f"{name:8} median {median:6.2f} ms   95 of 100 below {times[len(times) * 95 // 100]:6.2f} ms   longest {times[-1]:6.2f} ms   ({len(times)} times)")
    return median < LIMIT_MS


def measure(act, machine, wanted, count):
    times = []
    for number in range(count):
        machine.serve(0.02)
        begin = time.perf_counter()
        act(number)
        came = machine.serve(5, wanted)
        if came is None:
            raise SystemExit(f"latency.py: no {wanted} came within 5 s")
        times.append(came - begin)
    return times


def measure_picture(machine, display, count):
    times = []
    with open(display.file, "rb") as file:
        screen = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        words = struct.unpack(">25I", screen[:100])
        place = words[0] + 12 * words[19] + 300 * words[12] + 4 * 300
        for number in range(count):
            machine.serve(0.02)
            colour = 0x010203 + number
            begin = time.perf_counter()
            machine.draw(colour)
            while struct.unpack("<I", screen[place:place + 4])[0] & 0xFFFFFF != colour:
                if time.perf_counter() - begin > 5:
                    raise SystemExit("latency.py: no picture within 5 s")
            times.append(time.perf_counter() - begin)
    return times


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("window")
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp") as root:
        root = pathlib.Path(root)
        display = Display(root)
        machine = PlayedMachine(root)
        window = subprocess.Popen([options.window, NAME], env={**os.environ, "DISPLAY": display.name, "QT_QPA_PLATFORM": "xcb", "XDG_RUNTIME_DIR": str(root),
                                                               "QT_ACCESSIBILITY": "0"})
        try:
            machine.serve(3)
            number = subprocess.run(["xdotool", "search", "--onlyvisible", "--name", NAME], env={**os.environ, "DISPLAY": display.name}, check=True,
                                    capture_output=True, text=True).stdout.split()[0]
            subprocess.run(["xdotool", "windowfocus", "--sync", number], env={**os.environ, "DISPLAY": display.name}, check=True)
            machine.serve(1)
            hand = Hand(display)
            good = report("key", measure(lambda number: hand.key(38, number % 2 == 0), machine, "keys", options.count))
            good &= report("pointer", measure(lambda number: hand.move(200 + number, 300), machine, "pointer", options.count))
            hand.move(1200, 1000)  # the display's own pointer is in its picture
            good &= report("picture", measure_picture(machine, display, options.count))
        finally:
            window.kill()
            window.wait()
            display.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
