#!/bin/sh
# The suite on this host's own KVM, where that is real; where it is not, says why and ends with 77, which ctest shows as skipped.
#   host_kvm.sh DIRECTORY-OF-PROGRAMS [--emulated-processor] IMAGE…
suite=$(cd "$(dirname "$0")" && pwd)/suite.sh
cd "$1" || exit 1
shift
# Three times, as in the suite: only a host that says no each time has none.
for attempt in 1 2 3; do
  verdict=$(./bygone engine --fresh) || exit 1
  case $verdict in
    "kvm: usable"*) exec sh "$suite" "$@" ;;
  esac
done
echo "the host's own KVM is not used:"
echo "$verdict"
exit 77
