#!/bin/sh
# Runs inside the nested machine: the firmware on `bygone boot --engine kvm`, to a UEFI program that says so on COM1 and by the firmware;
# then, when there is a medium, from a DVD with GRUB to the shell of its initial RAM disk.
wait_for() {  # PROCESS TEXT SECONDS
  tries=$(($3 * 10))
  until grep -qaF "$2" console.txt; do
    tries=$((tries - 1))
    if [ $tries -le 0 ] || ! kill -0 "$1" 2>/dev/null; then
      echo "nested: no \"$2\""; tail -n 5 console.txt; exit 1
    fi
    usleep 100000
  done
}

for facilities in all none; do
  : > console.txt
  ./bygone boot --engine kvm --facilities $facilities --memory 256M --firmware bygone.fd --efi hello.efi < /dev/null > console.txt 2>&1 &
  machine=$!
  wait_for $machine "hello: on COM1" 400
  wait_for $machine "firmware by Bygone" 400
  wait_for $machine "hello: done" 400
  kill $machine; wait $machine 2>/dev/null
  echo "firmware: the program ran, done by the kernel: $facilities"
done

[ -f netinst.iso ] || exit 0
: > console.txt
./bygone boot --engine kvm --memory 512M --firmware bygone.fd --dvd netinst.iso < /dev/null > console.txt 2>&1 &
machine=$!
wait_for $machine "Welcome to GRUB!" 120
echo "firmware: GRUB runs from the DVD"
wait_for $machine "(initramfs)" 400
echo "firmware: the DVD's Debian has reached its shell"
kill $machine
