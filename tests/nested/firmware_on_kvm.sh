#!/bin/sh
# Runs inside the nested machine: the firmware on `bygone boot --engine kvm`, to a UEFI program that says so on COM1 and by the firmware;
# then, when there is a medium, from a DVD with GRUB to the shell of its initial RAM disk; then, when there is a disk, its Debian with GRUB,
# in which efibootmgr puts systemd-boot first, and again with that, in the same process and in a new one. Both are what
# tests/firmware/debian/build makes.
wait_for() {  # PROCESS PATTERN SECONDS
  tries=$(($3 * 10))
  until grep -qaE "$2" console.txt; do
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

if [ -f netinst.iso ]; then
  : > console.txt
  ./bygone boot --engine kvm --memory 512M --firmware bygone.fd --dvd netinst.iso < /dev/null > console.txt 2>&1 &
  machine=$!
  wait_for $machine "Welcome to GRUB!" 120
  echo "firmware: GRUB runs from the DVD"
  wait_for $machine "\(initramfs\)" 400
  echo "firmware: the DVD's Debian has reached its shell"
  kill $machine; wait $machine 2>/dev/null
fi

[ -f debian.vhdx ] || exit 0
mkfifo keys
exec 3<> keys
start_debian() {
  : > console.txt
  ./bygone boot --engine kvm --memory 512M --firmware bygone.fd --disk debian.vhdx --variables variables < keys >> console.txt 2>&1 &
  machine=$!
}
expect_systemd_boot() {  # its entry starts a shell instead of init
  wait_for $machine "(bash-5[^ ]*|root@\(none\):/)# " 900
  printf 'mount -t proc proc /proc; cat /proc/cmdline\r' >&3
  wait_for $machine "bootedby=systemd-boot" 120
}

start_debian
wait_for $machine "Welcome to GRUB!" 200
echo "firmware: GRUB runs from the disk"
wait_for $machine "root@debian:~# " 1500
printf 'cat /proc/cmdline\r' >&3
wait_for $machine "bootedby=grub" 120
echo "firmware: GRUB has started the installed Debian"
: > console.txt
printf 'modprobe efivarfs; mount -t efivarfs efivarfs /sys/firmware/efi/efivars; efibootmgr -c -d /dev/sda -p 1 -L Other -l '"'"'\\EFI\\systemd\\systemd-bootx64.efi'"'"'\r' >&3
wait_for $machine "\* Other" 200
grep -a "^Boot" console.txt
: > console.txt
printf 'reboot -f\r' >&3
expect_systemd_boot
echo "firmware: efibootmgr's choice, systemd-boot, has started it after a reset"
kill $machine; wait $machine 2>/dev/null
start_debian
expect_systemd_boot
echo "firmware: and in a new process"
kill $machine
