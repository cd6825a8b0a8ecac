#!/bin/sh
# Everything that needs a real KVM, in the directory of the programs. Each part says its name, so that a failure has one.
#   suite.sh [--emulated-processor] IMAGE…
# --emulated-processor: what KVM runs on is an emulator, with defects that the test guests know.
failed=0
emulated=
if [ "$1" = --emulated-processor ]; then emulated=$1; shift; fi
output=$(mktemp)
part() {
  name=$1; shift
  echo "== $name"
  "$@" || { echo "nested: $name failed with status $?"; failed=1; }
}
# A busy host may hold up the measurement of an emulated processor for longer than it is allowed to take: it is asked three times.
engine_is_usable() {
  for attempt in 1 2 3; do
    ./bygone engine --fresh | tee "$output"
    grep -q "^kvm: usable, taken by default" "$output" && return 0
  done
  return 1
}
# A GoogleTest program. A test that it skips is one that was not run: it is named, and the part has failed.
all_of() {
  "$@" --gtest_color=no > "$output" 2>&1
  status=$?
  if [ $status != 0 ]; then cat "$output"; return $status; fi
  grep -E "^the slowest stop|^all registers" "$output"
  if grep -q "^\[  SKIPPED \]" "$output"; then
    echo "tests that were skipped and so show nothing here:"
    grep -A 2 "^\[  SKIPPED \]\|: Skipped" "$output"
    return 1
  fi
  grep "^\[  PASSED  \] [1-9]" "$output" || { cat "$output"; echo "no test has passed"; return 1; }
}
part "bygone engine finds KVM usable" engine_is_usable
part "KVM engine" all_of ./kvm_engine_test
part "what every engine promises" all_of env BYGONE_TEST_ENGINE=kvm ./engine_conformance_test
part "hostile guests" all_of env BYGONE_TEST_ENGINE=kvm ./hostile_test
for facilities in all none; do
  part "test guests on KVM, done by the kernel: $facilities" \
    ./guest_runner --engine kvm --facilities $facilities $emulated --limit 120 "$@"
done
# The hypervisor's guest with each facility left to user space on its own, and what needs it.
for image in "$@"; do
  case $image in hyperv.* | */hyperv.*) ;; *) continue ;; esac
  for facilities in reference-time,vp-index synic,vp-index,hypercalls,event-signals synic,reference-time,vp-index,hypercalls,event-signals \
    synic,reference-time,timers,hypercalls,event-signals synic,reference-time,timers,vp-index synic,reference-time,timers,vp-index,hypercalls; do
    part "the hypervisor's guest, done by the kernel: $facilities" \
      ./guest_runner --engine kvm --facilities $facilities $emulated --limit 120 "$image"
  done
done
part "test guests that move between KVM and the software processor" \
  ./guest_runner --engine kvm --move --facilities all $emulated --limit 120 "$@"
rm -f "$output"
exit $failed
