#!/bin/sh
# The suite on the host's own KVM, where that is real; where it is not, says why and ends with 77, which ctest shows as skipped.
#   host_kvm.sh DIRECTORY-OF-PROGRAMS IMAGE…
suite=$(cd "$(dirname "$0")" && pwd)/suite.sh
cd "$1" || exit 1
shift
verdict=$(./bygone engine --fresh) || exit 1
case $verdict in
  "kvm: usable"*) ;;
  *) echo "the host's own KVM is not used:"; echo "$verdict"; exit 77 ;;
esac
exec sh "$suite" --host "$@"
