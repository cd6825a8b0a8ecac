"""A person with folders of their own, who runs `bygone`: what both test programs share."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile


class Person:
    def __init__(self, program):
        self.program = str(pathlib.Path(program).resolve())
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="bygone-", dir="/tmp"))
        self.runtime = self.root / "run"
        self.runtime.mkdir(mode=0o700)
        self.place = self.root / "home/Virtual Machines"
        self.environment = {**os.environ, "HOME": str(self.root / "home"), "XDG_RUNTIME_DIR": str(self.runtime),
                            "XDG_CONFIG_HOME": str(self.root / "config"), "XDG_DATA_HOME": str(self.root / "data")}
        self.environment.pop("BYGONE_MACHINES", None)
        (self.root / "home").mkdir()
        self.prefix = []  # what the program is started by

    def try_run(self, *arguments, **options):
        options.setdefault("timeout", 300)
        options.setdefault("stdin", subprocess.DEVNULL) if "input" not in options else None
        return subprocess.run([*self.prefix, self.program, *map(str, arguments)], env=self.environment, capture_output=True, text=True, **options)

    def run(self, *arguments, **options):
        done = self.try_run(*arguments, **options)
        if done.returncode != 0:
            raise AssertionError(f"bygone {' '.join(map(str, arguments))}: {done.stderr}{done.stdout}")
        return done.stdout

    def json(self, *arguments):
        return json.loads(self.run(*arguments, "--json"))

    def fails(self, *arguments, **options):
        """What it says on standard error."""
        done = self.try_run(*arguments, **options)
        if done.returncode != 1:
            raise AssertionError(f"bygone {' '.join(map(str, arguments))} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stderr

    def definition(self, name):
        return self.place / name / f"{name}.json"

    def edit(self, name, **fields):
        path = self.definition(name)
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}, indent=2))

    def log(self, name):
        path = self.place / name / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def leave(self):
        for machine in json.loads(self.try_run("list", "--json").stdout or "[]"):
            if machine["state"] not in ("off", "saved"):
                self.try_run("stop", machine["name"], "--force")
        shutil.rmtree(self.root, ignore_errors=True)
