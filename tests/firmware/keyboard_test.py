#!/usr/bin/env python3
"""The firmware on screen and keyboard alone: menu and shell, seen in pictures of the screen and steered with `bygone type`.

Usage: keyboard_test.py BYGONE FIRMWARE [unittest options]
Needs EDK II's source where firmware/build has left it: its font tells what is on the screen. Nothing here measures time: the limit only
ends what hangs.
"""
import pathlib
import re
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/machines"), str(ROOT / "tests/firmware")]
import screen  # noqa: E402
from boot_case import BootCase  # noqa: E402
from bygone_runner import Person  # noqa: E402
from tested_engine import ENGINE, limit  # noqa: E402

BYGONE, FIRMWARE = None, None
# Tells each key as the keyboard's own protocol gives it, and each time that Control-T comes, for which it has asked to be called.
KEY_PROGRAM = """
#include <bygone/uefi.h>
using namespace bygone::uefi;
constexpr Guid kTextInputEx{0xdd9e7534, 0x7762, 0x4698, {0x8c, 0x14, 0xf5, 0x85, 0x17, 0xa6, 0x25, 0xaa}};
constexpr Guid kChannelPath{0x09576e91, 0x6d3f, 0x11d2, {0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
SystemTable* table;
struct KeyData {
  InputKey key;
  std::uint32_t shift;
  std::uint8_t toggle;
};
template <typename... Arguments>
Status boot(unsigned slot, Arguments... arguments) {  // UEFI 2.10, 4.4
  using Function = Status(BYGONE_UEFI_CALL*)(Arguments...);
  return (*reinterpret_cast<const Function*>(reinterpret_cast<const char*>(table->boot_services) + 24 + 8 * slot))(arguments...);
}
template <typename... Arguments>
Status method(void* protocol, unsigned slot, Arguments... arguments) {  // 12.2.1
  using Function = Status(BYGONE_UEFI_CALL*)(void*, Arguments...);
  return (*reinterpret_cast<const Function*>(static_cast<const char*>(protocol) + 8 * slot))(protocol, arguments...);
}
void say(const char16_t* text) { table->console_out->output_string(table->console_out, text); }
void say_hex(const char16_t* before, std::uint32_t value) {
  char16_t text[9] = {};
  int at = 8;
  do { text[--at] = u"0123456789abcdef"[value & 15]; value >>= 4; } while (value != 0);
  say(before);
  say(text + at);
}
volatile int called;
BYGONE_UEFI_CALL Status on_key(KeyData* data) {
  if (data->key.character == 0x14) called = called + 1;
  return kSuccess;
}
extern "C" BYGONE_UEFI_CALL Status efi_main(void*, SystemTable* system) {
  table = system;
  std::uint64_t count = 0;
  Handle* handles = nullptr;
  void* keyboard = nullptr;
  boot(36, std::uint32_t{2}, &kTextInputEx, static_cast<void*>(nullptr), &count, &handles);
  for (std::uint64_t at = 0; at < count; ++at) {  // the one on the bus: its device path begins with an expanded ACPI node, and has no UART
    const unsigned char* path = nullptr;
    if (boot(16, handles[at], &kChannelPath, &path) == kSuccess && path[0] == 2 && path[1] == 2) boot(16, handles[at], &kTextInputEx, &keyboard);
  }
  KeyData wanted{{0, 0x14}, 0, 0};
  void* token = nullptr;
  say(keyboard != nullptr && method(keyboard, 4, &wanted, &on_key, &token) == kSuccess ? u"ready\\r\\n" : u"no keyboard\\r\\n");
  std::uint8_t toggle = 0x84;  // caps lock on, by the program
  if (method(keyboard, 3, &toggle) != kSuccess) say(u"the state could not be set\\r\\n");
  for (;;) {
    KeyData data{};
    while (method(keyboard, 1, &data) != kSuccess) system->boot_services->stall(1'000);
    say_hex(u"scan ", data.key.scan_code);
    say_hex(u" character ", data.key.character);
    say_hex(u" shift ", data.shift);
    say_hex(u" toggle ", data.toggle);
    say_hex(u" called ", static_cast<std::uint32_t>(called));
    say(u".\\r\\n");
    if (data.key.character == u'q' && method(keyboard, 5, token) == kSuccess) say(u"no longer asked for\\r\\n");
  }
}
"""
LIMIT_SECONDS = limit(240)


