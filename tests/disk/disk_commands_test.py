#!/usr/bin/env python3
"""`bygone disk` as a person runs it: real processes, signals, full disks, locks, other people's readers of the same formats.

Usage: disk_commands_test.py BYGONE [unittest options]"""
import fcntl
import json
import os
import pathlib
import pty
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import pyvhdi

BYGONE = ""
MIB = 1 << 20


def bygone(*arguments, **options):
    return subprocess.run([BYGONE, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False, **options)


def run(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=True).stdout


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bygone-disk-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def names(self):
        return sorted(path.name for path in self.folder.iterdir())

    def succeed(self, *arguments, **options):
        outcome = bygone(*arguments, **options)
        self.assertEqual(outcome.returncode, 0, outcome.stderr + outcome.stdout)
        return outcome

    def fail_with(self, text, *arguments, **options):
        outcome = bygone(*arguments, **options)
        self.assertEqual(outcome.returncode, 1, outcome.stderr + outcome.stdout)
        self.assertIn(text, outcome.stderr)
        return outcome

    def raw(self, name, mebibytes, data_every=1, seed=1):
        """A raw image with a MiB of data in every `data_every`; the rest are holes."""
        path = self.folder / name
        source = random.Random(seed)
        with open(path, "wb") as file:
            for index in range(0, mebibytes, data_every):
                file.seek(index * MIB)
                file.write(source.randbytes(MIB))
            file.truncate(mebibytes * MIB)
        return path

    def write(self, image, offset, data):
        piece = self.folder / "piece.bin"
        piece.write_bytes(data)
        subprocess.run([WRITER, str(image), str(offset), str(piece)], check=True, timeout=300)
        piece.unlink()

    def content(self, image):
        """What the image reads as, by our own hand."""
        copy = self.folder / "content.img"
        self.succeed("disk", "convert", image, copy)
        data = copy.read_bytes()
        copy.unlink()
        return data


class ExitCodes(Case):
    COMMANDS = ["create", "info", "check", "convert", "resize", "compact", "merge", "map", "rebase"]

    def test_every_command_has_help_with_examples(self):
        for command in [[], *([name] for name in self.COMMANDS)]:
            text = self.succeed("disk", *command, "--help").stdout
            self.assertIn("Examples:", text, command)
            self.assertIn("bygone disk", text, command)
            if command:
                self.assertIn("--json", text, command)

    def test_wrong_use_is_two(self):
        self.assertEqual(bygone("disk").returncode, 2)
        self.assertEqual(bygone("disk", "no-such-thing").returncode, 2)
        self.assertEqual(bygone("disk", "create", self.folder / "a.vhdx", "40X").returncode, 2)
        for command in self.COMMANDS:
            self.assertEqual(bygone("disk", command).returncode, 2, command)
            self.assertEqual(bygone("disk", command, "--no-such-option").returncode, 2, command)
        self.assertEqual(self.names(), [])

    def test_failure_is_one_says_what_to_do_and_is_json_when_asked(self):
        missing = self.folder / "missing.vhdx"
        for command in (["info", missing], ["check", missing], ["convert", missing, self.folder / "b.vhdx"], ["resize", missing, "1G"],
                        ["compact", missing], ["merge", missing], ["map", missing], ["rebase", missing, "--parent", missing]):
            self.fail_with("missing.vhdx", "disk", *command)
            outcome = bygone("disk", *command, "--json")
            self.assertEqual(outcome.returncode, 1)
            self.assertIn("missing.vhdx", json.loads(outcome.stdout)["error"]["message"])
        self.assertEqual(self.names(), [])

    def test_lists_are_json_when_asked(self):
        self.succeed("disk", "create", self.folder / "a.vhdx", "40M", "--json")
        self.succeed("disk", "create", self.folder / "b.vhdx", "--parent", self.folder / "a.vhdx", "--json")
        chain = json.loads(self.succeed("disk", "info", self.folder / "b.vhdx", "--json").stdout)
        self.assertEqual([entry["kind"] for entry in chain], ["VHDX, differencing", "VHDX, dynamic"])
        self.assertTrue(json.loads(self.succeed("disk", "check", self.folder / "b.vhdx", "--json").stdout)["sound"])
        self.assertEqual(json.loads(self.succeed("disk", "map", self.folder / "b.vhdx", "--json").stdout)[0]["length"], 40 * MIB)


class Interruption(Case):
    def interrupt(self, *arguments):
        """Ctrl-C as soon as the command says how far it is."""
        command = subprocess.Popen([BYGONE, *map(str, arguments), "--json"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while True:
            line = command.stderr.readline()
            self.assertTrue(line, "ended before it could be interrupted")
            if 0 < json.loads(line).get("progress", 0) < 0.9:
                break
        command.send_signal(signal.SIGINT)
        out, _ = command.communicate(timeout=120)
        self.assertEqual(command.returncode, 1)
        self.assertEqual(json.loads(out)["error"]["code"], "cancelled")

    def test_convert_leaves_source_and_target_as_they_were(self):
        source = self.raw("source.img", 1536, data_every=4)
        before = os.stat(source)
        (self.folder / "target.vhdx").write_text("what was there")
        self.interrupt("disk", "convert", "--force", source, self.folder / "target.vhdx")
        self.assertEqual(self.names(), ["source.img", "target.vhdx"])
        self.assertEqual((self.folder / "target.vhdx").read_text(), "what was there")
        self.assertEqual(os.stat(source).st_mtime_ns, before.st_mtime_ns)

    def test_compact_leaves_the_image_as_it_was(self):
        image = self.folder / "a.vhdx"
        self.succeed("disk", "convert", self.raw("source.img", 1536, data_every=4), image)
        (self.folder / "source.img").unlink()
        before = run("sha256sum", image)
        self.interrupt("disk", "compact", image)
        self.assertEqual(self.names(), ["a.vhdx"])
        self.assertEqual(run("sha256sum", image), before)

    def test_merge_leaves_the_child_reading_as_before_and_goes_on(self):
        source = self.raw("source.img", 1536, data_every=4)
        for ending, kind in (("vhdx", "vhdx"), ("vhd", "vpc")):
            base, child = self.folder / f"base.{ending}", self.folder / f"child.{ending}"
            self.succeed("disk", "create", base, "1536M")
            self.succeed("disk", "create", child, "--parent", base)
            subprocess.run([WRITER, str(child), "0", str(source)], check=True, timeout=300)
            self.interrupt("disk", "merge", child)
            flat = self.folder / "flat.img"
            self.succeed("disk", "convert", child, flat)
            self.assertIn("identical", run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, flat))
            flat.unlink()
            self.succeed("disk", "merge", child)
            self.assertNotIn(child.name, self.names())
            self.assertIn("identical", run("qemu-img", "compare", "-f", "raw", "-F", kind, source, base))
            base.unlink()


    def test_every_command_stops_or_finishes_at_any_moment(self):
        """Whatever the moment of Ctrl-C, the images read as before, they are sound, and nothing unfinished lies beside them."""
        data = random.Random(3).randbytes(8 * MIB)
        size = 64 * MIB
        base, child, moved, target = (self.folder / name for name in ("base.vhdx", "child.vhdx", "moved.vhdx", "target.vhdx"))

        def prepare():
            for path in self.folder.iterdir():
                path.unlink()
            self.succeed("disk", "create", base, size)
            self.write(base, 0, data)
            shutil.copy2(base, moved)
            self.succeed("disk", "create", child, "--parent", base)
            self.write(child, 4 * MIB, data)

        commands = {"create": ["create", target, "256M", "--kind", "fixed"], "info": ["info", child], "check": ["check", child],
                    "repair": ["check", "--repair", base], "convert": ["convert", child, target], "resize": ["resize", child, "96M"],
                    "compact": ["compact", child], "map": ["map", child], "rebase": ["rebase", child, "--parent", moved],
                    "merge": ["merge", child]}
        expected = data[:4 * MIB] + data
        stopped = 0
        for name, arguments in commands.items():
            for milliseconds in (1, 4, 8, 16, 40):
                prepare()
                command = subprocess.Popen([BYGONE, "disk", *map(str, arguments)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                time.sleep(milliseconds / 1000)
                command.send_signal(signal.SIGINT)
                _, errors = command.communicate(timeout=120)
                when = f"{name}, Ctrl-C after {milliseconds} ms: code {command.returncode}, {errors}"
                # Before the program has begun the signal just ends it.
                self.assertIn(command.returncode, (0, 1, -signal.SIGINT), when)
                stopped += command.returncode != 0
                is_merged = name == "merge" and not child.exists()
                leaf = base if is_merged else child
                wanted = {"base.vhdx", "moved.vhdx"} | (set() if is_merged else {"child.vhdx"})
                if command.returncode == 0 and name in ("create", "convert"):
                    wanted.add("target.vhdx")
                self.assertEqual(set(self.names()), wanted, when)
                for image in sorted(wanted):
                    self.succeed("disk", "check", self.folder / image)
                content = self.content(leaf)
                self.assertIn(len(content), (size, 96 * MIB) if name == "resize" else (size,), when)
                self.assertTrue(content[:len(expected)] == expected and not any(content[len(expected):]), when)
        self.assertGreater(stopped, 0, "no command was ever stopped")


class Space(Case):
    def limited(self, bytes_allowed):
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_allowed, bytes_allowed))

    def test_a_file_size_limit_fails_clearly_and_leaves_nothing(self):
        source = self.raw("source.img", 32)
        for target in ("a.vhdx", "a.vhd", "a.img"):
            outcome = bygone("disk", "convert", source, self.folder / target, preexec_fn=self.limited(16 * MIB))
            self.assertEqual(outcome.returncode, 1, outcome)
            self.assertIn("too large", outcome.stderr.lower())
            self.assertEqual(self.names(), ["source.img"])
        for arguments in (["a.vhdx", "1G", "--kind", "fixed"], ["a.vhd", "1G", "--kind", "fixed"], ["a.img", "1G", "--kind", "fixed"]):
            outcome = bygone("disk", "create", self.folder / arguments[0], *arguments[1:], preexec_fn=self.limited(16 * MIB))
            self.assertEqual(outcome.returncode, 1, outcome)
            self.assertEqual(self.names(), ["source.img"])

    def test_a_full_file_system_fails_clearly_and_leaves_nothing(self):
        """A tmpfs of 24 MiB in a mount namespace of its own."""
        self.raw("source.img", 32)
        inside = self.folder / "small"
        inside.mkdir()
        script = (f"mount -t tmpfs -o size=24M none {inside} && {BYGONE} disk convert {self.folder}/source.img {inside}/a.vhdx; "
                  f"echo code $?; ls -A {inside} | wc -l; {BYGONE} disk create {inside}/b.vhd 1G --kind fixed; echo code $?; ls -A {inside} | wc -l")
        spaces = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
        outcome = subprocess.run(["unshare", *spaces, "sh", "-c", script], capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(outcome.stdout.split(), ["code", "1", "0", "code", "1", "0"], outcome.stderr)
        self.assertEqual(outcome.stderr.count("No space left on device"), 2, outcome.stderr)

    def test_a_read_only_file_is_refused_and_unharmed(self):
        """On a read-only file system, which binds root too."""
        image = self.folder / "a.vhdx"
        self.succeed("disk", "create", image, "64M")
        before = run("sha256sum", image)
        script = (f"mount --bind {self.folder} {self.folder} && mount -o remount,bind,ro {self.folder} && "
                  f"for c in 'compact {image}' 'resize {image} 128M' 'check --repair {image}' 'create {self.folder}/b.vhdx 1G'; do "
                  f"{BYGONE} disk $c; echo code $?; done; {BYGONE} disk info {image} > /dev/null; echo code $?")
        spaces = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
        outcome = subprocess.run(["unshare", *spaces, "sh", "-c", script], capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(outcome.stdout.split("\n")[:5], ["code 1"] * 4 + ["code 0"], outcome.stderr)
        self.assertEqual(outcome.stderr.count("Read-only file system"), 4, outcome.stderr)
        self.assertEqual(run("sha256sum", image), before)

    def test_an_image_that_qemu_has_open_is_refused_and_the_other_way_round(self):
        image = self.folder / "a.vhdx"
        self.succeed("disk", "create", image, "64M")
        qemu = subprocess.Popen(["qemu-io", "-f", "vhdx", image], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            qemu.stdin.write("write 0 4k\n")
            qemu.stdin.flush()
            self.assertIn("wrote", qemu.stdout.readline())
            self.fail_with("open in another program", "disk", "compact", image)
            self.fail_with("Close the machine or tool", "disk", "resize", image, "128M")
            self.succeed("disk", "info", image)
        finally:
            qemu.communicate("quit\n", timeout=60)
        self.succeed("disk", "compact", image)


class Foreign(Case):
    def test_qcow2_and_vmdk_are_read_through_qemu_img_which_is_said(self):
        source = self.raw("source.img", 40, data_every=3)
        for kind in ("qcow2", "vmdk"):
            foreign = self.folder / f"a.{kind}"
            run("qemu-img", "convert", "-O", kind, source, foreign)
            target = self.folder / f"from-{kind}.vhdx"
            outcome = self.succeed("disk", "convert", foreign, target)
            self.assertIn(f"a.{kind} through qemu-img", outcome.stderr)
            self.assertIn("identical", run("qemu-img", "compare", "-f", kind, "-F", "vhdx", foreign, target))
        self.assertEqual(self.names(), ["a.qcow2", "a.vmdk", "from-qcow2.vhdx", "from-vmdk.vhdx", "source.img"])

    def test_without_qemu_img_it_says_what_to_install(self):
        foreign = self.folder / "a.qcow2"
        run("qemu-img", "create", "-f", "qcow2", foreign, "10M")
        outcome = self.fail_with("needs qemu-img", "disk", "convert", foreign, self.folder / "b.vhdx", env={"PATH": str(self.folder)})
        self.assertIn("apt install qemu-utils", outcome.stderr)
        self.assertEqual(self.names(), ["a.qcow2"])

    def test_what_qemu_img_complains_of_is_passed_on(self):
        (self.folder / "a.qcow2").write_bytes(b"QFI\xfb" + bytes(600))
        self.fail_with("qemu-img could not convert", "disk", "convert", self.folder / "a.qcow2", self.folder / "b.vhdx")
        self.assertEqual(self.names(), ["a.qcow2"])


class Progress(Case):
    def test_a_terminal_shows_a_bar_and_json_shows_lines(self):
        source = self.raw("source.img", 768, data_every=3)
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, 0x5414, b"\x18\x00\x50\x00\x00\x00\x00\x00")  # TIOCSWINSZ
        command = subprocess.Popen([BYGONE, "disk", "convert", str(source), str(self.folder / "a.vhdx")], stderr=follower)
        os.close(follower)
        shown = b""
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:
                break
            if not piece:
                break
            shown += piece
        os.close(leader)
        self.assertEqual(command.wait(), 0)
        self.assertIn(b"\r[", shown)
        self.assertIn(b" %", shown)
        self.assertTrue(shown.endswith(b"\r\x1b[K"), shown[-60:])
        outcome = self.succeed("disk", "convert", source, self.folder / "b.vhdx", "--json")
        parts = [json.loads(line)["progress"] for line in outcome.stderr.splitlines()]
        self.assertTrue(parts)
        self.assertEqual(parts, sorted(parts))
        self.assertLessEqual(parts[-1], 1)


class OtherReaders(Case):
    """qemu for whatever stands alone; libvhdi for chains too, which qemu does not read; and FUSE, where the host has it."""

    def make_chain(self, ending):
        """base ← middle ← leaf, each with data of its own; returns the leaf and what it reads as."""
        size = 24 * MIB
        content = bytearray(size)
        base = self.folder / f"base{ending}"
        self.succeed("disk", "create", base, size)
        parent = base
        files = [base]
        source = random.Random(ending)
        for name in ("middle", "leaf"):
            files.append(self.folder / f"{name}{ending}")
        for index, file in enumerate(files):
            if index > 0:
                self.succeed("disk", "create", file, "--parent", parent)
            for _ in range(6):
                length = 512 * source.randrange(1, 3000)
                offset = 512 * source.randrange(0, (size - length) // 512)
                data = source.randbytes(length)
                content[offset:offset + length] = data
                self.write(file, offset, data)
            parent = file
        return files, bytes(content)

    def read_with_libvhdi(self, files):
        opened = []
        for path in files:
            image = pyvhdi.file()
            image.open(str(path))
            if opened:
                image.set_parent(opened[-1])
            opened.append(image)
        leaf = opened[-1]
        return leaf.read_buffer_at_offset(leaf.get_media_size(), 0)

    def test_chains_read_the_same_through_libvhdi(self):
        for ending in (".vhd", ".vhdx"):
            files, content = self.make_chain(ending)
            self.assertEqual(self.content(files[-1]), content, "ours")
            self.assertTrue(self.read_with_libvhdi(files) == content, f"libvhdi reads {ending} otherwise")
            for file in files:
                self.assertIn("Media size", run("vhdiinfo", file))

    def test_chains_read_the_same_through_vhdimount(self):
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            self.skipTest("no /dev/fuse here; the same library has read the same chains in the test above")
        for ending in (".vhd", ".vhdx"):
            files, content = self.make_chain(ending)
            place = self.folder / f"mounted{ending}"
            place.mkdir()
            run("vhdimount", files[-1], place)
            try:
                shown = sorted(place.iterdir())  # the chain's images, the oldest first
                self.assertEqual(len(shown), len(files))
                self.assertTrue(shown[-1].read_bytes() == content, f"vhdimount shows {ending} otherwise")
            finally:
                for _ in range(20):
                    if subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode == 0:
                        break
                    time.sleep(0.2)

    def test_every_kind_compares_equal_in_both_directions(self):
        source = self.raw("source.img", 24, data_every=2)
        for ending, kind, name, options in ((".vhdx", "dynamic", "vhdx", []), (".vhdx", "fixed", "vhdx", ["-o", "subformat=fixed"]),
                                            (".vhd", "dynamic", "vpc", ["-o", "force_size=on"]),
                                            (".vhd", "fixed", "vpc", ["-o", "subformat=fixed,force_size=on"])):
            ours, theirs = self.folder / f"ours-{kind}{ending}", self.folder / f"theirs-{kind}{ending}"
            self.succeed("disk", "convert", source, ours, "--kind", kind)
            self.assertIn("identical", run("qemu-img", "compare", "-f", "raw", "-F", name, source, ours))
            if name == "vhdx":
                self.assertIn("No errors", run("qemu-img", "check", "-f", name, ours))
            run("qemu-img", "convert", "-O", name, *options, source, theirs)
            self.succeed("disk", "check", theirs)
            self.assertTrue(self.content(theirs) == source.read_bytes(), f"{name} {kind}")
            self.assertTrue(self.read_with_libvhdi([ours]) == source.read_bytes(), f"libvhdi: {name} {kind}")


WRITER = ""

if __name__ == "__main__":
    BYGONE, WRITER = (os.path.abspath(path) for path in sys.argv[1:3])
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
