#!/usr/bin/env python3
"""Holds `bygone engine --fresh --json` against what KVM does here, found out by bare ioctls without any of Bygone's code.

  engine_truth_test.py BYGONE [usable|unusable]

A loop of two instructions is timed in a guest in real mode. Any real KVM runs it at some hundred million instructions a
second; one whose kernel mode is emulated stays hundreds of times below. The second argument demands a verdict, for places that
are known. As root it also runs bygone as a user whom /dev/kvm is closed to.
"""
import ctypes
import errno
import fcntl
import json
import mmap
import os
import stat
import struct
import subprocess
import sys
import tempfile
import time

KVM_CREATE_VM, KVM_GET_VCPU_MMAP_SIZE, KVM_CREATE_VCPU, KVM_RUN = 0xAE01, 0xAE04, 0xAE41, 0xAE80
KVM_SET_USER_MEMORY_REGION = 0x4020AE46
KVM_GET_REGS, KVM_SET_REGS = 0x8090AE81, 0x4090AE82
KVM_GET_SREGS, KVM_SET_SREGS = 0x8138AE83, 0x4138AE84
SREGS_BYTES, REGS_BYTES = 312, 144
CS_BASE, CS_SELECTOR = 0, 12  # of kvm_sregs, whose first segment is CS
RCX, RIP, RFLAGS = 2 * 8, 16 * 8, 17 * 8  # of kvm_regs
KVM_EXIT_HLT = 5
LOOP = bytes([0x66, 0x49, 0x75, 0xFC, 0xF4])  # dec ecx; jnz to it; hlt
TURNS = 200_000  # a third of a second where kernel mode is emulated
NATIVE_MILLION = 30  # instructions a second; emulation was seen below 1, the slowest real KVM above 200


def look():
    """None: KVM cannot be had here, with the error number; else the million instructions a second of the best of some runs."""
    try:
        kvm = os.open("/dev/kvm", os.O_RDWR)
    except OSError as error:
        return None, error.errno
    vm = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
    memory = mmap.mmap(-1, 4096)
    memory[:len(LOOP)] = LOOP
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(vm, KVM_SET_USER_MEMORY_REGION, struct.pack("<IIQQQ", 0, 0, 0x1000, 4096, address))
    vcpu = fcntl.ioctl(vm, KVM_CREATE_VCPU, 0)
    area = mmap.mmap(vcpu, fcntl.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0))
    sregs = bytearray(SREGS_BYTES)
    fcntl.ioctl(vcpu, KVM_GET_SREGS, sregs)
    struct.pack_into("<Q", sregs, CS_BASE, 0)
    struct.pack_into("<H", sregs, CS_SELECTOR, 0)
    fcntl.ioctl(vcpu, KVM_SET_SREGS, sregs)
    best = 0
    for _ in range(3):
        regs = bytearray(REGS_BYTES)
        struct.pack_into("<Q", regs, RCX, TURNS)
        struct.pack_into("<Q", regs, RIP, 0x1000)
        struct.pack_into("<Q", regs, RFLAGS, 2)
        fcntl.ioctl(vcpu, KVM_SET_REGS, regs)
        start = time.perf_counter()
        fcntl.ioctl(vcpu, KVM_RUN, 0)
        seconds = time.perf_counter() - start
        reason = struct.unpack_from("<I", area, 8)[0]
        if reason != KVM_EXIT_HLT:
            return 0, reason
        best = max(best, 2 * TURNS / seconds / 1e6)
    return best, 0


def ask(bygone, cache=None, fresh=True, **options):
    with tempfile.TemporaryDirectory() as own_cache:
        os.chmod(own_cache, 0o777)
        environment = {**os.environ, "XDG_CACHE_HOME": cache or own_cache}
        command = [bygone, "engine", "--json"] + (["--fresh"] if fresh else [])
        done = subprocess.run(command, capture_output=True, text=True, env=environment, **options)
    if done.returncode != 0:
        sys.exit(f"bygone engine ended with {done.returncode}: {done.stderr}")
    return {engine["name"]: engine for engine in json.loads(done.stdout)}


