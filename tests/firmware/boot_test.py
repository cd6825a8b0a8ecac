#!/usr/bin/env python3
"""Boots the real firmware on the software CPU and talks to it over COM1.

Usage: boot_test.py BYGONE FIRMWARE HELLO_EFI
Needs mtools, xorriso, genisoimage, and EDK II's source where firmware/build has left it (its font tells what is on the screen).
"""
import datetime
import pathlib
import random
import re
import shutil
import subprocess
import sys
import unittest

import screen
from boot_case import NAMED_PROGRAM, ROOT, BootCase
from console_machine import LIMIT_SECONDS

HELLO = None
# Checks the variable that it wrote the last time, then writes it for ever; each finished write is told on the console.
VARIABLE_PROGRAM = """
#include <bygone/uefi.h>
using namespace bygone::uefi;
using Set = Status(BYGONE_UEFI_CALL*)(const char16_t*, const Guid*, std::uint32_t, std::uint64_t, const void*);
using Get = Status(BYGONE_UEFI_CALL*)(const char16_t*, const Guid*, std::uint32_t*, std::uint64_t*, void*);
constexpr Guid kVendor{0x52d01c9e, 0x3f4b, 0x4a6e, {1, 2, 3, 4, 5, 6, 7, 8}};
static std::uint32_t numbers[1024];
static void print(SystemTable* system, const char16_t* before, std::uint32_t number) {
  char16_t text[11] = {};
  int at = 10;
  do { text[--at] = static_cast<char16_t>(u'0' + number % 10); number /= 10; } while (number != 0);
  system->console_out->output_string(system->console_out, before);
  system->console_out->output_string(system->console_out, text + at);
  system->console_out->output_string(system->console_out, u"\\r\\n");
}
extern "C" BYGONE_UEFI_CALL Status efi_main(void*, SystemTable* system) {
  auto* const services = static_cast<char*>(system->runtime_services);
  const Get get = *reinterpret_cast<Get*>(services + 72);  // UEFI 2.10, 4.5: after the header and six services
  const Set set = *reinterpret_cast<Set*>(services + 88);
  std::uint64_t bytes = sizeof numbers;
  std::uint32_t number = 0;
  if (get(u"Counter", &kVendor, nullptr, &bytes, numbers) == 0) {
    number = numbers[0];
    for (const std::uint32_t each : numbers) {
      if (each != number) print(system, u"torn at ", each);
    }
  }
  print(system, u"found ", number);
  for (;;) {
    ++number;
    for (volatile std::uint32_t& each : numbers) each = number;
    if (set(u"Counter", &kVendor, 7, sizeof numbers, numbers) != 0) print(system, u"failed at ", number);
    print(system, u"wrote ", number);
  }
}
"""
BAD_OPTIONS_PROGRAM = """
#include <bygone/uefi.h>
using namespace bygone::uefi;
using Set = Status(BYGONE_UEFI_CALL*)(const char16_t*, const Guid*, std::uint32_t, std::uint64_t, const void*);
constexpr Guid kGlobal{0x8be4df61, 0x93ca, 0x11d2, {0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}};
static const std::uint8_t kNoName[] = {1, 0, 0, 0, 0, 0};                                     // the name does not end
static const std::uint8_t kLongPath[] = {1, 0, 0, 0, 0xFF, 0xFF, u'x', 0, 0, 0, 4, 4, 8, 0};  // the path is longer than the option
static const std::uint8_t kNoEnd[] = {1, 0, 0, 0, 8, 0, u'x', 0, 0, 0, 4, 4, 0xF0, 0x7F, 1, 2, 3, 4};  // a node longer than the path
static const std::uint8_t kEmptyNode[] = {1, 0, 0, 0, 8, 0, u'x', 0, 0, 0, 4, 4, 0, 0, 0x7F, 0xFF, 4, 0};  // a node of no length
static const std::uint16_t kOrder[] = {0x10, 0x11, 0x12, 0x13, 0x14, 0xFFFF, 0x10};           // 14 does not exist
extern "C" BYGONE_UEFI_CALL Status efi_main(void*, SystemTable* system) {
  const Set set = *reinterpret_cast<Set*>(static_cast<char*>(system->runtime_services) + 88);
  set(u"Boot0010", &kGlobal, 7, sizeof kNoName, kNoName);
  set(u"Boot0011", &kGlobal, 7, sizeof kLongPath, kLongPath);
  set(u"Boot0012", &kGlobal, 7, sizeof kNoEnd, kNoEnd);
  set(u"Boot0013", &kGlobal, 7, sizeof kEmptyNode, kEmptyNode);
  set(u"BootOrder", &kGlobal, 7, 0, nullptr);
  if (set(u"BootOrder", &kGlobal, 7, sizeof kOrder, kOrder) == 0) {
    system->console_out->output_string(system->console_out, u"options are bad now\\r\\n");
  }
  for (;;) system->boot_services->stall(1'000'000);
}
"""
# Asks for the menu at the next start, and for some seconds at each.
MENU_PROGRAM = """
#include <bygone/uefi.h>
using namespace bygone::uefi;
using Set = Status(BYGONE_UEFI_CALL*)(const char16_t*, const Guid*, std::uint32_t, std::uint64_t, const void*);
constexpr Guid kGlobal{0x8be4df61, 0x93ca, 0x11d2, {0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}};
extern "C" BYGONE_UEFI_CALL Status efi_main(void*, SystemTable* system) {
  const Set set = *reinterpret_cast<Set*>(static_cast<char*>(system->runtime_services) + 88);
  const std::uint64_t wish = 1;
  const std::uint16_t seconds = 8;
  if (set(u"OsIndications", &kGlobal, 7, sizeof wish, &wish) == 0 && set(u"Timeout", &kGlobal, 7, sizeof seconds, &seconds) == 0) {
    system->console_out->output_string(system->console_out, u"a wish and a time are set\\r\\n");
  }
  for (;;) system->boot_services->stall(1'000'000);
}
"""

