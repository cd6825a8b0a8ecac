#!/usr/bin/env python3
"""Checks a firmware image's layout against docs/firmware-interface.md, as a loader would read it.

Usage: check_image.py IMAGE [--json]
Prints where the entry is and how full the volumes are; exits 1 with the reason if a loader could not start the image.
"""
import json
import struct
import sys

IMAGE_BYTES = 0x600000
SEC_OFFSET = 0x5E0000
FILE_SECURITY_CORE = 3
SECTION_PE32 = 0x10


class LayoutError(Exception):
    pass


def volume(image, offset):
    """Returns (header length, volume length) of the firmware volume at offset."""
    if image[offset + 40:offset + 44] != b"_FVH":
        raise LayoutError(f"no firmware volume at 0x{offset:x}")
    length, = struct.unpack_from("<Q", image, offset + 32)
    header, = struct.unpack_from("<H", image, offset + 48)
    if offset + length > len(image) or header >= length:
        raise LayoutError(f"the volume at 0x{offset:x} does not fit its header")
    if sum(struct.unpack_from(f"<{header // 2}H", image, offset)) & 0xFFFF:
        raise LayoutError(f"the volume at 0x{offset:x} has a wrong header checksum")
    return header, length


def files(image, offset):
    """Yields (type, first byte, end) of each file in the volume at offset."""
    header, length = volume(image, offset)
    extended, = struct.unpack_from("<H", image, offset + 52)
    at = offset + header
    if extended:
        at = offset + extended + struct.unpack_from("<I", image, offset + extended + 16)[0]
    end = offset + length
    while True:
        at = offset + ((at - offset + 7) & ~7)
        if at + 24 > end or image[at:at + 24] == b"\xff" * 24:
            return
        size = int.from_bytes(image[at + 20:at + 23], "little")
        if image[at + 19] & 1:  # large file
            size, = struct.unpack_from("<Q", image, at + 24)
        if size < 24 or at + size > end:
            raise LayoutError(f"a file at 0x{at:x} does not fit its volume")
        yield image[at + 18], at, at + size
        at += size


def entry(image):
    """The offset of the first instruction, found as a loader finds it."""
    header, _ = volume(image, SEC_OFFSET)
    at = SEC_OFFSET + header  # a loader knows no extended header: the SEC core must follow at once
    for kind, first, end in files(image, SEC_OFFSET):
        if kind == FILE_SECURITY_CORE:
            break
    else:
        raise LayoutError("the SEC volume holds no SEC core")
    plain = SEC_OFFSET + ((at - SEC_OFFSET + 7) & ~7)
    while plain < first:  # walk as a loader does, whatever the extended header says
        size = int.from_bytes(image[plain + 20:plain + 23], "little")
        if size < 24 or size == 0xFFFFFF:
            raise LayoutError("a loader that walks the SEC volume's files does not reach the SEC core")
        plain += (size + 7) & ~7
    section = first + 24
    while section + 4 <= end:
        size = int.from_bytes(image[section:section + 3], "little")
        if image[section + 3] == SECTION_PE32:
            return pe_entry(image, section + 4)
        if size < 4:
            break
        section += (size + 3) & ~3
    raise LayoutError("the SEC core has no PE section")


def pe_entry(image, at):
    if image[at:at + 2] == b"VZ":
        stripped, = struct.unpack_from("<H", image, at + 6)
        return at + struct.unpack_from("<I", image, at + 8)[0] + 40 - stripped
    if image[at:at + 2] == b"MZ":
        header = at + struct.unpack_from("<I", image, at + 60)[0]
    else:
        header = at
    if image[header:header + 4] != b"PE\0\0":
        raise LayoutError("the SEC core is neither a PE nor a TE image")
    return at + struct.unpack_from("<I", image, header + 40)[0]


def check(image):
    if len(image) != IMAGE_BYTES:
        raise LayoutError(f"the image has {len(image)} bytes, not {IMAGE_BYTES}")
    first = entry(image)
    if not SEC_OFFSET < first < IMAGE_BYTES:
        raise LayoutError(f"the entry, 0x{first:x}, is outside the SEC volume")
    if image[first:first + 2] == b"\xff\xff":
        raise LayoutError("there is no code at the entry")
    main = list(files(image, 0))
    kinds = [kind for kind, _, _ in main]
    if kinds.count(5) != 1:
        raise LayoutError("the main volume needs exactly one DXE core")
    used = max(end for kind, _, end in main if kind != 0xF0)
    return {"entry": first, "main_files": len(main), "main_used": used, "main_bytes": SEC_OFFSET}


def main(arguments):
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if arguments else 2
    try:
        with open(arguments[0], "rb") as file:
            facts = check(file.read())
    except (LayoutError, OSError, struct.error) as error:
        print(f"check_image: {arguments[0]}: {error}", file=sys.stderr)
        return 1
    if "--json" in arguments:
        print(json.dumps(facts))
    else:
        print(f"entry 0x{facts['entry']:x}, {facts['main_files']} files in {facts['main_used'] >> 10} of "
              f"{facts['main_bytes'] >> 10} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
