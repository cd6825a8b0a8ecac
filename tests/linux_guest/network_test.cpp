// The network of a Linux guest: addresses, both families, streams both ways, and a driver that comes and goes.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <thread>

#include "linux_guest.h"

namespace bygone::tests {
namespace {

using namespace std::chrono_literals;

constexpr const char* kAddress =
    "cat > /tmp/udhcpc <<'END'\n#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip -4 addr flush dev $interface; ip addr add $ip/24 dev $interface\nEND\n"
    "chmod +x /tmp/udhcpc\n"
    "get_address() { for i in $(seq 600); do [ -d /sys/class/net/eth0 ] && break; sleep 0.1; done; ip link set eth0 up;"
    " udhcpc -i eth0 -t 100 -n -q -s /tmp/udhcpc > /dev/null 2>&1 && ip -4 -o addr show eth0 | grep -q 10.0.2.15 || { ip -s link; exit 1; }; }\n";

/// Listens on the host's loop-back address, where guests behind NAT find it as 10.0.2.2.
class HostListener {
 public:
  explicit HostListener(int type) : socket_(::socket(AF_INET, type | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    if (type == SOCK_STREAM) {
      EXPECT_EQ(::listen(socket_.get(), 4), 0);
    }
    socklen_t size = sizeof address;
    EXPECT_EQ(::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
  }
  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  UniqueFd socket_;
  std::uint16_t port_ = 0;
};

TEST(NetworkOnLinux, hv_netvsc_has_addresses_of_both_families_and_carries_streams) {
  LinuxGuest guest({.modules = {"hv_netvsc"}, .network = network::NatOptions{}});
  ASSERT_TRUE(guest.is_up());
  guest.run(std::string(kAddress) + "get_address; ping -q -c 5 10.0.2.2 | grep ' 0% packet loss'");
  guest.run("for i in $(seq 300); do ip -6 -o addr show eth0 scope global | grep -v tentative | grep -q fec0 && break; sleep 0.1; done; ip -6 -o addr show eth0;"
            "ping -q -6 -c 3 fec0::2 | grep ' 0% packet loss'");
  const HostListener listener(SOCK_STREAM);
  const UniqueFd echo = guest.start(fmt::format("head -c 8388608 /dev/urandom > /tmp/much; socat -t 60 TCP:10.0.2.2:{} SYSTEM:'cat /tmp/much; cat > /tmp/back';"
                                                "for i in $(seq 100); do [ $(stat -c %s /tmp/back) = 8388608 ] && break; sleep 0.1; done; cmp /tmp/much /tmp/back", listener.port()));
  const UniqueFd stream(::accept(listener.fd(), nullptr, nullptr));
  ASSERT_TRUE(stream);
  std::string much(8 << 20, '\0');
  std::size_t got = 0;
  for (ssize_t piece = 1; piece > 0 && got < much.size(); got += static_cast<std::size_t>(std::max<ssize_t>(piece, 0))) {
    piece = ::recv(stream.get(), much.data() + got, much.size() - got, 0);
  }
  ASSERT_EQ(got, much.size());
  write_all(stream, much);
  ::shutdown(stream.get(), SHUT_WR);
  EXPECT_THAT(read_all(echo, 240s), testing::HasSubstr("guest-status 0"));
  const auto adapter = guest.machine().inspect()["bus"]["devices"]["net0"];
  EXPECT_EQ(adapter["protocol"], "6.1");
  EXPECT_EQ(adapter["bad_messages"], 0);
}

TEST(NetworkOnLinux, hv_netvsc_comes_back_ten_times) {
  LinuxGuest guest({.modules = {"hv_netvsc"}, .network = network::NatOptions{}});
  ASSERT_TRUE(guest.is_up());
  guest.run("dmesg -c > /dev/null");  // what a kernel says while it starts is tests/machine's business
  guest.run(std::string(kAddress) + "get_address; for i in 1 2 3 4 5 6 7 8 9 10; do /bin/modprobe -r hv_netvsc && /bin/modprobe hv_netvsc || exit 2;"
            "get_address; ping -q -c 1 10.0.2.2 > /dev/null || { echo no answer in round $i; exit 3; }; done");
  EXPECT_THAT(guest.run("dmesg"), testing::Not(testing::AnyOf(testing::HasSubstr("BUG:"), testing::HasSubstr("WARNING:"))));
}

}  // namespace
}  // namespace bygone::tests
