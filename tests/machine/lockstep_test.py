#!/usr/bin/env python3
"""Debian's kernel on the software processor with interpreter and translator in lockstep: after every translated block both must have
the same registers, and after COUNT instructions the same memory.

  lockstep_test.py BYGONE CACHE [--flavour cloud-amd64|amd64] [--instructions COUNT] [--seconds LIMIT]
"""
import argparse
import pathlib
import re
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import guest_files  # noqa: E402

# User space has its share too, should the count reach so far.
INIT = """
echo "init: here"
while :; do md5sum /bin/busybox | sha256sum | gzip | gunzip > /dev/null; done
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bygone", type=pathlib.Path)
    parser.add_argument("cache")
    parser.add_argument("--flavour", default="cloud-amd64")
    parser.add_argument("--instructions", type=int, default=40_000_000)
    parser.add_argument("--seconds", type=int, default=300)
    arguments = parser.parse_args()
    kernel = guest_files.kernel(arguments.cache, arguments.flavour)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        guest_files.initrd(scratch / "initrd", kernel, INIT)
        machine = guest_files.Console(
            [arguments.bygone, "boot", "--verbose", "--engine", "software", "--lockstep", arguments.instructions, "--kernel", kernel / "vmlinuz",
             "--initrd", scratch / "initrd", "--append", "console=ttyS0 panic=-1", "--memory", "256M"], scratch / "log")
        try:
            said = machine.wait_for(r"lockstep: .*$", arguments.seconds)[0]
        finally:
            machine.kill()
        print(said)
        agreed = re.match(r"lockstep: (\d+) instructions in (\d+) translations", said)
        if not agreed or int(agreed[1]) < arguments.instructions or int(agreed[2]) < arguments.instructions // 40:
            raise SystemExit(machine.text()[-2000:])


main()
