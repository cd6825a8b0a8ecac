#!/bin/sh
# Inside the nested machine, in the directory of the programs: what is said and done while KVM is away or closed, then, as on any
# host whose KVM is real, host_kvm.sh.
#   inside.sh IMAGE…
failed=0
said=$(mktemp)
part() {
  name=$1; shift
  echo "== $name"
  "$@" || { echo "nested: $name failed with status $?"; failed=1; }
}
says() {
  cat "$said"
  for text in "$@"; do grep -q "$text" "$said" || { echo "not said: $text"; return 1; }; done
}
# Without the device and as a user whom it is closed to, it has to say so, whatever an earlier run found.
without_device_is_unusable() {
  mv /dev/kvm /dev/kvm.away; ./bygone engine > "$said"; mv /dev/kvm.away /dev/kvm
  says "^kvm: not usable" "opening /dev/kvm" "load kvm_intel or kvm_amd" "^software: usable, taken by default"
}
closed_device_is_unusable() {
  mkdir -p /etc
  echo "nobody:x:65534:65534::/tmp:/bin/sh" > /etc/passwd
  chmod 600 /dev/kvm; chmod 777 /tmp; chmod 755 . /
  HOME=/tmp/nobody su nobody -c "./bygone engine" > "$said"
  says "^kvm: not usable" "opening /dev/kvm" "ermission denied" "usermod -aG kvm" "^software: usable, taken by default"
}
host_kvm_is_skipped() {
  mv /dev/kvm /dev/kvm.away; sh ./host_kvm.sh . "$1" > "$said"; status=$?; mv /dev/kvm.away /dev/kvm
  says "the host's own KVM is not used" "opening /dev/kvm" && [ $status = 77 ]
}
part "bygone engine says when the device is not there" without_device_is_unusable
part "bygone engine says when the device is closed to the user" closed_device_is_unusable
part "the host's KVM is left alone when the device is not there" host_kvm_is_skipped "$1"
rm -f "$said"
echo "== the suite as on a host"
sh ./host_kvm.sh . --emulated-processor "$@" || { echo "nested: the suite failed with status $?"; failed=1; }
exit $failed
