#!/usr/bin/env python3
"""Tests firmware/check_image.py with small images made here."""
import os
import struct
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "firmware"))
import check_image  # noqa: E402

MAIN_BYTES = check_image.SEC_OFFSET
SEC_BYTES = check_image.IMAGE_BYTES - check_image.SEC_OFFSET


def ffs_file(kind, body):
    size = 24 + len(body)
    header = bytes(16) + b"\0\0" + bytes([kind, 0]) + size.to_bytes(3, "little") + b"\xf8"
    return header + body + bytes(-size % 8)


def firmware_volume(length, contents):
    header = bytearray(72)
    struct.pack_into("<Q4sIHHHBB", header, 32, length, b"_FVH", 0, 72, 0, 0, 0, 2)
    struct.pack_into("<H", header, 50, -sum(struct.unpack("<36H", header)) & 0xFFFF)
    return bytes(header) + contents + b"\xff" * (length - 72 - len(contents))


def te_image(entry=0x1234):
    return struct.pack("<2sHBBHIIQ16s", b"VZ", 0x8664, 1, 0, 0x1000, entry, 0, 0, bytes(16)) + b"\x90" * 4096


def section(kind, body):
    return (4 + len(body)).to_bytes(3, "little") + bytes([kind]) + body


def good_image(sec_files=None):
    main = firmware_volume(MAIN_BYTES, ffs_file(5, b"dxe core") + ffs_file(7, b"driver"))
    sec = sec_files if sec_files is not None else ffs_file(3, section(0x10, te_image()))
    return main + firmware_volume(SEC_BYTES, sec)


class CheckImage(unittest.TestCase):
    def test_good_image_has_its_entry_where_the_te_header_says(self):
        facts = check_image.check(good_image())
        te = check_image.SEC_OFFSET + 72 + 24 + 4
        self.assertEqual(facts["entry"], te + 0x1234 + 40 - 0x1000)
        self.assertEqual(facts["main_files"], 2)

    def test_wrong_size_is_refused(self):
        with self.assertRaisesRegex(check_image.LayoutError, "bytes"):
            check_image.check(good_image()[:-1])

    def test_missing_sec_core_is_refused(self):
        with self.assertRaisesRegex(check_image.LayoutError, "no SEC core"):
            check_image.check(good_image(sec_files=ffs_file(7, b"driver")))

    def test_entry_outside_the_volume_is_refused(self):
        sec = ffs_file(3, section(0x10, te_image(entry=0x7000000)))
        with self.assertRaisesRegex(check_image.LayoutError, "outside"):
            check_image.check(good_image(sec_files=sec))

    def test_wrong_checksum_is_refused(self):
        image = bytearray(good_image())
        image[check_image.SEC_OFFSET + 50] ^= 1
        with self.assertRaisesRegex(check_image.LayoutError, "checksum"):
            check_image.check(bytes(image))

    def test_file_that_leaves_its_volume_is_refused(self):
        image = bytearray(good_image())
        image[72 + 20:72 + 23] = b"\xff\xff\xfe"
        with self.assertRaisesRegex(check_image.LayoutError, "fit"):
            check_image.check(bytes(image))


if __name__ == "__main__":
    unittest.main()
