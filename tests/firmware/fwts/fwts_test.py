#!/usr/bin/env python3
"""Runs Debian's firmware test suite, fwts, in a guest that the real firmware has started: its UEFI and ACPI tests.

Usage: fwts_test.py BYGONE FIRMWARE DISK [--log FILE]
DISK is what `build` beside this file prints. Every failure that fwts reports must be in EXPECTED, with the reason why it is not the
firmware's; one in EXPECTED that does not come any more is an error too. Nothing here measures time.
"""
import pathlib
import re
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from console_machine import Machine  # noqa: E402
from tested_engine import ENGINE, limit  # noqa: E402

LIMIT_SECONDS = limit(1800)
# How the failure begins, with * for anything: why it is none of ours.
EXPECTED = {
    "MethodCIDInvalidString: *VMBS._CID": "the identifier by which guests find Hyper-V's bus; no other would do",
    "UEFIExpACPIDevPathPnPId: *The ID value 0x0": "the node has its identifier as a string, and then the number is 0 (UEFI 2.10, 10.3.3)",
    "UEFICreateAuthVar: Test 1,*EFI_SECURITY_VIOLATION": "authenticated variables come with Secure Boot; until then all are refused",
    "UEFISetAuthVarDiff: Test 11,*EFI_SECURITY_VIOLATION": "authenticated variables come with Secure Boot; until then all are refused",
    "BacklightNoPath": "the machine has no panel",
}
# What comes on KVM where that is itself emulated: QEMU's processor has XSAVE areas of sizes that Linux does not expect.
EMULATED = {} if ENGINE == "software" else {"KernelWarnOns: Test 1, Found 1 WARN_ON": "the kernel's warning of XSAVE as it starts"}
# Tests that fwts gives up: what they are about is not there.
GIVEN_UP = {
    "autobrightness": "the machine has no panel",
    "cpufreq": "the machine has no performance states",
    "esrt": "firmware is not updated from the guest",
    "tpmevlog": "the machine has no TPM",
}


def failures(log):
    """Each failure in one line: fwts breaks them to fit 80 columns."""
    found = re.findall(r"^FAILED \[\w+\] (.*?)(?=\n\s*\n|\n[A-Z]+:|\nFAILED|\nADVICE|\Z)", log, re.M | re.S)
    return sorted({re.sub(r"\s+", " ", each) for each in found})


def is_expected(line, part):
    return re.match(re.escape(part).replace(r"\*", ".*"), line) is not None


def judge(log):
    """What is wrong, as lines."""
    found = failures(log)
    wrong = [f"fwts reports: {line}" for line in found if not any(is_expected(line, part) for part in [*EXPECTED, *EMULATED])]
    wrong += [f"expected of fwts, but it did not come: {part}" for part in EXPECTED if not any(is_expected(line, part) for line in found)]
    given_up = {name for name, number in re.findall(r"^(\w+) +\| *\d* *\| *\d* *\| *(\d*) *\|", log, re.M) if number}
    wrong += [f"fwts gave up {name}" for name in sorted(given_up - set(GIVEN_UP))]
    passed = sum(int(each) for each in re.findall(r"^(\d+) passed", log, re.M))
    if passed < 200:
        wrong.append(f"only {passed} checks of fwts passed: has it run?")
    return wrong


def main(bygone, firmware, disk, *options):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="bygone-fwts-"))
    machine = Machine(bygone, "boot", "--firmware", firmware, "--engine", ENGINE, "--memory", "1G", "--cpus", "2", "--disk", disk,
                      "--variables", folder / "variables")
    try:
        machine.expect("fwts: begins", LIMIT_SECONDS)
        log = machine.expect(r"fwts: status \d+\r\n(.*)fwts: ends", LIMIT_SECONDS)[1].decode(errors="replace").replace("\r", "")
    finally:
        machine.stop()
        shutil.rmtree(folder)
    if options[:1] == ("--log",):
        pathlib.Path(options[1]).write_text(log)
    print("\n".join(line for line in log.splitlines() if re.match(r"(Test|Total|\d+ passed|FAILED|\w+ +\| )", line)))
    wrong = judge(log)
    print("\n".join(wrong) or "fwts: nothing that is the firmware's fault")
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    sys.exit(main(*sys.argv[1:]))
