#!/bin/sh
# Runs inside the nested machine: a Linux with two processors starts on the software processor, is saved, goes on on KVM, is saved
# again, goes on on the software processor and ends there. Its work (a checksum that is always the same, a clock that never goes
# back) runs all the time.
set -e
mkdir -p inner/bin inner/proc inner/sys inner/dev
cp /bin/busybox inner/bin/
cat > inner/init <<'END_OF_INIT'
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev
(while true; do dd if=/dev/zero bs=64k count=8 2>/dev/null | md5sum >> /sums; done) &
tick=0; last=0
while [ $tick -lt 12 ]; do
  sleep 0.5
  now=$(cut -d. -f1 /proc/uptime)
  [ "$now" -ge "$last" ] || echo "inner: time went back from $last to $now"
  last=$now; tick=$((tick + 1))
  echo "inner: tick $tick"
done
echo "inner: $(sort -u /sums | wc -l) kind of answer"
dmesg | grep -i -E "BUG|unstable|soft lockup|stall" | sed 's/^/inner: complaint: /'
echo "inner: end"
poweroff -f
END_OF_INIT
chmod +x inner/init
(cd inner && find . | cpio -o -H newc 2>/dev/null) > inner.cpio
run() {  # ENGINE SAVE-TO [RESUME-FROM]
  ./bygone boot --engine "$1" --cpus 2 --memory 128M --kernel vmlinuz --initrd inner.cpio --append "console=ttyS0 quiet panic=-1" \
    --save "$2" ${3:+--resume "$3"} < /dev/null >> console.txt 2> errors.txt &
  machine=$!
}
reaches() {  # TEXT: until the console has it, or the machine has ended
  while ! grep -q "$1" console.txt; do
    kill -0 $machine 2> /dev/null || { echo "the machine ended before \"$1\""; cat console.txt errors.txt; exit 1; }
    sleep 0.2
  done
  echo "reached \"$1\" after $(cut -d. -f1 /proc/uptime) s"
}
touch console.txt
run software first.state
reaches "inner: tick 2"
kill -USR2 $machine; wait $machine
run kvm second.state first.state
reaches "inner: tick 6"
kill -USR2 $machine; wait $machine
run software third.state second.state
reaches "inner: end"
wait $machine
cat console.txt
! grep -q "complaint\|went back" console.txt
grep -q "inner: 1 kind of answer" console.txt
for tick in 1 2 3 4 5 6 7 8 9 10 11 12; do grep -q "inner: tick $tick\$" console.txt || grep -q "inner: tick $tick[^0-9]" console.txt; done
