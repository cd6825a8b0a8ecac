#!/bin/sh
# Runs inside the nested machine (boot_time.py --kvm starts it): Bygone's firmware, then OVMF under QEMU, both on the same KVM, from the
# start of the process to a boot loader's first instruction; and for comparison how long the program alone takes to say its version.
# OVMF comes last: on QEMU 7.2 as the outer machine it may end that (tests/nested/README.md).
# Usage: boot_time_kvm.sh RUNS
measure() {  # NAME COMMAND…
  name=$1; shift
  round=0
  while [ $round -lt "$runs" ]; do
    echo "$name $(./time_to_text "$text" 200 "$@" < /dev/null)"
    round=$((round + 1))
  done
}
runs=$1
text="." measure program ./bygone --version
text="hello: on COM1"
measure bygone ./bygone boot --engine kvm --memory 512M --firmware bygone.fd --disk disk.img
echo 280 > /proc/sys/vm/nr_hugepages
measure huge ./bygone boot --engine kvm --memory 512M --huge-pages --firmware bygone.fd --disk disk.img
echo 0 > /proc/sys/vm/nr_hugepages
# With KVM's own interrupt controller the outer machine ends; without, each access to it goes to QEMU: once is long enough.
runs=1
measure ovmf ./qemu-system-x86_64 -L . -nodefaults -machine q35,accel=kvm,kernel-irqchip=off \
  -cpu host,kvm-asyncpf=off,kvm-asyncpf-int=off,kvm-pv-eoi=off,kvm-poll-control=off,kvm-pv-ipi=off -m 512 -display none -bios OVMF.fd \
  -serial stdio -drive format=raw,file=disk.img
