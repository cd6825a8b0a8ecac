#!/bin/sh
# Runs inside the nested machine (boot_time.py --exits starts it): how often and why the processor leaves the guest from the start of
# the process to a boot loader's first instruction, and where the time goes. Told by the kernel's trace points, which take time themselves.
text="hello: on COM1"
mkdir -p /trace
mount -t tracefs none /trace || exit 1
cd /trace || exit 1
echo 65536 > buffer_size_kb
for event in entry exit pio msr mmio page_fault; do
  echo 1 > events/kvm/kvm_$event/enable || exit 1
done
cd /work || exit 1
echo "milliseconds: $(./time_to_text "$text" 200 ./bygone boot --engine kvm --memory 512M --firmware bygone.fd --disk disk.img < /dev/null)"
echo 0 > /trace/tracing_on
awk '
  function field(name,  at) { for (at = 1; at < NF; ++at) if ($at == name) return $(at + 1); return "?" }
  function stamp(  at) { for (at = 1; at < NF; ++at) if ($at ~ /^[0-9]+\.[0-9]+:$/) return $at + 0; return 0 }
  / kvm_exit: / {
    now = stamp(); if (!first) first = now; if (entered) inside += now - entered
    left = now; cause = field("reason"); ++exits; next
  }
  / kvm_entry: / { now = stamp(); if (left) { outside[cause] += now - left; ++by[cause] } entered = now; next }
  / kvm_pio: / { cause = "port " field("at") " " (/pio_write/ ? "write" : "read"); next }
  / kvm_msr: / { for (at = 1; at < NF; ++at) if ($at ~ /^msr_/) cause = "msr " (/msr_write/ ? "write" : "read"); next }
  / kvm_page_fault: / { cause = "page fault"; next }
  / kvm_mmio: / { cause = "device memory at " field("gpa"); next }
  END {
    printf "%6d exits; %.3f s in the guest; %.3f s from the first exit to the last\n", exits, inside, left - first
    for (each in by) if (by[each] >= 5 || outside[each] > 0.02) printf "%6d %-32s %.3f s until the next entry\n", by[each], each, outside[each]
  }' /trace/trace | sort -rn
