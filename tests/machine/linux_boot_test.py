#!/usr/bin/env python3
"""Debian's kernels on the bare machine: what they find, what they complain of, reboot and watchdog and power off from inside, and the
ACPI tables as the guest has them through iasl.

  linux_boot_test.py BYGONE CACHE [--flavour cloud-amd64|amd64] [--cpus N] [--memory SIZE] [--engine NAME] [--nested CACHE]

With --nested the machine runs inside the one of tests/nested, whose KVM is real.
"""
import argparse
import base64
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import guest_files  # noqa: E402

# The disk's first bytes count the boots: the first ends with a reboot, the second by the watchdog, the third powers off.
INIT = """
while [ ! -b /dev/sda ]; do sleep 0.1; done
boots=$(dd if=/dev/sda bs=1 count=1 2>/dev/null)
echo "init: boot $boots"
case $boots in
1) printf 2 | dd of=/dev/sda conv=fsync 2>/dev/null; reboot -f ;;
2) printf 3 | dd of=/dev/sda conv=fsync 2>/dev/null
   [ -c /dev/watchdog ] || { echo "init: no watchdog"; poweroff -f; }
   watchdog -F -T 2 -t 600 /dev/watchdog & sleep 60; echo "init: the watchdog sleeps"; poweroff -f ;;
esac
echo "init: processors $(grep -c ^processor /proc/cpuinfo)"
echo "init: memory $(awk '/MemTotal/ {print $2}' /proc/meminfo)"
echo "init: clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
echo "init: product $(cat /sys/class/dmi/id/sys_vendor) $(cat /sys/class/dmi/id/product_name)"
echo "init: watchdog $(cat /sys/class/watchdog/watchdog0/identity) $(cat /sys/class/watchdog/watchdog0/bootstatus)"
echo "init: generation $(ls -d /sys/bus/acpi/drivers/vmgenid/* 2>/dev/null | grep -c ':')"
echo "init: bus $(ls /sys/bus/vmbus/devices | wc -l)"
echo "init: dmesg begins"; dmesg; echo "init: dmesg ends"
for table in /sys/firmware/acpi/tables/[A-Z]*; do
  [ -f $table ] && { echo "init: table ${table##*/}"; base64 $table; echo "init: table ends"; }
done
poweroff -f
"""

COMPLAINTS = re.compile(r"unable to|failed|BUG|WARN|error|exception|not found|invalid|Oops|stall|broken|ACPI BIOS", re.I)
# What Debian's kernels say on every machine of this kind, Hyper-V's own included.
HARMLESS = [
    r"Failed to register legacy timer interrupt|TLB invalidation policy",
    r"EFI: Couldn't|efi: .*memattr|Failed to find cpu0 device node|platform regulatory\.0|failed to load regulatory|regulatory\.db",
    r"x86/fpu|RAS: Correctable Errors|MCE: In-kernel MCE|ERST|APEI|report a bug|This is not a bug|PCI: (Fatal: )?No config space access|please report",
    r"Spectre|RETBleed|MDS|TAA|Speculat|SRBDS|mitigat|module verification failed|tainting kernel|Unstable clock|i8042: PNP: No",
    r"i8042|No irq handler for vector|pnp: PnP ACPI: disabled|ima: No TPM|integrity|Key type|blacklist|hibernation|AppArmor|Error recording",
]

# KVM on an emulated processor gives its guests sizes of XSAVE that do not agree; a guest of QEMU's finds the same there. All of its
# processors share one thread of the host, so that a second one's turn may come in the middle of the first one's measuring of time.
HARMLESS_NESTED = [r"XSAVE consistency problem|WARNING: .*xstate\.c.*fpu__init_system_xstate|calibrate_delay_direct\(\) failed|rcu_cpu_stall_timeout"]


def check_dmesg(lines, harmless):
    return [line for line in lines if COMPLAINTS.search(line) and not any(re.search(pattern, line, re.I) for pattern in harmless)]


