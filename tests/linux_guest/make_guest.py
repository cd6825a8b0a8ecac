#!/usr/bin/env python3
"""Makes what the real Linux guests of the tests boot: Debian's kernels and an initial RAM disk with the programs to drive them.

  make_guest.py --cache DIR --output DIR [--program FILE]…

Writes OUTPUT/{cloud,full}/{vmlinuz,initrd}. The packages (two kernels, hyperv-daemons) come from Debian's mirror, are not
installed, and are kept in the cache. Does nothing when nothing has changed.
"""
import argparse
import fcntl
import hashlib
import pathlib
import re
import shutil
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "nested")]
from debian_kernel import Failure, newest_kernel, run, unpack, with_fresh_lists  # noqa: E402
from run_nested import Archive, libraries  # noqa: E402

KERNELS = {"cloud": "linux-image-cloud-amd64", "full": "linux-image-amd64"}
PACKAGES = ["hyperv-daemons"]
# What the guests may load, with everything that these need. A kernel that lacks one goes without.
MODULES = """hv_vmbus hv_utils hv_balloon hv_sock hv_storvsc hv_netvsc ipv6 hyperv-keyboard hid-hyperv hyperv_drm hyperv_fb
    evdev sd_mod sr_mod ext4 scsi_transport_fc vsock hid-generic psmouse""".split()
HOST_PROGRAMS = ["socat", "mkfs.ext4", "kmod"]
DEBIAN_PROGRAMS = ["usr/sbin/hv_kvp_daemon"]


def unpacked(cache, name):
    """The directory with the package's files; fetched when it is not there."""
    target = cache / name
    if (target / "complete").exists():
        return target / "tree"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    unpack(name, target / "tree")
    (target / "complete").touch()
    return target / "tree"


def fetch(cache):
    """Directories of the kernels and packages. What is in the cache is used, however old."""
    def kernel(meta):
        flavour = r"cloud-amd64" if "cloud" in meta else r"[0-9]-amd64"
        there = [path for path in sorted(cache.glob("linux-image-*/complete")) if re.search(flavour + "$", path.parent.name)]
        return unpacked(cache, there[-1].parent.name if there else newest_kernel(meta))

    def everything():
        return {flavour: kernel(meta) for flavour, meta in KERNELS.items()}, [unpacked(cache, name) for name in PACKAGES]

    return with_fresh_lists(everything)


def module_files(tree):
    """Paths under the tree of the wanted modules and of those that they need."""
    by_name = {path.stem.replace("-", "_"): path for path in tree.glob("lib/modules/*/kernel/**/*.ko")}
    wanted, result = [name.replace("-", "_") for name in MODULES], {}
    while wanted:
        name = wanted.pop()
        if name in result or name not in by_name:
            continue
        result[name] = by_name[name]
        # Soft dependencies are those that nothing but the module's name tells of: checksums.
        fields = run("modinfo", "-F", "depends", str(by_name[name])) + "," + run("modinfo", "-F", "softdep", str(by_name[name]))
        wanted += [need.strip().replace("-", "_") for need in re.split(r"[,\s]+", fields) if need.strip()]
    return sorted(result.values())


def build(tree, packages, programs, with_kernel):
    """The RAM disk."""
    archive = Archive()
    for name in ("dev", "proc", "sys", "tmp", "root", "run", "mnt", "etc", "var/lib/hyperv"):
        archive.directory(name)
    archive.entry("dev/console", 0o020600)
    archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o644)
    sources = {"bin/busybox": shutil.which("busybox")}
    sources |= {f"bin/{name}": shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") for name in HOST_PROGRAMS}
    sources |= {f"bin/{program.name}": str(program) for program in programs}
    for name in DEBIAN_PROGRAMS:
        found = [str(package / name) for package in packages if (package / name).exists()]
        sources[f"bin/{pathlib.Path(name).name}"] = found[0] if found else None
    for target, source in sources.items():
        if source is None:
            raise Failure(f"{target} is missing: run tools/install-packages")
        archive.file(target, pathlib.Path(source).read_bytes())
        for library in libraries(source):
            archive.file(library, pathlib.Path(library).read_bytes())
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for path in module_files(tree):
            copy = scratch / path.relative_to(tree)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        version = next((tree / "lib/modules").iterdir()).name
        for listing in ("modules.builtin", "modules.order"):
            shutil.copy(tree / "lib/modules" / version / listing, scratch / "lib/modules" / version / listing)
        run("depmod", "-b", str(scratch), version)
        for path in sorted(scratch.rglob("*")):
            if path.is_file():
                archive.file(str(path.relative_to(scratch)), path.read_bytes(), 0o644)
    if with_kernel:
        archive.file("vmlinuz", next((tree / "boot").glob("vmlinuz-*")).read_bytes(), 0o644)
    archive.file("init", (HERE / "init").read_bytes())
    return archive.bytes()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--program", type=pathlib.Path, action="append", default=[], help="goes into the guest's /bin")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    with open(arguments.cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            kernels, packages = fetch(arguments.cache)
            for flavour, tree in kernels.items():
                output = arguments.output / flavour
                output.mkdir(parents=True, exist_ok=True)
                kernel = next((tree / "boot").glob("vmlinuz-*"))
                inputs = [HERE / "init", pathlib.Path(__file__), kernel, *arguments.program]
                key = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in inputs)).hexdigest()
                if (output / "key").exists() and (output / "key").read_text() == key:
                    continue
                shutil.copy(kernel, output / "vmlinuz")
                (output / "initrd").write_bytes(build(tree, packages, arguments.program, flavour == "cloud"))
                (output / "key").write_text(key)
        except (Failure, OSError) as error:
            print(f"make_guest: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
