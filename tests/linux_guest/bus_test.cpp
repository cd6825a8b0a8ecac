// The bus under a Linux guest that loads and unloads its drivers, goes into another kernel, and restarts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "linux_guest.h"

namespace bygone::tests {
namespace {

using namespace std::chrono_literals;

/// Ten times out and in again. `probe` must succeed afterwards.
std::string reload(const std::string& module, const std::string& probe, const std::string& before = {}) {
  return fmt::format("for i in 1 2 3 4 5 6 7 8 9 10; do {2} /bin/modprobe -r {0} || exit 1; /bin/modprobe {0} || exit 2; done\n"
                     "for i in $(seq 50); do {1} && exit 0; sleep 0.1; done; echo 'not there again: {0}'; exit 3",
                     module, probe, before);
}

TEST(BusOnLinux, drivers_that_come_and_go_leave_a_working_bus) {
  const std::string disk = std::filesystem::temp_directory_path() / fmt::format("reload-{}.raw", ::getpid());
  make_disk(disk, 64 << 20);
  {
    LinuxGuest guest({.flavour = "full", .modules = {"hv_utils", "hv_storvsc", "sd_mod", "evdev"}, .disks = {disk}, .memory_megabytes = 384});
    ASSERT_TRUE(guest.is_up());
    guest.run("dmesg -c > /dev/null");  // what a kernel says while it starts is tests/machine's business
    guest.run(reload("hv_utils", "ls -d /sys/bus/vmbus/drivers/hv_utils/*-*-*"));
    guest.run(reload("hv_storvsc", "[ $(blockdev --getsize64 /dev/sda) = 67108864 ]"));
    guest.run("dd if=/dev/sda of=/dev/null bs=1M");
    guest.run(reload("hyperv-keyboard", "grep -q 'AT Translated' /proc/bus/input/devices || ls -d /sys/bus/vmbus/drivers/hyperv_keyboard/*-*-*"));
    guest.run(reload("hid-hyperv", "ls -d /sys/bus/vmbus/drivers/hid_hyperv/*-*-*"));
    guest.run(reload("hyperv_drm", "[ -e /dev/dri/card0 ]",
                     "for c in /sys/class/vtconsole/vtcon*; do grep -q 'frame buffer' $c/name && echo 0 > $c/bind; done;"));
    // hv_sock carries what tells how it went, so it goes by the console.
    // A closed socket holds the module until both sides have said so, at most 8 s (HVS_CLOSE_TIMEOUT in Linux).
    guest.run("cat > /tmp/again <<'END'\nsleep 1\nkillall socat\n"
              "for i in $(seq 150); do grep -q '^hv_sock .* 0 ' /proc/modules && break; sleep 0.1; done\n"
              "for i in 1 2 3 4 5 6 7 8 9 10; do /bin/modprobe -r hv_sock && /bin/modprobe hv_sock || echo FAILED; done\n"
              "setsid socat -t 86400 VSOCK-LISTEN:1,fork,backlog=64 EXEC:/bin/sh,stderr &\necho hv_sock is back\nEND\n"
              "setsid sh /tmp/again < /dev/null > /dev/console 2>&1 &");
    EXPECT_TRUE(guest.wait_for_console("hv_sock is back"));
    EXPECT_THAT(guest.console(), testing::Not(testing::HasSubstr("FAILED")));
    EXPECT_TRUE(guest.wait_for_shell());
    EXPECT_THAT(guest.run("dmesg"), testing::Not(testing::AnyOf(testing::HasSubstr("BUG:"), testing::HasSubstr("WARNING:"))));
    const auto tree = guest.machine().inspect();
    EXPECT_EQ(tree["bus"]["devices"]["heartbeat"]["health"], "alive");
  }
  std::filesystem::remove(disk);
}

TEST(BusOnLinux, a_guest_may_restart_and_go_into_another_kernel) {
  LinuxGuest guest({.modules = {"hv_utils", "hv_storvsc"}, .memory_megabytes = 768});
  ASSERT_TRUE(guest.is_up());
  EXPECT_TRUE(guest.wait_for_console("guest: up"));
  guest.run("setsid sh -c 'sleep 1; reboot -f' < /dev/null > /dev/null 2>&1 &");
  EXPECT_TRUE(guest.wait_for_console("guest: up", 2)) << "after a restart";
  ASSERT_TRUE(guest.wait_for_shell());
  // The RAM disk of the next kernel is what this one has unpacked.
  guest.run("cd / && find bin etc init lib lib64 root sbin usr var dev/console 2> /dev/null | cpio -o -H newc > /tmp/initrd && "
            "mkdir -p /tmp/x/proc /tmp/x/sys /tmp/x/tmp /tmp/x/run && cd /tmp/x && find . | cpio -o -H newc >> /tmp/initrd");
  guest.run("setsid kexec_into /vmlinuz /tmp/initrd \"$(cat /proc/cmdline) bygone.again\" < /dev/null > /dev/console 2>&1 &");
  EXPECT_TRUE(guest.wait_for_console("guest: up", 3)) << "the next kernel";
  ASSERT_TRUE(guest.wait_for_shell());
  EXPECT_THAT(guest.run("cat /proc/cmdline"), testing::HasSubstr("bygone.again"));
  guest.machine().request_shutdown();
  EXPECT_TRUE(guest.machine().wait_for(240s)) << "the shutdown service works in the next kernel";
}

}  // namespace
}  // namespace bygone::tests
