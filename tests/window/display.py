"""Displays without a screen for programs with windows."""
import collections
import os
import re
import struct
import subprocess


class Display:
    """An X server whose picture can be read."""
    SCREEN = "1280x1024x24"

    def __init__(self, folder):
        self.file = folder / "Xvfb_screen0"
        # Two servers that start in the same moment may choose the same number, and one of them ends: tries again then.
        for _ in range(5):
            reader, writer = os.pipe()
            # -noreset: else the server starts anew when its last client goes, and turns away whoever comes meanwhile.
            self.process = subprocess.Popen(["Xvfb", "-noreset", "-displayfd", str(writer), "-screen", "0", self.SCREEN, "-fbdir", str(folder)],
                                            pass_fds=[writer], stderr=subprocess.DEVNULL)
            os.close(writer)
            with os.fdopen(reader) as answer:
                self.name = f":{answer.readline().strip()}"
            if self.name != ":" and self.process.poll() is None:
                return
            self.close()
        raise AssertionError("Xvfb did not start (Debian package xvfb)")

    def pixels(self):
        """(width, height, pixel function) of the display, from its XWD file (X11/XWDFile.h: big-endian words)."""
        data = self.file.read_bytes()
        words = struct.unpack(">25I", data[:100])
        header, width, height, line, colours = words[0], words[4], words[5], words[12], words[19]
        start = header + 12 * colours
        return width, height, lambda x, y: data[start + y * line + 4 * x:start + y * line + 4 * x + 3]

    def count(self, colour, tolerance=0):
        """How many pixels have that colour: three bytes, blue first, each up to `tolerance` off."""
        data = self.file.read_bytes()
        words = struct.unpack(">25I", data[:100])
        counts = collections.Counter(memoryview(data)[words[0] + 12 * words[19]:][:words[12] * words[5]].cast("I"))
        return sum(count for word, count in counts.items()
                   if all(abs(have - want) <= tolerance for have, want in zip(word.to_bytes(4, "little"), colour)))

    def close(self):
        self.process.terminate()
        self.process.wait()


class Compositor:
    """A Wayland compositor whose screen is a window of an X server: keys, pointer and picture are had there."""

    def __init__(self, folder, display):
        self.socket = "bygone-wayland"
        self.log = folder / "weston.log"
        self.process = subprocess.Popen(["weston", "--backend=x11-backend.so", "--use-pixman", "--shell=kiosk-shell.so", "--no-config", "--idle-time=0",
                                         "--width=1280", "--height=1024", f"--socket={self.socket}", f"--log={self.log}"],
                                        env={**os.environ, "DISPLAY": display.name, "XDG_RUNTIME_DIR": str(folder)},
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.path = folder / self.socket

    def window(self):
        """The number of its window, once it is ready for clients; else None."""
        found = re.search(r"x11 output .* window id (\d+)", self.log.read_text()) if self.path.exists() else None
        return found and found[1]

    def close(self):
        self.process.terminate()
        self.process.wait()