# Two disks' program, once as "one" and once as "two", through three starts; see the test.
RESET_PROGRAM = """
#include <bygone/uefi.h>
using namespace bygone::uefi;
constexpr Guid kGlobal{0x8be4df61, 0x93ca, 0x11d2, {0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}};
SystemTable* table;
template <typename... Arguments>
Status runtime(unsigned slot, Arguments... arguments) {  // UEFI 2.10, 4.5: a service of the table, behind its header
  using Function = Status(BYGONE_UEFI_CALL*)(Arguments...);
  return (*reinterpret_cast<const Function*>(static_cast<const char*>(table->runtime_services) + 24 + 8 * slot))(arguments...);
}
constexpr unsigned kGetTime = 0, kSetTime = 1, kGetVariable = 6, kSetVariable = 8, kResetSystem = 10;
enum Reset : std::uint32_t { kCold, kWarm, kShutdown };
struct Time {
  std::uint16_t year;
  std::uint8_t month, day, hour, minute, second, padding;
  std::uint32_t nanosecond;
  std::int16_t zone;
  std::uint8_t daylight, padding2;
};
void say(const char16_t* text) { table->console_out->output_string(table->console_out, text); }
template <typename T>
bool get(const char16_t* name, T& value) {
  std::uint64_t bytes = sizeof value;
  return runtime(kGetVariable, name, &kGlobal, static_cast<std::uint32_t*>(nullptr), &bytes, static_cast<void*>(&value)) == kSuccess;
}
template <typename T>
void set(const char16_t* name, const T& value) {
  const Status status = runtime(kSetVariable, name, &kGlobal, std::uint32_t{7}, std::uint64_t{sizeof value}, static_cast<const void*>(&value));
  if (status != kSuccess) say(u"a variable could not be set\\r\\n");
}
extern "C" BYGONE_UEFI_CALL Status efi_main(void*, SystemTable* system) {
  table = system;
  std::uint16_t step = 0;
  get(u"Step", step);
  const char16_t digits[] = {static_cast<char16_t>(u'0' + step), u'\\r', u'\\n', 0};
  say(u"this is NAME at ");
  say(digits);
  std::uint16_t next = 0;
  if (get(u"BootNext", next)) say(u"BootNext is still there\\r\\n");
  Time time{2031, 5, 6, 7, 8, 9, 0, 0, 0x7FF, 0, 0};
  if (step == 0) {
    if (runtime(kSetTime, &time) != kSuccess) say(u"the clock could not be set\\r\\n");
    set(u"BootNext", std::uint16_t{1});
  } else if (step == 1) {
    runtime(kGetTime, &time, static_cast<void*>(nullptr));
    say(time.year == 2031 && time.month == 5 && time.day == 6 && time.hour == 7 ? u"the clock is right\\r\\n" : u"the clock is wrong\\r\\n");
  } else {
    const std::uint16_t order[] = {1, 0};
    set(u"BootOrder", order);
  }
  ++step;
  set(u"Step", step);
  const std::uint32_t kinds[] = {kCold, kWarm, kShutdown, kShutdown};
  runtime(kResetSystem, kinds[step - 1], kSuccess, std::uint64_t{0}, static_cast<void*>(nullptr));
  return kSuccess;
}
"""


