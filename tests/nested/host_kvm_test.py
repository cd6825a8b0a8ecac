#!/usr/bin/env python3
"""What decides whether the host's own KVM is used, and what the suite makes of its programs' answers: host_kvm.sh and suite.sh
with programs that only pretend.

  host_kvm_test.py DIRECTORY-OF-THE-SCRIPTS
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPTS = pathlib.Path(sys.argv.pop())
USABLE = "kvm: usable, taken by default"
PASSED = "[  PASSED  ] 3 tests."


class HostKvm(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.addCleanup(self.place.cleanup)
        self.pretend("bygone", USABLE)
        self.pretend("kvm_engine_test", PASSED)
        self.pretend("hostile_test", PASSED)
        self.pretend("engine_conformance_test", PASSED)
        self.pretend("guest_runner", "all passed")

    def pretend(self, name, text, status=0):
        """A program that says `text`, writes its arguments down, and ends with `status`."""
        path = pathlib.Path(self.place.name) / name
        path.write_text(f'#!/bin/sh\necho "$0 $*" >> calls\ncat <<"END"\n{text}\nEND\nexit {status}\n')
        path.chmod(0o755)

    def pretend_in_turn(self, name, texts):
        """A program that says another text each time."""
        path = pathlib.Path(self.place.name) / name
        lines = "\n".join(f'[ $n = {i + 1} ] && echo "{text}"' for i, text in enumerate(texts))
        path.write_text(f"#!/bin/sh\necho x >> times\nn=$(wc -l < times)\n{lines}\nexit 0\n")
        path.chmod(0o755)

    def run_it(self, *words):
        done = subprocess.run(["sh", SCRIPTS / "host_kvm.sh", self.place.name, *words, "one.bin"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        calls = pathlib.Path(self.place.name) / "calls"
        self.calls = calls.read_text() if calls.exists() else ""
        return done.returncode, done.stdout

    def test_a_usable_kvm_gets_the_whole_suite_without_an_allowance(self):
        status, text = self.run_it()
        self.assertEqual(status, 0, text)
        for call in ("kvm_engine_test", "hostile_test", "engine_conformance_test", "--engine kvm --facilities all", "--engine kvm --facilities none", "--move", "one.bin"):
            self.assertIn(call, self.calls)
        self.assertNotIn("--emulated-processor", self.calls)

    def test_the_allowance_for_an_emulator_reaches_the_guests(self):
        status, text = self.run_it("--emulated-processor")
        self.assertEqual(status, 0, text)
        self.assertEqual(self.calls.count("--emulated-processor"), 3)

    def test_an_emulated_kvm_is_left_alone_and_the_reason_is_said(self):
        self.pretend("bygone", "kvm: not usable\n  kernel mode is emulated")
        status, text = self.run_it()
        self.assertEqual(status, 77)
        self.assertIn("kernel mode is emulated", text)
        self.assertNotIn("guest_runner", self.calls)

    def test_one_bad_measurement_on_a_busy_host_is_not_believed(self):
        self.pretend_in_turn("bygone", ["kvm: not usable", USABLE, USABLE])
        status, text = self.run_it()
        self.assertEqual(status, 0, text)
        self.assertIn("guest_runner", self.calls)

    def test_a_verdict_that_cannot_be_had_is_a_failure_and_no_skip(self):
        self.pretend("bygone", "", status=1)
        self.assertEqual(self.run_it()[0], 1)

    def test_each_program_that_fails_fails_the_suite(self):
        for name in ("kvm_engine_test", "hostile_test", "engine_conformance_test", "guest_runner"):
            with self.subTest(name):
                self.setUp()
                self.pretend(name, PASSED, status=1)
                self.assertEqual(self.run_it()[0], 1)

    def test_a_skipped_test_is_named_and_fails_the_suite(self):
        self.pretend("kvm_engine_test", "[  PASSED  ] 2 tests.\n[  SKIPPED ] 1 test, listed below:\n[  SKIPPED ] Engine.wide_registers")
        status, text = self.run_it()
        self.assertEqual(status, 1)
        self.assertIn("Engine.wide_registers", text)

    def test_a_program_without_tests_fails_the_suite(self):
        self.pretend("hostile_test", "[  PASSED  ] 0 tests.")
        self.assertEqual(self.run_it()[0], 1)


if __name__ == "__main__":
    os.umask(0o022)
    unittest.main()
