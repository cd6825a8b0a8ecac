#!/usr/bin/env python3
"""How far a guest's clock runs from the host's: both are compared at the start and after ten minutes, and the difference is printed.

  drift.py BYGONE CACHE [--engine NAME] [--nested] [--seconds 600]

The guest has no time synchronization (hv_utils is not loaded), so what is measured is its clock source. It answers a line on COM1
with CLOCK_MONOTONIC and CLOCK_REALTIME; of many questions the one that was answered soonest bounds the offset best, which keeps a busy host
out of the result. The bound is printed with it; status 1 when the drift may be 100 ppm or more.

With --nested on KVM inside the machine of tests/nested, whose clock is the host's then.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests/machine"))
import guest_files  # noqa: E402

# In the guest.
CLOCK = r"""
#include <stdio.h>
#include <time.h>
int main(void) {
  char line[64];
  puts("clock is ready");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin)) {
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    clock_gettime(CLOCK_REALTIME, &b);
    printf("answer %ld.%09ld %ld.%09ld\n", (long)a.tv_sec, a.tv_nsec, (long)b.tv_sec, b.tv_nsec);
    fflush(stdout);
  }
}
"""

# On the host, which may be one without Python: ask SECONDS COMMAND… prints the best answers at the beginning and at the end, as
# "first HOST HALF MONOTONIC REAL" in nanoseconds: host time, half of the answer's way, and the guest's two clocks.
ASK = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
enum { kQuestions = 60 };
static FILE *from, *to;
static char line[4096];
static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}
static char *line_with(const char *what) {
  while (fgets(line, sizeof line, from)) {
    char *found = strstr(line, what);
    if (found) return found;
  }
  fprintf(stderr, "the guest has ended without \"%s\"\n", what);
  exit(2);
}
static void best(const char *name) {
  long long host = 0, half = 1LL << 62, seconds[2] = {0}, parts[2] = {0};
  for (int i = 0; i < kQuestions; ++i) {
    const long long before = now();
    fputs("?\n", to);
    fflush(to);
    long long s[2], n[2];
    if (sscanf(line_with("answer "), "answer %lld.%lld %lld.%lld", &s[0], &n[0], &s[1], &n[1]) != 4) exit(2);
    const long long after = now();
    if ((after - before) / 2 < half) {
      half = (after - before) / 2;
      host = before + half;
      memcpy(seconds, s, sizeof s);
      memcpy(parts, n, sizeof n);
    }
    usleep(50000);
  }
  printf("%s %lld %lld %lld %lld\n", name, host, half, seconds[0] * 1000000000 + parts[0], seconds[1] * 1000000000 + parts[1]);
  fflush(stdout);
}
int main(int count, char **arguments) {
  int in[2], out[2];
  if (count < 3 || pipe(in) || pipe(out)) return 2;
  const pid_t child = fork();
  if (child == 0) {
    dup2(in[0], 0);
    dup2(out[1], 1);
    close(in[1]);
    close(out[0]);
    execvp(arguments[2], arguments + 2);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  to = fdopen(in[1], "w");
  from = fdopen(out[0], "r");
  line_with("clock is ready");
  best("first");
  const long long end = now() + (long long)(atof(arguments[1]) * 1e9);
  while (now() < end) sleep(1);
  best("last");
  kill(child, SIGKILL);
  return 0;
}
"""


def compile_static(scratch, name, text):
    (scratch / f"{name}.c").write_text(text)
    subprocess.run(["gcc", "-O1", "-static", "-o", scratch / name, scratch / f"{name}.c"], check=True)
    return scratch / name


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bygone", type=pathlib.Path)
    parser.add_argument("cache")
    parser.add_argument("--engine", default="software")
    parser.add_argument("--nested", action="store_true")
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    kernel = guest_files.kernel(arguments.cache).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        guest_files.initrd(scratch / "initrd", kernel, "stty -F /dev/ttyS0 -echo\necho \"source $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)\"\nexec /clock\n",
                           files=[(compile_static(scratch, "clock", CLOCK), "clock")])
        files = {compile_static(scratch, "ask", ASK): "ask", arguments.bygone.resolve(): "bygone", kernel / "vmlinuz": "vmlinuz", scratch / "initrd": "initrd"}

        def command(ask, bygone, vmlinuz, initrd, engine):
            return [ask, str(arguments.seconds), bygone, "boot", "--engine", engine, "--memory", "256M", "--kernel", vmlinuz, "--initrd", initrd,
                    "--append", "console=ttyS0 quiet panic=-1"]

        if arguments.nested:
            inner = command(*(f"./{name}" for name in files.values()), "kvm")
            outer = guest_files.nested(TOP / "build/nested-kernel", arguments.bygone, files, inner,
                                       timeout=int(arguments.seconds) + 1200)
        else:
            outer = command(*files, arguments.engine)
        done = subprocess.run([str(part) for part in outer], stdout=subprocess.PIPE, text=True)
    found = {words[0]: [int(word) for word in words[1:]] for words in map(str.split, done.stdout.splitlines()) if words[:1] in (["first"], ["last"])}
    if done.returncode != 0 or len(found) != 2:
        raise SystemExit(f"no answers (status {done.returncode}):\n{done.stdout[-2000:]}")
    first, last = found["first"], found["last"]
    passed = last[0] - first[0]
    doubt = (first[1] + last[1]) / passed * 1e6
    worst = 0
    for name, index in (("monotonic", 2), ("real time", 3)):
        drift = (last[index] - first[index] - passed) / passed * 1e6
        worst = max(worst, abs(drift))
        print(f"{name}: {drift:+.2f} ppm over {passed / 1e9:.0f} s, to within {doubt:.2f} ppm")
    raise SystemExit(0 if worst + doubt < 100 else 1)


main()