class Keyboard(unittest.TestCase):
    def setUp(self):
        self.person = Person(BYGONE)
        self.addCleanup(self.person.leave)
        self.glyphs = screen.read_glyphs(next(ROOT.glob("build/firmware/edk2-*/MdeModulePkg")).parent)

    def read_screen(self):
        """The screen's text without the ends of its lines; until the firmware has switched the screen on, why there is none."""
        picture = self.person.root / "screen.png"
        done = self.person.try_run("screenshot", "Bare", picture)
        return re.sub(r"\s+", " ", screen.read_text(picture, self.glyphs) if done.returncode == 0 else done.stderr)

    def expect(self, pattern):
        end = time.monotonic() + LIMIT_SECONDS
        while True:
            shown = self.read_screen()
            if re.search(pattern, shown):
                return
            self.assertLess(time.monotonic(), end, f"no {pattern!r} on the screen:\n{shown}")
            time.sleep(0.2)

    def test_key_states_and_notifications(self):
        """SimpleTextInEx: what is held down, what is locked, and a key for which a program is called."""
        case = BootCase()
        case.folder = self.person.root
        disk = case.make_fat("keys.img", case.build_program("keys", KEY_PROGRAM))
        self.person.run("create", "Bare", "--memory", "256M", "--engine", ENGINE, "--firmware", FIRMWARE, "--network", "none", "--disk", disk)
        self.person.run("start", "Bare")
        self.expect("ready")
        # Shift states: UEFI 2.10, 12.2.3; bit 31 says that they are known, and so does bit 7 of the toggle states. Caps lock is on at first.
        for keys, told in (("a", "scan 0 character 41 shift 80000000 toggle 84 called 0"),
                           ("shift-a", "scan 0 character 61 shift 80000002 toggle 84 called 0"),
                           ("ctrl-t", "scan 0 character 14 shift 80000008 toggle 84 called 1"),
                           ("shift-f3", "scan d character 0 shift 80000002 toggle 84 called 1"),
                           ("alt-del", "scan 8 character 0 shift 80000020 toggle 84 called 1")):
            self.person.run("type", "Bare", "--keys", keys)
            self.expect(re.escape(told))
        self.person.run("type", "Bare", "--keys", "print")  # by itself no key: what comes next is the next key
        self.person.run("type", "Bare", "--keys", "capslock")
        for keys, told in (("q", "scan 8 character 0 shift 80000020 toggle 84 called 1. scan 0 character 71 shift 80000000 toggle 80 called 1. no longer asked for"),
                           ("ctrl-t", "scan 0 character 14 shift 80000008 toggle 80 called 1")):
            self.person.run("type", "Bare", "--keys", keys)
            self.expect(re.escape(told))

    def test_escape_pressed_while_the_machine_starts_opens_the_menu(self):
        """Without any time to wait: whoever presses it again and again is heard. On a busy host that may take another start."""
        case = BootCase()
        case.folder = self.person.root
        disk = case.make_fat("disk.img", case.named_program("disk"))
        self.person.run("create", "Bare", "--memory", "256M", "--engine", ENGINE, "--firmware", FIRMWARE, "--network", "none", "--disk", disk)
        self.person.run("start", "Bare")
        end = time.monotonic() + LIMIT_SECONDS
        shown = ""
        while not re.search("Boot Manager.*Continue.*Reset", shown):
            self.assertLess(time.monotonic(), end, f"no menu on the screen:\n{shown}")
            for _ in range(5):
                self.person.try_run("type", "Bare", "--keys", "esc")  # until the firmware has opened the keyboard, it fails
            shown = self.read_screen()
            if "this is disk" in shown:
                self.person.run("reset", "Bare")

    def test_menu_and_shell_by_keyboard(self):
        self.person.run("create", "Bare", "--memory", "256M", "--engine", ENGINE, "--firmware", FIRMWARE, "--network", "none")
        self.person.run("start", "Bare")
        self.expect("Boot Manager.*Continue.*Reset")
        self.person.run("type", "Bare", "--keys", "down", "--keys", "enter")
        self.expect("UEFI Shell")
        self.person.run("type", "Bare", "--keys", "down", "--keys", "enter")
        self.expect("Shell> *_?")
        # Every kind of key: letters of both cases, digits, signs with and without shift.
        self.person.run("type", "Bare", "--enter", 'echo Aa-Zz_09 [{(;:,.?!@#$&*+=~)}]')
        self.expect(r"Shell> echo.*Aa-Zz_09 \[\{\(;:,\.\?!@#\$&\*\+=~\)\}\] Aa-Zz_09|Aa-Zz_09 \[.*Aa-Zz_09 \[")
        # Edited: arrow, delete, home.
        self.person.run("type", "Bare", "echo onne", "--keys", "left", "--keys", "left", "--keys", "del", "--keys", "enter")
        self.expect(r"echo one one")


if __name__ == "__main__":
    BYGONE, FIRMWARE = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
