#!/bin/sh
# Runs inside the nested machine: a Linux guest with two processors at work is saved, and resumed on the other engine; three times,
# so that it goes both ways whichever was first. It must go on as if nothing had been.
#   linux_moves.sh FIRST-ENGINE [machine]
# With "machine" it has a definition and is moved with bygone save, set and start; else by the signal that bygone boot saves at.
set -e
engine=$1
kind=${2:-boot}
mkdir -p inner/bin inner/proc inner/sys inner/dev
cp /bin/busybox inner/bin/
cat > inner/init <<'END'
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev
exec > /dev/ttyS1 2>&1
# Two workers whose sums must come out right, whatever engine adds.
for worker in 1 2; do
  (n=0; sum=0; while [ $n -lt 1500 ]; do n=$((n + 1)); sum=$(((sum * 31 + n) % 1000003)); done; echo $sum > /sum.$worker) &
done
tick=0; before=0
while [ $tick -lt 60 ] || [ ! -e /sum.1 ] || [ ! -e /sum.2 ]; do
  tick=$((tick + 1))
  now=$(cut -d. -f1 /proc/uptime)
  [ $now -ge $before ] || echo "inner: time went back from $before to $now"
  before=$now
  echo "inner: tick $tick"
  sleep 0.2
done
wait
echo "inner: processors $(grep -c ^processor /proc/cpuinfo), sums $(cat /sum.1) $(cat /sum.2)"
dmesg | grep -vE "unstable due to running on Hyper-V|rcu_cpu_stall_timeout" | grep -E "BUG:|WARNING:|stall|lockup|Oops|unstable|general protection" || echo "inner: no complaints"
echo "inner: end"
poweroff -f
END
chmod +x inner/init
(cd inner && find . | cpio -o -H newc 2>/dev/null) > inner.cpio

console=$PWD/console.txt
touch "$console" errors.txt
# The software processor inside an emulated one is slow enough for Linux to take a working processor for a stuck one.
parameters="console=ttyS0 quiet panic=-1 rcupdate.rcu_cpu_stall_timeout=300 watchdog_thresh=60"
case $kind in
  machine) ./bygone create moving --engine $engine --cpu legacy --cpus 2 --memory 256M --network none --com2 "file:$console" \
    --kernel "$PWD/vmlinuz" --initrd "$PWD/inner.cpio" --append "$parameters" ;;
esac
start() {
  case $kind in
    machine) ./bygone set moving engine=$engine && ./bygone start moving ;;
    *) ./bygone boot --engine $engine --cpu legacy --cpus 2 --memory 256M --com1 null --com2 "file:$console" --kernel vmlinuz \
         --initrd inner.cpio --append "$parameters" --save state.$moves $resume < /dev/null >> errors.txt 2>&1 &
       process=$! ;;
  esac
}
is_running() {
  case $kind in
    machine) ./bygone status moving | grep -q running ;;
    *) kill -0 $process 2>/dev/null ;;
  esac
}
save() {
  case $kind in
    machine) ./bygone save moving ;;
    *) kill -USR2 $process && wait $process && [ -s state.$moves ] && resume="--resume state.$moves" ;;
  esac
}
last_tick() { grep -c "^inner: tick" "$console" || true; }
failed() {
  echo "FAILED: $1"; cat errors.txt "$console"
  [ $kind != machine ] || ./bygone log moving
  exit 1
}

moves=0
resume=
for next in 1 2 3 last; do
  began=$(last_tick)
  echo "== $engine, after $began ticks"
  start || failed "starting on $engine"
  while is_running && [ $(last_tick) -lt $((began + 5)) ]; do sleep 0.3; done
  is_running || failed "it ended before it was moved"
  # What left the guest and what the kernel gathered, for who reads along.
  [ $kind != machine ] || ./bygone inspect moving cpu --json | grep -E '"(port|posted_writes|hypercall|msr|mmio)"' || true
  [ $next != last ] || break
  save || failed "saving on $engine"
  moves=$((moves + 1))
  if [ $engine = kvm ]; then engine=software; else engine=kvm; fi
done
while is_running; do sleep 0.3; done
grep -q "inner: end" "$console" || failed "it came to no end"
[ $kind != machine ] || ./bygone log moving >> errors.txt
cat errors.txt "$console"
echo "moved $moves times"
# Every tick once, in order: nothing that the serial port had taken was lost or came twice.
tr -d '\r' < "$console" | grep "^inner: tick" > ticks.txt
seq 1 $(wc -l < ticks.txt) | sed "s/^/inner: tick /" | cmp - ticks.txt
sum=0; n=0
while [ $n -lt 1500 ]; do n=$((n + 1)); sum=$(((sum * 31 + n) % 1000003)); done
grep -q "inner: processors 2, sums $sum $sum" "$console"
grep -q "inner: no complaints" "$console"
! grep -q "time went back" "$console"
