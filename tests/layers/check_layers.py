#!/usr/bin/env python3
"""Holds the order of the rooms over #include lines.

A room may include itself and the rooms above it in ROOMS; the children of a room in SIBLINGS never include each other.
Usage: check_layers.py SRC. Exits 1 and prints each line that breaks the order.
"""
import pathlib
import re
import sys

ROOMS = ["support", "spec", "disk", "network", "memory", "cpu", "hyperv", "chipset", "vmbus", "devices", "firmware",
         "machine", "library", "service", "seamless", "programs"]
# Rooms whose direct subfolders must not know each other.
SIBLINGS = {"devices", "cpu", "programs"}
# The rooms that name concrete engines and devices; nobody else does.
NAMES_CONCRETE = {"machine", "programs"}
# devices do not see image formats; only these disk headers are theirs to use.
DISK_FOR_DEVICES = {"disk/block_device.h", "disk/memory_block_device.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def violations(src: pathlib.Path):
    for path in sorted(src.rglob("*")):
        if path.suffix not in {".h", ".cpp"}:
            continue
        own = path.relative_to(src).parts
        if own[0] not in ROOMS:
            yield f"{path}: folder {own[0]} is not a room"
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            target = pathlib.PurePosixPath(match[1]).parts
            problem = judge(own, target, match[1])
            if problem:
                yield f"{path}:{number}: {problem}"


def judge(own, target, text):
    """What is wrong with a file at `own` including `target` (path parts), or None."""
    if target[0] not in ROOMS:
        return f'"{text}" does not start with a room; write includes from src/'
    if ROOMS.index(target[0]) > ROOMS.index(own[0]):
        return f"{own[0]} may not include {target[0]}, which is built on it"
    for room in SIBLINGS:
        if own[0] == room and target[0] == room and len(own) > 2 and len(target) > 2 and own[1] != target[1]:
            return f"siblings {room}/{own[1]} and {room}/{target[1]} may not include each other"
    if target[0] == "cpu" and len(target) > 2 and own[0] != "cpu" and own[0] not in NAMES_CONCRETE:
        return f"only {sorted(NAMES_CONCRETE)} may name an engine"
    if target[0] == "cpu" and len(target) > 2 and own[0] == "cpu" and len(own) == 2 and not own[1].endswith("_test.cpp"):
        return "cpu itself may not name one of its engines"
    if own[0] == "devices" and target[0] == "disk" and text not in DISK_FOR_DEVICES:
        return "a device sees BlockDevice, never an image format"
    return None


def main():
    src = pathlib.Path(sys.argv[1])
    found = list(violations(src))
    for line in found:
        print(line)
    files = sum(1 for p in src.rglob("*") if p.suffix in {".h", ".cpp"})
    if files == 0:
        print(f"no source files under {src}")
        return 1
    print(f"{files} files, {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
