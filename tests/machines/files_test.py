#!/usr/bin/env python3
"""Machines as files: what `bygone` makes, shows, changes and removes, and what it says when something stands in the way. No guest runs.

Usage: files_test.py BYGONE [unittest options]
"""
import json
import os
import pty
import random
import re
import subprocess
import sys
import time
import unittest

from bygone_runner import Person

PROGRAM = None


class FilesTest(unittest.TestCase):
    def setUp(self):
        self.person = Person(PROGRAM)
        self.addCleanup(self.person.leave)

    def show(self, name):
        return json.loads(self.person.run("show", name))

    def test_create_list_show(self):
        person = self.person
        self.assertIn("no machines", person.run("list"))
        person.run("create", "An XP", "--guest", "legacy-windows", "--memory", "512M", "--cpus", "2", "--disk-size", "1G", "--dvd", "/images/xp.iso")
        shown = self.show("An XP")
        self.assertEqual((shown["guest"], shown["memory"], shown["processors"]), ("legacy-windows", "512M", 2))
        self.assertEqual(shown["disks"], [{"path": "An XP.vhdx"}])
        self.assertEqual(shown["dvds"], [{"path": "/images/xp.iso"}])
        self.assertEqual(shown["network"], [{"connection": "nat"}])
        self.assertTrue((person.place / "An XP/An XP.vhdx").exists())
        listed = person.json("list")
        self.assertEqual([(machine["name"], machine["state"]) for machine in listed], [("An XP", "off")])
        self.assertIn("there is a machine", person.fails("create", "An XP"))
        self.assertIn("a machine's name has", person.fails("create", "a/b"))
        self.assertIn("is not a network", person.fails("create", "B", "--network", "carrier-pigeon"))
        self.assertIn("parent", person.fails("create", "B", "--parent", "/nowhere/parent.vhdx"))
        self.assertEqual(len(person.json("list")), 1)

    def test_another_place_is_remembered(self):
        other = self.person.root / "other place"
        self.person.run("create", "Far", "--place", other)
        self.assertTrue((other / "Far/Far.json").exists())
        self.assertEqual(self.person.json("list")[0]["folder"], str(other / "Far"))

    def test_a_copied_folder_is_a_machine(self):
        self.person.run("create", "A")
        copy = self.person.root / "elsewhere/A"
        copy.parent.mkdir()
        (self.person.place / "A").rename(copy)
        self.assertIn("no machine \"A\"", self.person.fails("show", "A"))
        self.assertEqual(self.show(f"{copy}")["name"], "A")

    def answer_the_wizard(self, *answers):
        """On a terminal, as a person does: each answer when its question has come."""
        process, terminal = pty.fork()
        if process == 0:
            os.execve(self.person.program, [self.person.program, "create"], self.person.environment)
        said = b""
        for answer in answers:
            seen = len(said)
            while not re.search(rb": $", said[seen:]):
                said += os.read(terminal, 1000)
            os.write(terminal, answer.encode() + b"\n")
            said += os.read(terminal, len(answer) + 2)  # the terminal shows what is typed
        while True:
            try:
                part = os.read(terminal, 1000)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            said += part
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), said.decode()

    def test_the_wizard_and_its_kinds_of_disk(self):
        person = self.person
        code, said = self.answer_the_wizard("Plain", "", "", "", "", "64M")
        self.assertEqual(code, 0, said)
        self.assertEqual((self.show("Plain")["memory"], self.show("Plain")["network"]), ("1G", [{"connection": "nat"}]))
        base = person.place / "Plain/Plain.vhdx"
        self.assertEqual(json.loads(person.run("disk", "info", base, "--json"))[0]["kind"], "VHDX, dynamic")
        code, said = self.answer_the_wizard("Difference", "", "", "", "differencing", str(base))
        self.assertEqual(code, 0, said)
        self.assertEqual(json.loads(person.run("disk", "info", person.place / "Difference/Difference.vhdx", "--json"))[0]["kind"], "VHDX, differencing")
        other = person.root / "other"
        code, said = self.answer_the_wizard("Existing", str(other), "", "", "existing", str(base))
        self.assertEqual(code, 0, said)
        self.assertEqual(self.show("Existing")["disks"], [{"path": str(base)}])
        self.assertTrue((other / "Existing/Existing.json").exists())
        code, said = self.answer_the_wizard("Odd", "", "", "", "round")
        self.assertEqual(code, 1, said)
        self.assertIn("is not a kind of disk; nothing was made", said)
        self.assertEqual([machine["name"] for machine in person.json("list")], ["Difference", "Existing", "Plain"])

    def test_the_wizard(self):
        code, said = self.answer_the_wizard("Asked", "", "768M", "none", "fixed", "8M")
        self.assertEqual(code, 0, said)
        for question in ("1. ", "2. ", "3. "):
            self.assertIn(question, said)
        shown = self.show("Asked")
        self.assertEqual((shown["memory"], shown["network"]), ("768M", []))
        self.assertGreaterEqual((self.person.place / "Asked/Asked.vhdx").stat().st_size, 8 << 20)
        self.assertIn("give the new machine's name", self.person.fails("create"))

    def test_set_and_edit(self):
        person = self.person
        person.run("create", "S")
        person.run("set", "S", "memory=2G", "processors=4", "boot.command_line=quiet", 'dvds=[{}]', "integration.sockets=off")
        shown = self.show("S")
        self.assertEqual((shown["memory"], shown["processors"], shown["boot"], shown["dvds"]), ("2G", 4, {"command_line": "quiet"}, [{}]))
        before = person.definition("S").read_text()
        self.assertIn("from 1 to 64", person.fails("set", "S", "processors=65"))
        self.assertIn("no key", person.fails("set", "S", "color=red"))
        self.assertIn("rename", person.fails("set", "S", "name=T"))
        self.assertEqual(person.definition("S").read_text(), before)
        person.run("set", "S", "--remove", "boot.command_line")
        self.assertEqual(self.show("S")["boot"], {})

        person.environment["EDITOR"] = "sed -i s/2G/3G/"
        person.run("edit", "S")
        self.assertEqual(self.show("S")["memory"], "3G")
        person.environment["EDITOR"] = "sed -i s/3G/none/"
        said = person.fails("edit", "S")
        line = 1 + next(at for at, text in enumerate(person.definition("S").read_text().splitlines()) if '"memory"' in text)
        self.assertIn(f"S.json, line {line}: memory", said)
        self.assertEqual(self.show("S")["memory"], "3G")
        person.environment["EDITOR"] = "sed -i s/none/4G/"  # goes on with the draft
        person.run("edit", "S")
        self.assertEqual(self.show("S")["memory"], "4G")
        person.environment["EDITOR"] = "false"
        self.assertIn("nothing is changed", person.fails("edit", "S"))

    def test_unknown_keys_are_kept(self):
        self.person.run("create", "U")
        self.person.edit("U", colour="green")
        self.assertIn("colour: unknown key", self.person.try_run("show", "U").stderr)
        self.person.run("set", "U", "memory=2G")
        self.assertEqual(self.show("U")["colour"], "green")
        self.person.run("set", "U", "boot.kernel=/nowhere/vmlinuz")
        self.assertIn("colour: unknown key", self.person.fails("start", "U"))

    def test_one_broken_definition_does_not_hide_the_others(self):
        person = self.person
        person.run("create", "Good")
        person.run("create", "Broken")
        for text in ("", "{", "[]", '{"version": 1, "name": "Broken", "memory": 1e999}', '{"version": 1, "name": "Broken", "x": ' + "[" * 300000, "\0", "\xff"):
            person.definition("Broken").write_bytes(text.encode("latin-1"))
            broken, good = person.json("list")
            self.assertEqual((good["name"], good["note"]), ("Good", ""))
            self.assertIn("Broken.json, line 1", broken["note"])
            self.assertIn("Broken.json, line 1", person.fails("start", "Broken"))

    def test_rename_clone_delete(self):
        person = self.person
        person.run("create", "A", "--disk-size", "64M")
        (person.place / "A/A.vars").write_text("variables")
        person.run("rename", "A", "B")
        self.assertEqual(self.show("B")["disks"], [{"path": "A.vhdx"}])
        self.assertEqual(sorted(path.name for path in (person.place / "B").iterdir()), ["A.vhdx", "B.json", "B.vars"])
        person.run("clone", "B", "C")
        self.assertEqual((person.place / "C/C.vhdx").read_bytes(), (person.place / "B/A.vhdx").read_bytes())
        self.assertNotEqual(self.show("C")["id"], self.show("B")["id"])
        self.assertIn("there is a machine", person.fails("clone", "B", "C"))
        person.run("delete", "B")
        person.run("create", "B")
        person.run("delete", "B")
        files = person.root / "data/Trash/files"
        self.assertEqual(sorted(path.name for path in files.iterdir()), ["B", "B 2"])
        self.assertIn("Path=" + str(person.place / "B").replace(" ", "%20"), (person.root / "data/Trash/info/B.trashinfo").read_text())
        person.run("delete", "C", "--permanently")
        self.assertEqual(person.json("list"), [])
        self.assertEqual(list(person.place.iterdir()), [])

    def test_killed_commands(self):
        """kill -9 of a command at any moment: what it was about has been done, or has not."""
        person, chance = self.person, random.Random(time.time_ns())
        person.run("create", "A", "--disk-size", "64M")
        image = (person.place / "A/A.vhdx").read_bytes()
        done = 0
        for round_number in range(60):
            names = [machine["name"] for machine in person.json("list")]
            original = next(name for name in names if name in ("A", "B"))
            command = [("set", original, f"notes={round_number} " + "x" * 30000), ("rename", original, "AB".replace(original, "")),
                       ("clone", original, "Copy"), ("create", "New", "--disk-size", "64M"), ("delete", "Copy", "--permanently")][round_number % 5]
            process = subprocess.Popen([person.program, *command], env=person.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(chance.uniform(0, 0.03))
            process.kill()
            done += process.wait() == 0
            machines = person.json("list")
            self.assertEqual([machine["note"] for machine in machines if machine.get("note")], [], command)
            originals = [machine["name"] for machine in machines if machine["name"] in ("A", "B")]
            self.assertEqual(len(originals), 1, command)
            self.assertEqual((person.place / originals[0] / "A.vhdx").read_bytes(), image)
            for machine in machines:
                self.show(machine["name"])
                if machine["name"] == "Copy":
                    self.assertEqual((person.place / "Copy/Copy.vhdx").read_bytes(), image)
            if "New" in [machine["name"] for machine in machines]:
                person.run("delete", "New", "--permanently")
        print(f"{done} of 60 commands were quicker than their end", file=sys.stderr)

    def test_what_a_start_says(self):
        person = self.person
        self.assertIn("no machine \"N\"", person.fails("start", "N"))
        person.run("create", "N", "--engine", "software", "--kernel", "/nowhere/vmlinuz")
        self.assertIn("/nowhere/vmlinuz", person.fails("start", "N"))
        person.run("set", "N", "--remove", "boot.kernel")
        person.run("set", "N", "boot.firmware=/nowhere/firmware.fd")
        self.assertIn("/nowhere/firmware.fd", person.fails("start", "N"))
        for key, value in (("com2", "carrier"), ("network", '[{"connection": "nat"}, {"connection": "pigeon"}]'), ("network", '[{"connection": "nat", "mac": "soft"}]')):
            person.run("set", "N", f"{key}={value}")
            self.assertRegex(person.fails("start", "N"), rf"N.json, line \d+: {key}.*(carrier|pigeon|soft)")
            person.run("set", "N", "--remove", key)
        parent = person.root / "parent.vhdx"
        person.run("disk", "create", parent, "64M")
        person.run("create", "Child", "--engine", "software", "--parent", parent, "--kernel", "/nowhere/vmlinuz")
        parent.unlink()
        self.assertIn("parent.vhdx", person.fails("start", "Child"))
        person.edit("N", processors=1000)
        said = person.fails("start", "N")
        self.assertIn("N.json, line", said)
        self.assertIn("from 1 to 64", said)
        self.assertIn("from 1 to 64", person.json("list")[1]["note"])
        person.definition("N").write_text("{")
        self.assertIn("not JSON", person.fails("start", "N"))
        self.assertEqual([machine["state"] for machine in person.json("list")], ["off", "off"])
        for command in ("stop", "pause", "resume", "reset", "save", "console", "inspect"):
            self.assertIn("is not running", person.fails(command, "Child"))

    def test_a_full_disk(self):
        place = self.person.root / "small"
        place.mkdir()
        script = f"""
            mount -t tmpfs -o size=192k tmpfs '{place}' && export BYGONE_MACHINES='{place}' && '{self.person.program}' create Full &&
            cp '{place}/Full/Full.json' '{self.person.root}/before' && head -c 1000000 /dev/zero > '{place}/rest' 2> /dev/null
            '{self.person.program}' set Full "notes=$(head -c 60000 /dev/zero | tr '\\0' x)"; echo "set $?"
            '{self.person.program}' create Other; echo "create $?"
            cmp '{place}/Full/Full.json' '{self.person.root}/before' && '{self.person.program}' list"""
        done = subprocess.run(["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--mount", "sh", "-c", script],
                              env=self.person.environment, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("set 1", done.stdout)
        self.assertIn("create 1", done.stdout)
        self.assertIn("No space left", done.stderr)
        self.assertIn("Full  off", done.stdout)
        self.assertNotIn("Other", done.stdout.replace("create 1", ""))


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
