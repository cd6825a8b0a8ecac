#!/usr/bin/env python3
"""Debian's GDB on a real kernel: registers, memory by virtual address, breakpoints, single steps, processors as threads.

  gdb_test.py BYGONE CACHE [--engine NAME]
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import guest_files  # noqa: E402

INIT = """
echo "init: address $(grep ' linux_banner$' /proc/kallsyms) $(grep ' __x64_sys_getppid$' /proc/kallsyms)"
while [ ! -e /stop ]; do sh -c 'exec true'; sh -c ': $PPID'; cat /proc/self/stat > /dev/null; done
"""
# busybox's shell asks for its parent's id when it starts.

SCRIPT = """
set pagination off
set confirm off
set architecture i386:x86-64
target remote {socket}
info threads
x/s {banner}
hbreak *{function}
continue
printf "at %#lx flags %#x cr3set %d\\n", $rip, $eflags, $cr3 != 0
x/2i $rip
set $before = $rip
stepi
printf "step %d\\n", $rip - $before
set $rax = 0x1234567
printf "rax %#lx\\n", $rax
info registers xmm0 fctrl gs_base
delete
detach
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bygone", type=pathlib.Path)
    parser.add_argument("cache")
    parser.add_argument("--engine", default="software")
    arguments = parser.parse_args()
    kernel = guest_files.kernel(arguments.cache)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        guest_files.initrd(scratch / "initrd", kernel, INIT)
        socket = scratch / "gdb"
        machine = guest_files.Console([arguments.bygone, "boot", "--engine", arguments.engine, "--kernel", kernel / "vmlinuz", "--initrd", scratch / "initrd",
                                       "--append", "console=ttyS0 panic=-1 quiet", "--memory", "256M", "--cpus", "2", "--gdb", socket], scratch / "log")
        try:
            found = machine.wait_for(r"^init: address ([0-9a-f]+) \w linux_banner ([0-9a-f]+) \w __x64_sys_getppid", 240)
            banner, function = "0x" + found[1], "0x" + found[2]
            script = scratch / "script"
            script.write_text(SCRIPT.format(socket=socket, banner=banner, function=function))
            done = subprocess.run(["gdb", "-nx", "-batch", "-x", str(script)], capture_output=True, text=True, timeout=200)
            said = done.stdout + done.stderr
            for what in (r"Thread 1 \(processor 0", r"Thread 2 \(processor 1", r'"Linux version 6\.', rf"at {function} flags 0x[0-9a-f]+ cr3set 1", r"step [1-9]",
                         r"rax 0x1234567", r"xmm0 ", r"gs_base ", r"detached"):
                if not re.search(what, said):
                    raise SystemExit(f"GDB did not say {what}:\n{said}")
            # The guest runs on: another debugger finds it at another place.
            again = subprocess.run(["gdb", "-nx", "-batch", "-ex", "set architecture i386:x86-64", "-ex", f"target remote {socket}", "-ex", "info registers rip",
                                    "-ex", "kill"], capture_output=True, text=True, timeout=60)
            if "rip" not in again.stdout:
                raise SystemExit(f"the second GDB found nothing:\n{again.stdout}{again.stderr}")
            if machine.wait(30) != 0:
                raise SystemExit("the machine did not end as GDB told it to")
        finally:
            machine.kill()
    print("GDB sees and steers the machine")


main()