def check(is_right, what):
    print(f"{'ok' if is_right else 'FAILED'} {what}")
    check.failed |= not is_right


check.failed = False


def check_verdict(bygone, wanted):
    rate, number = look()
    engines = ask(bygone)
    kvm, software = engines["kvm"], engines["software"]
    print(f"own look: {rate} million instructions a second, error {number}; bygone: {kvm}")
    check(software["usable"], "the software processor is usable everywhere")
    check(software["million_instructions_per_second"] > 0, "and its rate was measured")
    check(kvm["default"] == kvm["usable"] and software["default"] == (not kvm["usable"]), "the best usable engine is the default")
    if rate is None:
        check(not kvm["usable"] and "/dev/kvm" in kvm["reason"], "without /dev/kvm it is not usable and the reason names it")
        check(kvm["hint"] != "", "with a hint what to do")
    else:
        check(kvm["usable"] == (rate >= NATIVE_MILLION), f"usable as the own look finds ({rate:.1f} million a second)")
        if rate < NATIVE_MILLION:
            check("emulated" in kvm["reason"], "the reason says that kernel mode is emulated")
    if wanted:
        check(kvm["usable"] == (wanted == "usable"), f"KVM is {wanted} here")


def check_memory(bygone):
    """What was measured is remembered for this kernel and this microcode, and for no other."""
    with tempfile.TemporaryDirectory() as cache:
        ask(bygone, cache)
        path = os.path.join(cache, "bygone", "engines.json")
        with open(path) as file:
            known = json.load(file)
        with open("/proc/cpuinfo") as file:
            microcode = [line.split(":")[1].strip() for line in file if line.startswith("microcode")][:1]
        check(os.uname().release in known["host"], "it is remembered for this kernel")
        check(all(f"microcode {version}" in known["host"] for version in microcode), "and for this microcode")
        marker = 123456.0
        for engine in known["engines"].values():
            engine["million_instructions_per_second"] = marker
        with open(path, "w") as file:
            json.dump(known, file)
        check(ask(bygone, cache, fresh=False)["software"]["million_instructions_per_second"] == marker, "and not measured again")
        known["host"] = known["host"].replace("microcode", "another microcode")
        with open(path, "w") as file:
            json.dump(known, file)
        check(ask(bygone, cache, fresh=False)["software"]["million_instructions_per_second"] != marker, "on another host it is")


def check_closed_door(bygone):
    """A user who may not open /dev/kvm. Needs root to become one."""
    if os.geteuid() != 0 or not os.path.exists("/dev/kvm"):
        print("without root or without /dev/kvm nobody can be locked out: not checked")
        return
    with tempfile.TemporaryDirectory() as place:  # the build tree may itself be closed to others
        os.chmod(place, 0o755)
        program = os.path.join(place, "bygone")
        with open(bygone, "rb") as source, open(program, "wb") as target:
            target.write(source.read())
        os.chmod(program, 0o755)
        mode = stat.S_IMODE(os.stat("/dev/kvm").st_mode)
        if mode & 0o002:
            print(f"/dev/kvm is open to everybody (mode {mode:o}): not checked")
            return
        kvm = ask(program, user=65534, group=65534, extra_groups=[])["kvm"]
    print(f"as nobody: {kvm}")
    check(not kvm["usable"], "a user who may not open /dev/kvm cannot use it")
    check("/dev/kvm" in kvm["reason"] and os.strerror(errno.EACCES).lower() in kvm["reason"].lower(), "the reason says so")
    check("usermod -aG kvm" in kvm["hint"], "the hint says how to get in")


def main():
    check_verdict(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
    check_memory(sys.argv[1])
    check_closed_door(sys.argv[1])
    sys.exit(1 if check.failed else 0)


main()
