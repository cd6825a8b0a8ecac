"""What the tests of whole machines boot: Debian's kernels, taken out of their packages without installing them, and initial RAM disks
of busybox, the modules a test wants and its own /init. Kernels are kept in the cache directory by version and flavour."""
import fcntl
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from debian_kernel import newest_kernel, run, unpack, with_fresh_lists  # noqa: E402
from process_threads import threads_of  # noqa: E402

# Every module that a test asks for, with those it needs.
MODULES = ["hv_vmbus", "hv_storvsc", "hv_utils", "hv_balloon", "hv_netvsc", "hyperv_drm", "hyperv-keyboard", "hid-hyperv", "sd_mod", "ext4",
           "wdat_wdt", "vmgenid", "rtc-cmos", "hv_sock"]

INIT_HEAD = """#!/bin/busybox sh
export PATH=/bin:/sbin
/bin/busybox mkdir -p /proc /sys /dev /tmp /mnt
/bin/busybox --install -s /bin
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev; mount -t tmpfs none /tmp
[ -x /load ] && sh /load
"""


def _fetch(cache, flavour):
    package = newest_kernel(f"linux-image-{flavour}")
    target = cache / f"{flavour}-{package}"
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        scratch = pathlib.Path(scratch)
        unpack(package, scratch / "tree")
        release = next((scratch / "tree/lib/modules").iterdir()).name
        run("/sbin/depmod", "-b", str(scratch / "tree"), release)
        shutil.rmtree(target, ignore_errors=True)
        (target / "modules").mkdir(parents=True)
        shutil.copy(next((scratch / "tree/boot").glob("vmlinuz-*")), target / "vmlinuz")
        folder = scratch / "tree/lib/modules" / release
        order = []
        for line in (folder / "modules.dep").read_text().splitlines():
            name, needs = line.split(":")
            if pathlib.Path(name).name.removesuffix(".ko").replace("_", "-") in [m.replace("_", "-") for m in MODULES]:
                for module in [*reversed(needs.split()), name]:
                    if module not in order:
                        order.append(module)
        for module in order:
            shutil.copy(folder / module, target / "modules")
        (target / "order").write_text("\n".join(pathlib.Path(m).name.removesuffix(".ko") for m in order))
        (target / "needs").write_text("\n".join(
            " ".join(pathlib.Path(m).name.removesuffix(".ko") for m in [line.split(":")[0], *line.split(":")[1].split()])
            for line in (folder / "modules.dep").read_text().splitlines() if line.split(":")[0] in order))
        shutil.copy(folder / "modules.builtin", target / "builtin")
    (target / "complete").touch()
    return target


def kernel(cache, flavour="cloud-amd64"):
    """A folder with vmlinuz and modules/."""
    cache = pathlib.Path(cache)
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = sorted(cache.glob(f"{flavour}-linux-image-*/complete"), key=lambda path: path.stat().st_mtime)
        if found:
            return found[-1].parent
        return with_fresh_lists(lambda: _fetch(cache, flavour))


def initrd(path, kernel_folder, init, modules=(), files=(), head=INIT_HEAD):
    """Writes an initial RAM disk. `init` follows `head`; a module that is built in, or that this kernel lacks, is passed over."""
    needs = {line.split()[0]: line.split()[1:] for line in (kernel_folder / "needs").read_text().splitlines()}
    order = (kernel_folder / "order").read_text().split()
    wanted = set()
    for module in modules:
        wanted.update([module, *needs.get(module, [])])
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for folder in ("bin", "proc", "sys", "dev", "tmp", "mnt", "modules", "sbin"):
            (scratch / folder).mkdir()
        shutil.copy("/bin/busybox", scratch / "bin/busybox")
        chosen = [module for module in order if module in wanted]
        for module in chosen:
            shutil.copy(kernel_folder / "modules" / f"{module}.ko", scratch / "modules")
        (scratch / "load").write_text("".join(f"insmod /modules/{module}.ko\n" for module in chosen))
        (scratch / "load").chmod(0o755)
        for source, target in files:
            (scratch / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, scratch / target)
        (scratch / "init").write_text(head + init)
        (scratch / "init").chmod(0o755)
        names = "\n".join(str(p.relative_to(scratch)) for p in sorted(scratch.rglob("*")))
        archive = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=names.encode(), cwd=scratch, capture_output=True, check=True)
        pathlib.Path(path).write_bytes(archive.stdout)


def nested(cache, bygone, files, command, timeout=1400):
    """The command that runs `command` in the machine of tests/nested, with those files (source: name) beside it and its standard input empty."""
    top = pathlib.Path(__file__).resolve().parents[2]
    result = [sys.executable, top / "tests/nested/run_nested.py", "--cache", cache, "--processors", "1", "--memory", "2048", "--timeout", timeout]
    rate = pathlib.Path(bygone).resolve().parent / "tsc_rate"
    if rate.exists():
        result += ["--tsc-rate", rate]
    for path, name in files.items():
        result += ["--file", f"{path}:{name}"]
    return [*result, "--", "sh", "-c", shlex.join(map(str, command)) + " < /dev/null"]


class Console:
    """A running `bygone boot` whose console is watched."""

    def __init__(self, command, log, stdin=subprocess.DEVNULL):
        self.log = pathlib.Path(log)
        self._out = open(self.log, "wb")
        self.process = subprocess.Popen([str(part) for part in command], stdin=stdin, stdout=self._out, stderr=subprocess.STDOUT)

    def text(self):
        return self.log.read_text(errors="replace").replace("\r", "")

    def wait_for(self, pattern, timeout):
        """The match of `pattern` in the console. Waits for the machine's output, not for time."""
        end = time.monotonic() + timeout
        while True:
            match = re.search(pattern, self.text(), re.M)
            if match:
                return match
            if self.process.poll() is not None:
                match = re.search(pattern, self.text(), re.M)
                if match:
                    return match
                raise RuntimeError(f"the machine ended ({self.process.returncode}) before {pattern!r}:\n{self.text()[-3000:]}")
            if time.monotonic() > end:
                raise RuntimeError(f"no {pattern!r} in {timeout} s:\n{self.text()[-3000:]}")
            time.sleep(0.1)

    def wait(self, timeout):
        """The exit status. What is still running by then is killed, and the failure tells where it stood."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not ended in {timeout} s: {shlex.join(self.process.args)}\n{threads_of(self.process.pid)}\n{self.text()[-3000:]}") from None
        finally:
            self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
