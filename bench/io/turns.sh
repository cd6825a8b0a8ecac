#!/bin/sh
# Two machines that work in turns, so that a busy host hurts both alike. Runs in a folder that guests.py fills: on the host, or inside
# the nested machine, where there is no Python. NAME.sh starts a machine with its guest's console on its standard streams, beside.sh
# what both talk to, and before.sh makes what they need; each line of `works` is given to one guest, then to the other, and answered with a line "result: …".
# Usage: turns.sh ROUNDS
rounds=$1
children=
[ -e before.sh ] && sh ./before.sh
trap 'kill -9 $children 2> /dev/null' EXIT
trap 'exit 1' TERM INT
if [ -e beside.sh ]; then
  sh ./beside.sh &
  children=$!
fi
for name in bygone qemu; do
  mkfifo $name.in $name.out
  sh ./$name.sh < $name.in > $name.out 2> $name.err &
  children="$children $!"
done
exec 3> bygone.in 4< bygone.out 5> qemu.in 6< qemu.out

answer() {  # NAME: what the guest whose console is standard input says next
  while read -r line; do
    case $line in "result: "*) echo "$1 $line"; return ;; esac
    echo "($1) $line"
  done
  echo "$1 has ended:"
  cat "$1.err"
  exit 1
}
answer bygone <&4
answer qemu <&6
for round in $(seq "$rounds"); do
  while read -r work; do
    echo "$work" >&3
    answer bygone <&4
    echo "$work" >&5
    answer qemu <&6
  done < works
done
