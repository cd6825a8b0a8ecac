#!/bin/sh
# Runs inside the nested machine: boots the kernel of the nested machine once more, on `bygone boot --engine kvm` with two
# processors, to an init that looks at what it runs on, makes work for both, and powers off.
#   linux_on_kvm.sh FACILITIES    what the kernel does for the hypervisor: all or none
set -e
mkdir -p inner/bin inner/proc inner/sys inner/dev
cp /bin/busybox inner/bin/
cat > inner/init <<'END'
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev
echo "inner: $(grep -c ^processor /proc/cpuinfo) processors"
echo "inner: clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
dmesg | grep "Hypervisor detected"
# Processes that start, share pages, fault and end on both processors, which makes them flush each other's TLBs.
for worker in 1 2 3 4; do
  (for round in 1 2 3 4 5; do dd if=/dev/zero bs=64k count=8 2>/dev/null | md5sum; done > /tmp.$worker) &
done
wait
echo "inner: $(cat /tmp.* | sort -u | wc -l) kind of answer of $(cat /tmp.* | wc -l)"
poweroff -f
END
chmod +x inner/init
(cd inner && find . | cpio -o -H newc 2>/dev/null) > inner.cpio
./bygone boot --engine kvm --facilities "$1" --cpus 2 --memory 256M --kernel vmlinuz --initrd inner.cpio \
  --append "console=ttyS0 quiet panic=-1" < /dev/null | tee console.txt
grep -q "inner: 2 processors" console.txt
grep -q "inner: clock hyperv_clocksource_tsc_page" console.txt
grep -q "Hypervisor detected: Microsoft Hyper-V" console.txt
grep -q "inner: 1 kind of answer of 20" console.txt
