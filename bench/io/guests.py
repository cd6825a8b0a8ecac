"""What storage.py and network.py share: the same Linux guest on Bygone and on QEMU, which take turns (turns.sh), here on software
processors or on the KVM of the nested machine (tests/nested)."""
import argparse
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests/linux_guest"))
import make_guest  # noqa: E402

QEMU = "/usr/bin/qemu-system-x86_64"
ROMS = ["seabios/bios-256k.bin", "qemu/linuxboot_dma.bin", "qemu/kvmvapic.bin"]
APPEND = "console=ttyS0 quiet panic=-1 no_timer_check"
# Between them /init loads drivers and says with a function, work, what is done with a line of work.
INIT_HEAD = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
ln -sf kmod /bin/modprobe
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev; mount -t tmpfs none /tmp; mkdir -p /dev/shm
stty -echo
"""
INIT_TAIL = """
echo "result: ready"
while read -r line; do work $line; done
"""


def arguments_of(description):
    """The options that every bench of two machines has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bygone", type=pathlib.Path, default=ROOT / "build/release/bin/bygone")
    parser.add_argument("--nested", action="store_true", help="both on the KVM of the nested machine")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="for each job in each round")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    return parser


class Bench:
    """The folder that both machines start in: the same kernel and initial RAM disk, and the files that are given here."""

    def __init__(self, options, modules, programs, host_programs, init):
        self.options = options
        self.folder = tempfile.TemporaryDirectory(prefix="bygone-bench-")
        self.path = pathlib.Path(self.folder.name)
        cache = ROOT / "build/linux-guest/cache"
        cache.mkdir(parents=True, exist_ok=True)
        tree = make_guest.fetch(cache)[0]["cloud"]
        self.tree = tree
        make_guest.MODULES = modules
        make_guest.HOST_PROGRAMS = [*host_programs, "kmod"]
        make_guest.DEBIAN_PROGRAMS = []
        make_guest.HERE = self.path
        (self.path / "init").write_text(INIT_HEAD + init + INIT_TAIL)
        (self.path / "initrd").write_bytes(make_guest.build(tree, [], programs, False))
        self.files = {"bygone": options.bygone.resolve(), "qemu": QEMU, "kernel": next((tree / "boot").glob("vmlinuz-*")).resolve(),
                      "initrd": self.path / "initrd", "turns.sh": HERE / "turns.sh"}
        for rom in ROMS:
            path = pathlib.Path("/usr/share") / rom
            if path.exists():
                self.files[path.name] = path

    def text(self, name, text):
        (self.path / name).write_text(text)
        self.files[name] = self.path / name

    def machines(self, bygone, qemu):
        """What each machine is given beyond the guest: its device."""
        engine, accelerator = ("kvm", "kvm -cpu host") if self.options.nested else ("software", "tcg -cpu max")
        self.text("bygone.sh", f"exec ./bygone boot --engine {engine} --memory 512M --kernel kernel --initrd initrd --append \"{APPEND}\" {bygone}\n")
        self.text("qemu.sh", f"exec ./qemu -L . -accel {accelerator} -machine q35 -m 512 -nodefaults -no-user-config -display none -no-reboot "
                             f"-serial stdio -kernel kernel -initrd initrd -append \"{APPEND}\" {qemu}\n")

    def run(self, works):
        """The answers of each machine: name → work → one list of words a round."""
        self.text("works", "".join(f"{work}\n" for work in works))
        rounds = str(self.options.rounds)
        if self.options.nested:
            rate = self.options.bygone.resolve().parent / "tsc_rate"
            command = [sys.executable, ROOT / "tests/nested/run_nested.py", "--cache", ROOT / "build/nested-kernel", "--processors", "1", "--memory", "3072",
                       "--timeout", "3500", *(["--tsc-rate", rate] if rate.exists() else []),
                       *(word for name, path in self.files.items() for word in ("--file", f"{path}:{name}")), "--", "sh", "./turns.sh", rounds]
        else:
            for name, path in self.files.items():
                if not (self.path / name).exists():
                    (self.path / name).symlink_to(path)
            command = ["sh", "./turns.sh", rounds]
        answers = {"bygone": [], "qemu": []}
        output = []
        with subprocess.Popen([str(part) for part in command], cwd=self.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT) as process:
            try:
                for raw in process.stdout:
                    line = raw.decode(errors="replace").strip()
                    output.append(line)
                    found = re.match(r"(bygone|qemu) result: (.*)", line)
                    if found:
                        answers[found[1]].append(found[2].split())
                    if found or self.options.verbose:
                        print(line, file=sys.stderr, flush=True)
            finally:
                process.terminate()
        expected = 1 + len(works) * self.options.rounds
        if any(len(given) != expected for given in answers.values()):
            sys.exit("not everything was measured:\n" + "\n".join(output[-40:]))
        return {name: {work: given[1 + at::len(works)] for at, work in enumerate(works)} for name, given in answers.items()}


def median(rows, column):
    return statistics.median(float(row[column]) for row in rows)


def table(options, head, rows):
    """Prints rows of words, the first one to the left."""
    if options.markdown:
        print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
        for row in rows:
            print("| " + " | ".join(row) + " |")
        return
    for row in (head, *rows):
        print(f"{row[0]:28}" + "".join(f"{word:>18}" for word in row[1:]))