def check_tables(text, scratch):
    """What iasl has to say about the tables."""
    complaints = []
    for name, body in re.findall(r"^init: table (\w+)\n(.*?)^init: table ends$", text, re.M | re.S):
        path = scratch / f"{name.lower()}.dat"
        try:
            path.write_bytes(base64.b64decode(body))
        except ValueError:
            complaints.append(f"{name} cannot be read on the console: {body}")
            continue
        done = subprocess.run(["iasl", "-d", str(path)], capture_output=True, text=True)
        said = done.stdout + done.stderr
        if done.returncode != 0 or re.search(r"(?i)\b(error|warning|invalid|unknown|checksum)\b", said):
            complaints.append(f"{name}: {said.strip()[-500:]}")
    return complaints


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bygone", type=pathlib.Path)
    parser.add_argument("cache")
    parser.add_argument("--flavour", default="cloud-amd64")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--memory", default="512M")
    parser.add_argument("--memory-at-least", type=int, default=0, help="MiB that the guest must count")
    parser.add_argument("--engine", default="software")
    parser.add_argument("--nested", metavar="CACHE", help="where the nested machine's kernel is kept")
    arguments = parser.parse_args()
    kernel = guest_files.kernel(arguments.cache, arguments.flavour)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "disk.raw").write_bytes(b"1" + bytes((1 << 20) - 1))
        guest_files.initrd(scratch / "initrd", kernel, INIT, ["hv_storvsc", "sd_mod", "wdat_wdt", "hv_utils"])
        files = {arguments.bygone.resolve(): "bygone", kernel / "vmlinuz": "vmlinuz", scratch / "initrd": "initrd", scratch / "disk.raw": "disk.raw"}

        # On the nested machine's one slow thread Linux takes a processor that waits for its turn for a stuck one.
        parameters = "console=ttyS0 panic=-1 quiet" + (" rcupdate.rcu_cpu_stall_timeout=300" if arguments.nested else "")

        def boot(bygone, vmlinuz, initrd, disk):
            return [bygone, "boot", "--engine", arguments.engine, "--kernel", vmlinuz, "--initrd", initrd, "--append", parameters,
                    "--memory", arguments.memory, "--cpus", arguments.cpus, "--disk", disk]

        command = boot(*files)
        if arguments.nested:
            command = guest_files.nested(arguments.nested, arguments.bygone, files, boot(*(f"./{name}" for name in files.values())))
        machine = guest_files.Console(command, scratch / "log")
        try:
            status = machine.wait(1500 if arguments.nested else 400)
        finally:
            machine.kill()
        text = machine.text()
        found = dict(re.findall(r"^init: (\w+) (.*)$", text, re.M))
        dmesg = re.search(r"^init: dmesg begins\n(.*?)^init: dmesg ends$", text, re.M | re.S)
        wrong = []

        def want(what, holds, seen):
            if not holds:
                wrong.append(f"{what}: {seen}")
        want("exit status", status == 0, status)
        want("boots", re.findall(r"^init: boot (\d)", text, re.M) == ["1", "2", "3"], re.findall(r"^init: boot.*$", text, re.M))
        want("processors", found.get("processors") == str(arguments.cpus), found.get("processors"))
        want("memory", int(found.get("memory", 0)) >= arguments.memory_at_least << 10, found.get("memory"))
        want("clock", found.get("clock") == "hyperv_clocksource_tsc_page", found.get("clock"))
        want("product", found.get("product") == "Bygone Virtual Machine", found.get("product"))
        want("watchdog", found.get("watchdog") == "wdat_wdt 32", found.get("watchdog"))
        want("devices on the bus", int(found.get("bus", 0)) >= 5, found.get("bus"))
        log = dmesg[1] if dmesg else ""
        want("Hyper-V in the log", "Hypervisor detected: Microsoft Hyper-V" in log, "nothing")
        want("APIC frequency from the register", "LAPIC Timer Frequency" in log, "nothing")
        complaints = check_dmesg(log.splitlines(), HARMLESS + (HARMLESS_NESTED if arguments.nested else []))
        want("complaints in the log", not complaints, "\n  ".join(["", *complaints]))
        tables = check_tables(text, scratch)
        want("iasl", not tables and "init: table WDAT" in text and "init: table DSDT" in text, tables)
        if wrong:
            raise SystemExit("\n".join(["wrong:", *wrong, "", text[-1500:]]))
        print(f"{arguments.flavour}, {arguments.cpus} processors, {arguments.memory}, {arguments.engine}: all is as it should be; vmgenid bound: {found.get('generation')}")


main()
