#!/usr/bin/env python3
"""fio in the same guest on the same disk image: Bygone with hv_storvsc beside QEMU with virtio-blk.

    bench/io/storage.py [--bygone build/release/bin/bygone] [--nested] [--rounds 3] [--seconds 3] [--size MIB] [--job WORD] [--markdown]

4 KiB random reads and writes at queue depth 1 and 32, and 1 MiB sequential reads and writes at depth 4, past the guest's page cache
(direct=1), with Debian's cloud kernel, one processor and 512 MiB; the image is a raw file, cached by the host, one for each, in the nested
machine on an ext4 in a RAM disk. Without
--nested on software processors (QEMU: TCG), with it both on the KVM of the machine of tests/nested, which has one processor that QEMU
emulates: there only the ratios mean something. Both machines are up all the time and take turns job by job; the medians of all rounds
are printed, and how many requests were done for one interrupt. Needs fio, qemu-system-x86 and what tests/linux_guest/make_guest.py
needs; the guest's kernel comes from Debian's mirror the first time (kept in build/linux-guest/cache).
"""
import sys

import guests

JOBS = [("4 KiB random read, QD 1", "randread", "4k", 1), ("4 KiB random read, QD 32", "randread", "4k", 32),
        ("4 KiB random write, QD 1", "randwrite", "4k", 1), ("4 KiB random write, QD 32", "randwrite", "4k", 32),
        ("1 MiB sequential read", "read", "1m", 4), ("1 MiB sequential write", "write", "1m", 4)]
# fio's terse line: field 7 and 8 are the rate in KiB/s and the operations a second of reads, 48 and 49 of writes.
INIT = """
for module in hv_vmbus hv_storvsc sd_mod virtio_pci virtio_blk; do modprobe $module 2> /dev/null; done
for i in $(seq 300); do for disk in sda vda; do [ -b /dev/$disk ] && break 2; done; sleep 0.1; done
echo none > /sys/block/$disk/queue/scheduler
requests() { awk '{ print $1 + $5 }' /sys/block/$disk/stat; }
interrupts() {
  if [ $disk = sda ]; then cat /sys/block/sda/device/../../../channels/*/interrupts; else cat /proc/interrupts; fi |
    awk 'NF == 1 { n += $1 } /virtio0-req/ { n += $2 } END { print n }'
}
work() {
  requests=$(requests); interrupts=$(interrupts)
  rates=$(fio --name=j --filename=/dev/$disk --rw=$1 --bs=$2 --iodepth=$3 --ioengine=libaio --direct=1 --time_based --runtime=$4 \\
    --ramp_time=1 --randrepeat=1 --thread --output-format=terse | awk -F';' 'NF > 49 { print $8 + $49, $7 + $48 }')
  echo "result: $rates $(($(requests) - requests)) $(($(interrupts) - interrupts))"
}
"""

NESTED_DISK = """insmod ./brd.ko rd_nr=1 rd_size=1048576 && ./mkfs.ext4 -q -O has_journal,extent,64bit,metadata_csum /dev/ram0
mkdir disks && mount -t ext4 /dev/ram0 disks || exit 1
# What is written stays in the cache: to write it back takes the only processor from whoever's turn it is.
cd /proc/sys/vm; echo 90 > dirty_ratio; echo 80 > dirty_background_ratio; echo 0 > dirty_writeback_centisecs; cd - > /dev/null
"""


def main():
    parser = guests.arguments_of(__doc__)
    parser.add_argument("--size", type=int, default=256, help="the image's size in MiB")
    parser.add_argument("--job", default="", help="only jobs with this in their names")
    options = parser.parse_args()
    bench = guests.Bench(options, ["hv_vmbus", "hv_storvsc", "sd_mod", "virtio_pci", "virtio_blk"], [], ["fio"], INIT)
    # Made where the machines run. The nested machine has no disk: its file system lies in a RAM disk.
    if options.nested:
        bench.files |= {"brd.ko": next((bench.tree / "lib/modules").glob("*/kernel/drivers/block/brd.ko")), "mkfs.ext4": "/sbin/mkfs.ext4"}
    bench.text("before.sh", NESTED_DISK * options.nested + f"mkdir -p disks\nfor disk in bygone qemu; do yes $disk | head -c {options.size << 20} > disks/$disk; done\n")
    bench.machines("--network none --disk disks/bygone",
                   "-drive file=disks/qemu,format=raw,if=none,id=d,cache=writeback,aio=threads -device virtio-blk-pci,drive=d")
    jobs = [job for job in JOBS if options.job in job[0]]
    works = {name: f"{pattern} {block} {depth} {options.seconds}" for name, pattern, block, depth in jobs}
    answers = bench.run(list(works.values()))
    rows = []
    for name, work in works.items():
        column, unit, scale = (1, "MiB/s", 1024) if "1m" in work else (0, "IOPS", 1)
        mine, theirs = (guests.median(answers[machine][work], column) / scale for machine in ("bygone", "qemu"))
        grouped = [f"{sum(int(row[2]) for row in answers[machine][work]) / max(1, sum(int(row[3]) for row in answers[machine][work])):.1f}"
                   for machine in ("bygone", "qemu")]
        rows.append((name, f"{mine:,.0f} {unit}", f"{theirs:,.0f} {unit}", f"{mine / theirs:.2f}", *grouped))
    guests.table(options, ("", "Bygone", "QEMU", "ratio", "requests/interrupt", "QEMU's"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
