#!/bin/sh
# Everything that needs a real KVM, in the directory of the programs. Each part says its name, so that a failure has one.
#   suite.sh IMAGE…           inside the nested machine, whose processor is emulated
#   suite.sh --host IMAGE…    on a host whose own KVM is real: the device stays where it is, no allowance for an emulator
failed=0
emulated=--emulated-processor
if [ "$1" = --host ]; then emulated=; shift; fi
engines=$(mktemp)
part() {
  name=$1; shift
  echo "== $name"
  "$@" || { echo "nested: $name failed with status $?"; failed=1; }
}
# A busy host may hold up the measurement of an emulated processor for longer than it is allowed to take: it is asked three times.
engine_is_usable() {
  for attempt in 1 2 3; do
    ./bygone engine --fresh | tee "$engines"
    grep -q "^kvm: usable, taken by default" "$engines" && return 0
  done
  return 1
}
part "bygone engine finds KVM usable" engine_is_usable

# Without the device, with a device that is no KVM and as a user whom it is closed to, it has to say so, whatever an earlier run found.
says() {
  cat "$engines"
  for text in "$@"; do grep -q "$text" "$engines" || { echo "not said: $text"; return 1; }; done
}
without_device_is_unusable() {
  mv /dev/kvm /dev/kvm.away; ./bygone engine > "$engines"; mv /dev/kvm.away /dev/kvm
  says "^kvm: not usable" "opening /dev/kvm" "load kvm_intel or kvm_amd" "^software: usable, taken by default"
}
closed_device_is_unusable() {
  echo "nobody:x:65534:65534::/tmp:/bin/sh" > /etc/passwd
  chmod 600 /dev/kvm; chmod 777 /tmp; chmod 755 . /
  HOME=/tmp/nobody su nobody -c "./bygone engine" > "$engines"
  says "^kvm: not usable" "opening /dev/kvm" "ermission denied" "usermod -aG kvm" "^software: usable, taken by default"
}
if [ -n "$emulated" ]; then
  part "bygone engine says when the device is not there" without_device_is_unusable
  mkdir -p /etc; part "bygone engine says when the device is closed to the user" closed_device_is_unusable
fi
part "KVM engine" ./kvm_engine_test --gtest_brief=1
part "hostile guests" env BYGONE_TEST_ENGINE=kvm ./hostile_test --gtest_brief=1
for facilities in all none; do
  part "test guests on KVM, done by the kernel: $facilities" \
    ./guest_runner --engine kvm --facilities $facilities $emulated --limit 120 "$@"
done
# smp is left out: with four processors that spin it comes to no end there; hyperv moves with two.
moving=
for image in "$@"; do
  case $image in smp.* | */smp.*) ;; *) moving="$moving $image" ;; esac
done
part "test guests that move between KVM and the software processor" \
  ./guest_runner --engine kvm --move --facilities all $emulated --limit 120 $moving
rm -f "$engines"
exit $failed
