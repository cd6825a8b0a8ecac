"""Debian's packages, kernels above all, for the tests' machines: fetched, unpacked and not installed."""
import fcntl
import hashlib
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile


class Failure(Exception):
    pass


def run(*command, **options):
    """What it prints. Fails with what it says."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise Failure(f"{shlex.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def newest_kernel(meta):
    """The package of a kernel that a meta package (linux-image-amd64…) stands for now."""
    match = re.search(r"Depends: (linux-image-\S+)", run("apt-cache", "depends", meta))
    if not match:
        raise Failure(f"apt-cache knows no {meta}: run apt-get update")
    return match[1]


def unpack(package, target):
    """Fetches a package and puts its files into a folder that is not there yet."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        scratch = pathlib.Path(scratch)
        run("apt-get", "-o", "APT::Sandbox::User=", "download", package, cwd=scratch)
        run("dpkg-deb", "-x", str(next(scratch.glob("*.deb"))), str(target))


def with_fresh_lists(work):
    """What work() gives; where it fails, once more with new lists of packages: Debian's mirror has only the newest."""
    try:
        return work()
    except Failure:
        run("apt-get", "update", "-qq")
        return work()


class Kernel:
    """A kernel with the named modules and those that they need, from the newest package that the meta package stands for, kept in a folder.

    image is its file, modules the modules' files, each after those that it needs.
    """

    def __init__(self, cache, package, modules):
        self.cache, self.package, self.wanted = cache, package, modules
        self.key = hashlib.sha256("\n".join([package, *modules]).encode()).hexdigest()[:8]
        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.folder = self._kept() or with_fresh_lists(self._fetch)
        self.image = self.folder / "vmlinuz"
        self.modules = [self.folder / "modules" / name for name in (self.folder / "complete").read_text().split()]

    def _kept(self):
        """The newest kept folder with a file `complete`, which has the modules' names in their order; or None."""
        marks = self.cache.glob(f"linux-image-*-{self.key}/complete")
        return max((mark.parent for mark in marks), key=lambda folder: folder.stat().st_mtime, default=None)

    def _fetch(self):
        package = newest_kernel(self.package)
        target = self.cache / f"{package}-{self.key}"
        with tempfile.TemporaryDirectory(dir=self.cache) as scratch:
            scratch = pathlib.Path(scratch)
            unpack(package, scratch / "tree")
            modules = self._in_order(scratch / "tree")
            shutil.rmtree(target, ignore_errors=True)
            (target / "modules").mkdir(parents=True)
            shutil.copy(next((scratch / "tree/boot").glob("vmlinuz-*")), target / "vmlinuz")
            for module in modules:
                shutil.copy(module, target / "modules")
        (target / "complete").write_text("".join(f"{module.name}\n" for module in modules))
        return target

    def _in_order(self, tree):
        """The files of the modules and of those that they need, each after what it needs."""
        version = next((tree / "lib/modules").iterdir())
        run("/sbin/depmod", "-b", str(tree), version.name)
        needs = {}
        for line in (version / "modules.dep").read_text().splitlines():
            path, _, needed = line.partition(":")
            needs[version / path] = [version / name for name in needed.split()]
        found = {path.stem.replace("_", "-"): path for path in needs}
        order = []
        for name in self.wanted:
            path = found.get(name.replace("_", "-"))
            if path is None:
                raise Failure(f"{version.name} has no module {name}")
            order += [module for module in [*reversed(needs[path]), path] if module not in order]
        return order
