// The integration services with a Linux guest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <thread>

#include "linux_guest.h"

namespace bygone::tests {
namespace {

using namespace std::chrono_literals;
using machine::gen2::MachineEnd;
using spec::vmbus::KeyValuePool;

TEST(IntegrationOnLinux, a_request_to_shut_down_ends_the_guest_in_good_order) {
  LinuxGuest guest({.modules = {"hv_utils"}});
  ASSERT_TRUE(guest.is_up());
  guest.machine().request_shutdown();
  const auto end = guest.machine().wait_for(240s);
  ASSERT_TRUE(end) << "the guest still runs";
  EXPECT_EQ(end->reason, MachineEnd::Reason::kPoweredOff);
  EXPECT_THAT(guest.console(), testing::HasSubstr("guest: poweroff in good order"));
}

TEST(IntegrationOnLinux, key_value_daemon_tells_of_the_guest_and_reads_the_host) {
  LinuxGuest guest({.modules = {"hv_utils"}});
  ASSERT_TRUE(guest.is_up());
  auto& values = guest.machine().key_values();
  ASSERT_TRUE(values.set("motto", "waste not"));
  // A record of the guest's own pool: a key of 512 bytes and a value of 2048.
  guest.run("hostname oldtown; echo 127.0.0.1 oldtown > /etc/hosts; mkdir -p /var/lib/hyperv; printf 'PRETTY_NAME=Debian\\n' > /etc/os-release;"
            "ip addr add 10.9.8.7/24 dev lo;"
            "(printf color; head -c 507 /dev/zero; printf blue; head -c 2044 /dev/zero) > /var/lib/hyperv/.kvp_pool_1;"
            "hv_kvp_daemon < /dev/null > /dev/null 2>&1");
  const auto wait_for = [&](KeyValuePool pool, const std::string& key) {
    for (int i = 0; i < 200 && !values.values(pool).contains(key); ++i) {
      values.refresh();
      std::this_thread::sleep_for(100ms);
    }
    return values.values(pool);
  };
  auto automatic = wait_for(KeyValuePool::kAutomatic, "OSName");
  EXPECT_THAT(automatic["OSVersion"], testing::HasSubstr("6.1"));
  EXPECT_EQ(automatic["FullyQualifiedDomainName"], "oldtown");
  EXPECT_EQ(automatic["ProcessorArchitecture"], "x86_64");
  EXPECT_TRUE(automatic.contains("NetworkAddressIPv4")) << "addresses of its adapters";
  EXPECT_EQ(wait_for(KeyValuePool::kGuest, "color")["color"], "blue");
  const auto pool_text = [&](int pool) {
    return guest.run(fmt::format("for i in $(seq 100); do [ -s /var/lib/hyperv/.kvp_pool_{0} ] && break; sleep 0.1; done; "
                                 "tr '\\0' '\\n' < /var/lib/hyperv/.kvp_pool_{0} | grep .", pool));
  };
  // Behind each text the daemon leaves what happened to be in its memory.
  EXPECT_THAT(pool_text(0), testing::StartsWith("motto\nwaste not\n"));
  EXPECT_THAT(pool_text(3), testing::AllOf(testing::HasSubstr("HostName\ncastle\n"), testing::HasSubstr("VirtualMachineName\ntest guest\n")));
  values.remove("motto");
  guest.run("for i in $(seq 100); do [ -s /var/lib/hyperv/.kvp_pool_0 ] || exit 0; sleep 0.1; done; exit 1");
  const auto tree = guest.machine().inspect();
  const auto& inspected = tree["bus"]["devices"]["key-value"];
  EXPECT_EQ(inspected["guest"]["color"], "blue");
  EXPECT_EQ(inspected["automatic"]["FullyQualifiedDomainName"], "oldtown");
}

TEST(IntegrationOnLinux, the_clock_is_right_after_the_machine_stood_still) {
  LinuxGuest guest({.modules = {"hv_utils"}});
  ASSERT_TRUE(guest.is_up());
  const auto distance = [&] { return std::abs(std::time(nullptr) - std::stoll(guest.run("date +%s"))); };
  EXPECT_LE(distance(), 3);
  guest.machine().pause();
  std::this_thread::sleep_for(8s);  // as a suspended host: time goes on outside only
  guest.machine().resume();
  long long left = distance();
  for (int i = 0; i < 50 && left > 3; ++i) {
    std::this_thread::sleep_for(100ms);
    left = distance();
  }
  EXPECT_LE(left, 3) << "seconds that the guest's clock is off";
}

TEST(IntegrationOnLinux, the_heart_beats) {
  LinuxGuest guest({.modules = {"hv_utils"}});
  ASSERT_TRUE(guest.is_up());
  nlohmann::json health;
  for (int i = 0; i < 100 && health != "alive"; ++i) {
    std::this_thread::sleep_for(100ms);
    health = guest.machine().inspect()["bus"]["devices"]["heartbeat"]["health"];
  }
  EXPECT_EQ(health, "alive");
}

}  // namespace
}  // namespace bygone::tests