class Boot(BootCase):
    def test_dvd_without_el_torito_boots_from_iso_9660_itself(self):
        tree = self.folder / "tree/EFI/BOOT"
        tree.mkdir(parents=True)
        shutil.copy(HELLO, tree / "BOOTX64.EFI")
        iso = self.folder / "dvd.iso"
        subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-J", "-o", iso, self.folder / "tree"], check=True)
        machine = self.start("--dvd", iso)
        machine.expect("hello: on COM1")
        machine.stop()

        # Directories that lead anywhere: whatever happens, the boot manager goes on to the disk.
        dvds = []
        for seed in range(8):
            dvds += ["--dvd", self.folder / f"{seed}.iso"]
            shutil.copy(iso, dvds[-1])
            data = bytearray(iso.read_bytes())
            number = random.Random(seed)
            first = data.index(b"CD001") - 1
            records = [at for at in range(first, len(data) - 40) if data[at + 10:at + 14] == data[at + 17:at + 13:-1] and data[at] in range(34, 60)]
            for at in records:
                field = number.choice((0, 2, 10, 25, 32, 33))
                data[at + field:at + field + 4] = number.randbytes(4)
            pathlib.Path(dvds[-1]).write_bytes(data)
        machine = self.start(*dvds, "--disk", self.make_fat("disk.img", self.named_program("disk")), "--boot-order",
                             ",".join(f"dvd{number + 1}" for number in range(8)) + ",disk")
        machine.expect("this is disk")

    def test_boot_order_of_the_host_is_obeyed_and_kept(self):
        media = ["--disk", self.make_fat("one.img", self.named_program("one")),
                 "--disk", self.make_fat("two.img", self.named_program("two")),
                 "--dvd", self.make_dvd(self.named_program("three")), "--variables", self.folder / "variables"]
        for options, first in (([], "one"), (["--boot-order", "disk2"], "two"), ([], "two"), (["--boot-order", "dvd,disk"], "three")):
            with self.subTest(options=options):
                machine = self.start(*media, *options)
                machine.expect(f"this is {first}")
                machine.stop()

    def test_guest_chooses_what_starts_next_and_first_across_resets(self):
        """BootNext, once, over a cold reset that keeps the clock; a warm reset; BootOrder, kept for the next process."""
        media = ["--variables", self.folder / "variables"]
        for name in ("one", "two"):
            media += ["--disk", self.make_fat(f"{name}.img", self.build_program(name, RESET_PROGRAM.replace("NAME", name)))]
        machine = self.start(*media, "--boot-order", "disk,disk2")
        machine.expect("this is one at 0.*this is two at 1.*the clock is right.*this is one at 2")
        self.assertEqual(machine.process.wait(LIMIT_SECONDS), 0)
        for wrong in (b"BootNext is still", b"could not be set", b"clock is wrong"):
            self.assertNotIn(wrong, machine.output)
        self.start(*media).expect("this is two at 3")

    def test_smallest_machine_starts_and_one_with_memory_above_4_gib(self):
        for memory in ("64M", "5G"):
            with self.subTest(memory):
                machine = self.start("--efi", HELLO, memory=memory)
                machine.expect("firmware by Bygone")
                machine.stop()

    MODES = [(1024, 768), (640, 480), (800, 600), (1152, 864), (1280, 720), (1280, 800), (1280, 960), (1280, 1024), (1440, 900),
             (1600, 900), (1600, 1200), (1680, 1050), (1920, 1080)]

    def test_boot_loader_finds_what_it_expects_and_the_hypervisor_is_left_clean(self):
        """Memory attributes table, random numbers, clock, file systems, graphics modes; then ExitBootServices and what is left."""
        disk = self.make_fat("disk.img", self.build_program("inspect", ROOT / "tests/firmware/inspect.cpp"))
        tree = self.folder / "tree/folder"
        tree.mkdir(parents=True)
        (tree / "who.txt").write_text("this is UDF")
        subprocess.run(["genisoimage", "-quiet", "-udf", "-o", self.folder / "udf.iso", tree.parent], check=True)
        dvds = ["--dvd", self.folder / "udf.iso"]
        for name, option in (("Joliet", "-J"), ("ISO 9660", "-quiet")):
            (tree / "who.txt").write_text(f"this is {name}")
            dvds += ["--dvd", self.folder / f"{name}.iso"]
            subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", option, "-o", dvds[-1], tree.parent], check=True)
        (tree / "who.txt").write_text("this is FAT")
        subprocess.run(["mcopy", "-s", "-i", disk, tree, "::/"], check=True)
        picture = self.folder / "screen.png"
        seen = []
        machine = None
        for _ in range(2):
            if machine is not None:
                machine.stop()
            machine = self.start("--disk", disk, *dvds, "--screenshot", picture, "--verbose", "--variables",
                                 self.folder / "variables")
            self.check_memory_attributes(machine)
            line = self.expect_fields(machine, "mtrrs")[1]
            # Write-back but for the two gaps: the low one is 128 MiB below 4 GiB.
            self.assertRegex(line, r"default=c06 base=f8000000 mask=\w*f8000800 base=\w+00000 mask=\w+00800 fixed=606060606060606")
            for _ in range(2):
                fields, line = self.expect_fields(machine, "random")
                self.assertEqual(fields["status"], 0)
                seen.append(line.split()[0])
        self.assertEqual(len(set(seen)), 4, seen)
        self.assertNotIn("0" * 64, seen)

        line = self.expect_fields(machine, "clock")[1]
        self.assertIn("status=0", line)
        told = [int(each, 16) for each in re.findall("part=([0-9a-f]+)", line)]
        hours = [datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=each) for each in (0, 1)]
        self.assertIn(told, [[each.year, each.month, each.day, each.hour] for each in hours])

        volumes = machine.expect(r"((?:volume[^\n]*\n)+)(?=mode)")[1].decode()
        for name in ("FAT", "UDF", "Joliet", "ISO 9660"):
            self.assertIn(f"text=this is {name}", volumes)
        self.assertNotIn(b"Non-Block Boot Device", (self.folder / "variables").read_bytes().replace(b"\0", b""))
        self.check_modes(machine, picture)

        self.assertEqual(self.expect_fields(machine, "left")[0], {"status": 0})
        for number in (0x40000000, 0x40000001, 0x40000080, 0x40000082, 0x40000083, 0x40000092, 0x400000B0):
            fields = self.expect_fields(machine, "msr")[0]
            self.assertEqual(fields["number"], number)
            if number == 0x40000092:
                self.assertTrue(fields["value"] & 1 << 16, "SINT2 is not masked")
            else:
                self.assertEqual(fields["value"] & 1, 0, f"MSR {number:#x} is on")
        self.assertEqual(self.expect_fields(machine, "boot-variable")[0]["status"], 1 << 63 | 14)
        self.assertEqual(self.expect_fields(machine, "runtime-variable")[0], {"status": 0, "value": 6})
        machine.expect("the end")
        self.assertEqual(machine.process.wait(LIMIT_SECONDS), 0)
        self.assertIn(b"the guest has unloaded the bus", machine.output)

    def check_memory_attributes(self, machine):
        """UEFI 2.10, 4.6.4: only runtime code and data; code cannot be written, data cannot be executed."""
        table = self.expect_fields(machine, "attributes-table")[0]
        self.assertGreater(table["count"], 10)
        for _ in range(table["count"]):
            fields = self.expect_fields(machine, "protected")[0]
            self.assertIn(fields["type"], (5, 6))
            self.assertGreater(fields["pages"], 0)
            self.assertTrue(fields["attributes"] >> 63)
            self.assertTrue(fields["attributes"] & (0x20000 if fields["type"] == 5 and not fields["attributes"] & 0x4000 else 0x4000))

    def check_modes(self, machine, picture):
        for number, (width, height) in enumerate(self.MODES):
            fields, line = self.expect_fields(machine, "mode")
            self.assertEqual((fields["number"], fields["width"], fields["height"]), (number, width, height))
            self.assertEqual((fields["base"], fields["size"], fields["format"], fields["status"]), (0xF8000000, width * height * 4, 1, 0))
            self.assertEqual(line.split()[0], "first" if number == 0 else "other")
            if number in (0, 5, 12):
                self.look(machine, picture)
                shown = screen.read_png(picture)
                self.assertEqual(shown[:2], (width, height))
                self.assertEqual({bytes(row[at:at + 3]) for row in shown[2] for at in range(0, width * 3, 300)},
                                 {bytes((0x12, 0x34, number))})
            machine.send(" ")

    def test_boot_order_that_names_no_drive_is_refused(self):
        for order, why in (("floppy", "not a drive to boot from"), ("disk2", "there are 1 of its kind"), ("dvd", "there are 0")):
            machine = self.start("--disk", self.make_fat("one.img", HELLO), "--boot-order", order)
            machine.expect(why)

    def test_power_cut_while_a_variable_is_written_leaves_the_old_or_the_new_value(self):
        arguments = ["--disk", self.make_fat("disk.img", self.build_program("variables", VARIABLE_PROGRAM)),
                     "--variables", self.folder / "variables"]
        finished = 0
        for writes in range(1, 5):
            machine = self.start(*arguments)
            found = int(machine.expect(r"(?:found|torn at) (\d+)\r")[1])
            self.assertNotIn(b"torn", machine.output)
            self.assertGreaterEqual(found, finished)
            self.assertLessEqual(found, finished + 1)
            for _ in range(writes):
                machine.expect(r"wrote \d+\r")
            machine.stop()  # SIGKILL, in the middle of the next one
            finished = int(re.findall(rb"wrote (\d+)\r", bytes(machine.output))[-1])
        self.assertNotIn(b"failed at", machine.output)

    def damage(self, path, offset, size):
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(random.Random(size).randbytes(size))
        return path

    def make_gpt(self, name, program):
        disk = self.folder / name
        partition = self.make_fat(name + ".esp", program).read_bytes()
        with open(disk, "wb") as file:
            file.truncate(len(partition) + (2 << 20))
        subprocess.run(["/usr/sbin/sfdisk", "-q", disk], check=True, input=f"label: gpt\nstart=2048, size={len(partition) // 512}, type=uefi",
                       text=True)
        with open(disk, "r+b") as file:
            file.seek(1 << 20)
            file.write(partition)
        return disk

    def test_damaged_firmware_says_what_is_wrong_with_it(self):
        image = bytearray(pathlib.Path(self.firmware).read_bytes())
        image[40:44] = b"XXXX"  # the main volume's signature
        damaged = self.folder / "damaged.fd"
        damaged.write_bytes(image)
        self.firmware = damaged
        machine = self.start(memory="64M")
        machine.expect("(^|\n)Bygone firmware: no firmware volume at 0x100000\r\n")

    def test_damaged_media_are_named_and_passed_over(self):
        not_a_program = self.folder / "not-a-program"
        not_a_program.write_bytes(random.Random(1).randbytes(5000))
        whole = self.make_gpt("gpt.img", self.named_program("gpt"))
        disks = [self.damage(self.make_gpt("header.img", HELLO), 512, 512 * 40),          # GPT header and entries; the copy at the end is whole
                 self.damage(self.make_fat("sector.img", HELLO), 11, 40),                  # FAT's parameters
                 self.damage(self.make_fat("table.img", HELLO), 512, 16 << 10),            # its tables and root directory
                 self.make_fat("program.img", not_a_program), whole]
        subprocess.run(["truncate", "-s", "-1M", disks[0]], check=True)  # now without the copy, too
        iso = self.make_dvd(HELLO)
        self.damage(iso, 17 * 2048, 2048)  # where El Torito's boot record is
        machine = self.start(*(word for disk in disks for word in ("--disk", disk)), "--dvd", iso,
                             "--boot-order", "dvd,disk,disk2,disk3,disk4,disk5", "--screenshot", self.folder / "screen.png")
        names = ("DVD at 5", "Disk at 0", "Disk at 1", "Disk at 2", "Disk at 3")
        for name in names:
            machine.expect(f'"{name}" does not start: ')
        machine.expect("this is gpt")
        for name in names:
            self.expect_on_screen(machine, self.folder / "screen.png", f'"{name}" does not start: ')

    def test_damaged_boot_options_are_passed_over(self):
        variables = self.folder / "variables"
        disk = self.make_fat("disk.img", self.build_program("options", BAD_OPTIONS_PROGRAM))
        machine = self.start("--disk", disk, "--variables", variables)
        machine.expect("options are bad now")
        machine.stop()
        machine = self.start("--disk", self.make_fat("good.img", HELLO), "--variables", variables)
        machine.expect("hello: on COM1")

    def test_damaged_variable_store_is_refused_with_advice(self):
        variables = self.folder / "variables"
        variables.write_bytes(random.Random(2).randbytes(2000))
        machine = self.start("--disk", self.make_fat("disk.img", HELLO), "--variables", variables)
        machine.expect("not a variable store.*Delete the file")

    def test_disk_boots_by_the_default_path(self):
        machine = self.start("--disk", self.make_fat("disk.img", HELLO))
        machine.expect("hello: on COM1")
        machine.expect("firmware by Bygone")
        machine.send("x")
        machine.expect("hello: done")

    def check_hello(self, program):
        """sdk/hello: on COM1, on the console, and by the graphics output's memory."""
        picture = self.folder / "screen.png"
        machine = self.start("--efi", program, "--screenshot", picture)
        machine.expect("hello: on COM1")
        machine.expect("hello: press a key")
        self.look(machine, picture)
        width, height, lines = screen.read_png(picture)
        last = lines[height - 1]
        self.assertEqual([last[x * 3:x * 3 + 3] for x in (0, width - 1)], [bytes((0, 0x40, 254)), bytes((254, 0x40, 254))])
        self.expect_on_screen(machine, picture, "a C++ program on the bare machine")
        machine.send("x")
        machine.expect("hello: done")
        machine.stop()

    def test_program_named_on_the_command_line_starts_and_paints(self):
        self.check_hello(HELLO)

    @unittest.skipUnless(shutil.which("clang++"), "there is no clang++")
    def test_program_built_with_clang_starts_and_paints(self):
        subprocess.run(["make", "-s", "-B", "-C", ROOT / "sdk/hello", "CXX=clang++", f"OUT={self.folder}"], check=True)
        self.check_hello(self.folder / "hello.efi")

    def test_program_that_is_none_is_refused_or_named_and_the_menu_opens(self):
        program = self.folder / "program.efi"
        for content in (b"", b"MZ", random.Random(3).randbytes(5000)):
            program.write_bytes(content)
            self.start("--efi", program).expect("program.efi: this is not a UEFI program")
        damaged = bytearray(pathlib.Path(HELLO).read_bytes())
        header = int.from_bytes(damaged[0x3C:0x40], "little")
        damaged[header + 4:header + 6] = b"\x4c\x01"  # a program, for another processor
        program.write_bytes(damaged)
        machine = self.start("--efi", program)
        machine.expect("ended: Unsupported.*nothing to boot")
        machine.expect("Boot Manager.*Continue.*Reset")

    def test_dvd_boots_by_el_torito(self):
        iso = self.make_dvd(HELLO)
        machine = self.start("--dvd", iso)
        machine.expect("hello: on COM1")

    def start_shell(self, *arguments):
        """A machine without anything to boot: through the menu to the shell."""
        machine = self.start(*arguments)
        machine.expect("nothing to boot")
        machine.expect("Boot Manager.*Continue.*Reset")
        machine.send("\x1b[B\r")
        machine.expect("UEFI Shell")
        machine.send("\x1b[B\r")
        machine.expect("Shell> ")
        return machine

    def run_in_shell(self, machine, command):
        machine.send(command + "\r")
        return machine.expect(re.escape(command) + r"\s*\r\n(.*?)Shell> ")[1].decode().replace("\r", "")

    def test_machine_without_media_opens_the_menu_and_the_shell_runs_from_it(self):
        variables = self.folder / "variables"
        machine = self.start_shell("--variables", variables)
        self.assertRegex(self.run_in_shell(machine, "ver"), "UEFI v2.*Bygone")
        self.assertIn(b"BootOrder", variables.read_bytes().replace(b"\0", b""))

    def test_escape_while_the_firmware_waits_opens_the_menu_and_so_does_the_system_s_wish(self):
        picture = self.folder / "screen.png"
        media = ["--variables", self.folder / "variables", "--screenshot", picture, "--disk"]
        machine = self.start(*media, self.make_fat("set.img", self.build_program("menu", MENU_PROGRAM)))
        machine.expect("a wish and a time")
        machine.stop()
        disk = self.make_fat("disk.img", self.named_program("disk"))
        machine = self.start(*media, disk)  # OsIndications, once
        machine.expect("Boot Manager.*Continue.*Reset")
        self.expect_on_screen(machine, picture, "Boot Manager")
        machine.stop()
        machine = self.start(*media, disk)  # Timeout
        machine.expect("ESC: menu")
        machine.send("\x1b")
        machine.expect("Boot Manager.*Continue.*Reset")
        self.assertNotIn(b"this is disk", machine.output)
        machine.stop()
        self.start(*media, disk).expect("starting in 0 s.*this is disk")

    def test_logo_is_on_the_screen_while_a_boot_loader_starts(self):
        source = NAMED_PROGRAM.replace('  system->console_out->output_string(system->console_out, u"this is NAME\\r\\n");\n', "")
        source = source.replace("for (;;)", 'for (const char* at = "quiet\\r\\n"; *at != 0; ++at) asm volatile("outb %0, %1" ::"a"(*at), '
                                            '"Nd"(std::uint16_t{0x3F8}));\n  for (;;)')
        picture = self.folder / "screen.png"
        machine = self.start("--disk", self.make_fat("disk.img", self.build_program("quiet", source)), "--screenshot", picture)
        machine.expect("quiet")
        self.look(machine, picture)
        width, height, lines = screen.read_png(picture)
        self.assertEqual((width, height), (1024, 768))
        colours = {lines[y][x * 3:x * 3 + 3] for y in range(height) for x in range(0, width, 2)}
        self.assertGreater(len(colours), 100, "no picture")
        middle = {lines[height // 2 + 24][(width // 2 + dx) * 3:(width // 2 + dx) * 3 + 3] for dx in range(-8, 8)}
        self.assertTrue(any(each[0] == 0xFF and each[2] == 0x50 for each in middle), f"no sun in the middle: {middle}")

    def test_shell_tells_memory_variables_and_devices(self):
        disk = self.make_fat("data.img", HELLO)
        subprocess.run(["mdel", "-i", disk, "::/EFI/BOOT/BOOTX64.EFI"], check=True)
        machine = self.start_shell("--disk", disk, "--variables", self.folder / "variables")
        self.check_memory_map(self.run_in_shell(machine, "memmap"))

        variables = self.run_in_shell(machine, "dmpstore -all")
        for name in ("BootOrder", "Boot0001", "ConOut", "Timeout", "Lang"):
            self.assertRegex(variables, rf"Variable\s+NV\+RT\+BS\s+'\s*EFIGlobalVariable\s*:\s*{name}\s*'")
        self.assertRegex(variables, r"Variable\s+RT\+BS\s+'\s*EFIGlobalVariable\s*:\s*BootCurrent\s*'")

        devices = self.run_in_shell(machine, "devices").replace("\n", "")
        self.assertIn("Msft Virtual Disk", devices)
        for interface in ("D96361BAA104294DB60572E2FFB1DC7F", "02780ADA77E3AC4A8E770558EB1073F8", "6DAD12F9172BEA48BD65F927A61C7684"):
            self.assertIn(interface, devices)  # storage, video, keyboard

        mapping = self.run_in_shell(machine, "map -r").replace("\n", "").replace(" ", "")
        self.assertRegex(mapping, r"FS0:Alias\(s\):.*BLK0:AcpiEx\(VMBus,,\)/VenHw\(.*\)/Scsi\(0x0,0x0\)")

    def check_memory_map(self, text):
        rows = [(kind, *(int(each, 16) for each in rest)) for kind, *rest in
                re.findall(r"^(\w+)\s+([0-9A-F]{16})-([0-9A-F]{16}) ([0-9A-F]{16}) ([0-9A-F]{16})", text, re.M)]
        self.assertGreater(len(rows), 10)
        end = -1
        for _, first, last, pages, attributes in sorted(rows, key=lambda row: row[1]):
            self.assertGreater(first, end, "ranges overlap")
            self.assertEqual(last - first + 1, pages * 4096)
            self.assertEqual(attributes & 0xF, 0xF)
            end = last
        self.assertEqual(end, (256 << 20) - 1)
        total = sum(row[3] for row in rows) * 4096
        self.assertEqual(total, 256 << 20)
        for kind, *_, attributes in rows:
            self.assertEqual(attributes >> 63, kind in ("RT_Code", "RT_Data"), f"{kind}: {attributes:#x}")
        self.assertEqual({"RT_Code", "RT_Data", "ACPI_NVS", "ACPI_Recl", "Available"} - {row[0] for row in rows}, set())


if __name__ == "__main__":
    BootCase.bygone, BootCase.firmware, HELLO = sys.argv[1:4]
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
