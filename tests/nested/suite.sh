#!/bin/sh
# Runs inside the nested machine: everything that needs a real KVM. Each part says its name, so that a failure has one.
failed=0
part() {
  name=$1; shift
  echo "== $name"
  "$@" || { echo "nested: $name failed with status $?"; failed=1; }
}
engine_is_usable() { ./bygone engine --fresh | tee /tmp/engine.txt; grep -q "^kvm: usable" /tmp/engine.txt; }

part "bygone engine finds KVM usable" engine_is_usable
# Without the device it has to say so, whatever an earlier run found.
without_device_is_unusable() {
  mv /dev/kvm /dev/kvm.away; ./bygone engine > /tmp/engine.txt; mv /dev/kvm.away /dev/kvm
  cat /tmp/engine.txt
  grep -q "^kvm: not usable" /tmp/engine.txt && grep -q "opening /dev/kvm" /tmp/engine.txt && grep -q "load kvm_intel or kvm_amd" /tmp/engine.txt
}
part "bygone engine says when the device is not there" without_device_is_unusable
part "KVM engine" ./kvm_engine_test --gtest_brief=1
part "hostile guests" env BYGONE_TEST_ENGINE=kvm ./hostile_test --gtest_brief=1
for facilities in all none; do
  part "test guests on KVM, done by the kernel: $facilities" \
    ./guest_runner --engine kvm --facilities $facilities --emulated-processor --limit 120 "$@"
done
# Known to fail when they move, or not tried to the end: apic_timer (rate), fpu (MXCSR), hypercalls, msrs (LSTAR), smp, tsc, triple_fault.
moving=
for image in "$@"; do
  case $image in apic_timer.* | fpu.* | hypercalls.* | msrs.* | smp.* | tsc.* | triple_fault.*) ;; *) moving="$moving $image" ;; esac
done
part "test guests that move between KVM and the software processor" \
  ./guest_runner --engine kvm --move --facilities all --emulated-processor --limit 120 $moving
exit $failed
