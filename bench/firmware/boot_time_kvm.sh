#!/bin/sh
# Runs inside the nested machine (boot_time.py --kvm starts it): Bygone's firmware and OVMF under QEMU, both on the same KVM, take turns
# from the start of the process to a boot loader's first instruction. Usage: boot_time_kvm.sh RUNS
set -e
round=0
while [ $round -lt "$1" ]; do
  echo "bygone $(./time_to_text "hello: on COM1" 200 ./bygone boot --engine kvm --memory 512M --firmware bygone.fd --disk disk.img < /dev/null)"
  echo "ovmf $(./time_to_text "hello: on COM1" 200 ./qemu-system-x86_64 -L . -nodefaults -machine q35,accel=kvm -cpu host -m 512 -display none \
    -bios OVMF.fd -serial stdio -drive format=raw,file=disk.img < /dev/null)"
  round=$((round + 1))
done
