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
part "KVM engine" ./kvm_engine_test --gtest_brief=1
for facilities in all none; do
  part "test guests on KVM, done by the kernel: $facilities" \
    ./guest_runner --engine kvm --facilities $facilities --emulated-processor --limit 120 "$@"
done
part "test guests that move between KVM and the software processor" \
  ./guest_runner --engine kvm --move --facilities all --emulated-processor --limit 120 "$@"
exit $failed
