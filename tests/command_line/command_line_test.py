#!/usr/bin/env python3
"""What is generated from the description of the commands, used for real. Usage: command_line_test.py BYGONE [unittest options]"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

BYGONE = ""


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, check=False, **options)


def commands(*path):
    """The names of the commands below `path`, from its help."""
    text = run(BYGONE, *path, "--help").stdout
    part = re.search(r"^Subcommands:\n(.*?)(?:\n\n|\nExamples:|\Z)", text, re.M | re.S)
    return re.findall(r"^  (\S+)", part.group(1), re.M) if part else []


class Completion(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)
        (self.folder / "bygone").symlink_to(BYGONE)
        self.environment = dict(os.environ, PATH=f"{self.folder}:{os.environ['PATH']}", HOME=holder.name)

    def script(self, shell, name):
        outcome = run(BYGONE, "completion", shell)
        self.assertEqual(outcome.returncode, 0)
        path = self.folder / name
        path.write_text(outcome.stdout)
        return path

    def test_bash(self):
        script = self.script("bash", "bygone.bash")
        self.assertEqual(run("bash", "-n", script).stderr, "")
        text = f"""source {script}
            COMP_WORDS=(bygone disk ''); COMP_CWORD=2; COMP_LINE='bygone disk '; COMP_POINT=12
            function=$(complete -p bygone | sed 's/.*-F \\([^ ]*\\).*/\\1/'); $function bygone '' disk; printf '%s\\n' "${{COMPREPLY[@]}}" """
        outcome = run("bash", "-c", text, env=self.environment)
        self.assertEqual(outcome.stderr, "")
        self.assertLessEqual(set(commands("disk")), set(outcome.stdout.split()))

    def test_fish(self):
        script = self.script("fish", "bygone.fish")
        outcome = run("fish", "--no-config", "-c", f"source {script}; complete -C 'bygone disk '", env=self.environment)
        self.assertEqual(outcome.stderr, "")
        shown = {line.split("\t")[0] for line in outcome.stdout.splitlines()}
        self.assertLessEqual(set(commands("disk")), shown)

    def test_zsh(self):
        """Presses Tab in an interactive zsh, which runs on a terminal of its own."""
        self.script("zsh", "_bygone")
        text = f"""zmodload zsh/zpty; zpty z zsh -f -i
            zpty -w z "fpath=({self.folder} \\$fpath); autoload -Uz compinit; compinit -u -D; PS1=; zstyle ':completion:*' list-prompt ''; LISTMAX=0; echo rea''dy"
            zpty -r -t -m z x '*ready*' || {{ sleep 1; zpty -r -m z x '*ready*' }}
            zpty -w -n z $'bygone disk \\t\\t'
            sleep ${{WAIT:-1}}; out=; while zpty -r -t z line; do out+=$line; sleep 0.1; done; print -r -- $out"""
        for wait in ("1", "4", "15"):  # a busy machine draws late
            outcome = run("zsh", "-f", "-c", text, env=dict(self.environment, WAIT=wait, TERM="xterm", COLUMNS="120", LINES="60"))
            shown = set(re.findall(r"[a-z-]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", " ", outcome.stdout)))
            if set(commands("disk")) <= shown:
                return
        self.fail(f"zsh offers {sorted(shown)}: {outcome.stdout!r} {outcome.stderr}")


class ManPages(unittest.TestCase):
    def test_every_page_is_clean(self):
        def visit(*path):
            outcome = run(BYGONE, "man", *path)
            self.assertEqual(outcome.returncode, 0, outcome.stderr)
            lint = run("mandoc", "-T", "lint", "-W", "warning", input=outcome.stdout)
            # A page that is not installed yet has no date.
            findings = [line for line in lint.stdout.splitlines() if "missing date" not in line]
            self.assertEqual(findings, [], path)
            shown = re.sub(r".\x08", "", run("mandoc", "-T", "utf8", input=outcome.stdout).stdout)
            for part in ("NAME", "SYNOPSIS", "EXIT STATUS"):
                self.assertIn(part, shown)
            return 1 + sum(visit(*path, name) for name in commands(*path))

        self.assertGreater(visit(), 10)


class Help(unittest.TestCase):
    def test_every_level_shows_examples(self):
        def visit(*path):
            outcome = run(BYGONE, *path, "--help")
            self.assertEqual(outcome.returncode, 0)
            self.assertIn("Examples:", outcome.stdout, path)
            self.assertEqual(run(BYGONE, *path, "--no-such-option").returncode, 2, path)
            for name in commands(*path):
                visit(*path, name)

        visit()


if __name__ == "__main__":
    BYGONE = os.path.abspath(sys.argv[1])
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
