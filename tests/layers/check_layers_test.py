#!/usr/bin/env python3
"""The layer check must be able to fail: each rule is broken once here."""
import unittest

from check_layers import judge


class Judge(unittest.TestCase):
    def check(self, own, target):
        return judge(tuple(own.split("/")), tuple(target.split("/")), target)

    def test_lower_room_may_not_include_upper(self):
        self.assertIn("built on it", self.check("support/log.cpp", "disk/block_device.h"))

    def test_upper_room_may_include_lower(self):
        self.assertIsNone(self.check("machine/gen2/gen2.cpp", "support/log.h"))

    def test_siblings_are_strangers(self):
        self.assertIn("siblings", self.check("devices/storage/scsi.cpp", "devices/network/nvsp.h"))
        self.assertIn("siblings", self.check("cpu/kvm/vcpu.cpp", "cpu/translator/vcpu.h"))
        self.assertIn("siblings", self.check("programs/bygone_vm/sandbox.cpp", "programs/bygone/commands.h"))
        self.assertIsNone(self.check("programs/bygone_main.cpp", "programs/bygone/commands.h"))

    def test_devices_see_no_image_format(self):
        self.assertIn("image format", self.check("devices/storage/scsi.cpp", "disk/vhdx/vhdx.h"))
        self.assertIsNone(self.check("devices/storage/scsi.cpp", "disk/block_device.h"))

    def test_only_machine_and_programs_name_engines(self):
        self.assertIn("name an engine", self.check("hyperv/synic.cpp", "cpu/kvm/partition.h"))
        self.assertIsNone(self.check("machine/gen2/gen2.cpp", "cpu/kvm/partition.h"))

    def test_include_must_start_with_a_room(self):
        self.assertIn("from src/", self.check("disk/raw.cpp", "raw.h"))


if __name__ == "__main__":
    unittest.main()
