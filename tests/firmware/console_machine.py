"""A running machine whose console is a pair of pipes: what the firmware's tests talk to. Nothing here measures time: the limits only
end a machine that hangs."""
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from tested_engine import limit  # noqa: E402

LIMIT_SECONDS = limit(120)


class Machine:
    """A running machine whose console is a pair of pipes."""

    def __init__(self, *command):
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.output = bytearray()
        self.seen = 0
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while data := os.read(self.process.stdout.fileno(), 65536):
            with self.changed:
                self.output += data
                self.changed.notify_all()
        with self.changed:
            self.output += b"\n[the machine ended]\n"
            self.changed.notify_all()

    def expect(self, pattern, seconds=LIMIT_SECONDS):
        """Waits for the pattern in what has come since the last match, and returns it; screen control sequences count as a space."""
        end = time.monotonic() + seconds
        with self.changed:
            while True:
                text = self._plain()
                if match := re.search(pattern.encode(), text[self.seen:], re.S):
                    self.seen += match.end()
                    return match
                ended = b"[the machine ended]" in self.output
                if ended or not self.changed.wait(end - time.monotonic()):
                    raise AssertionError(f"no {pattern!r}; the console's end: {text[-800:]!r}")

    def _plain(self):
        return re.sub(rb"\x1b\[[0-9;=?]*[a-zA-Z]", b" ", bytes(self.output))

    def text(self):
        """All that has come."""
        with self.changed:
            return self._plain().decode(errors="replace")

    def send(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdin.close()
        self.process.stdout.close()
