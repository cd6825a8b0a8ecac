// The back ends with a sink that keeps what comes: NAT with real sockets, frame descriptors with a socket pair, packet capture.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "network/capture.h"
#include "network/nat.h"
#include "network/tap.h"
#include "network/testing_frames.h"
#include "network/unplugged.h"
#include "support/file.h"

namespace bygone::network {
namespace {

namespace net = spec::internet;
using Frame = std::vector<std::byte>;

class KeepingSink final : public FrameSink {
 public:
  bool deliver(std::span<const std::byte> frame, const FrameNotes& notes) override {
    frames.emplace_back(frame.begin(), frame.end());
    last_notes = notes;
    return true;
  }
  bool has_room() const override { return room; }
  void finish_delivery() override { ++deliveries; }
  void set_link(bool is_up) override { link.push_back(is_up); }

  std::vector<Frame> frames;
  FrameNotes last_notes;
  std::vector<bool> link;
  int deliveries = 0;
  bool room = true;
};

class BackendTest : public ::testing::Test {
 protected:
  /// Runs the loop until `done`, for a few seconds at most.
  template <typename Done>
  bool run_until(Done done) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!done()) {
      if (std::chrono::steady_clock::now() > limit) return false;
      loop_->run_once(std::chrono::milliseconds(20));
    }
    return true;
  }
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create();
  KeepingSink sink_;
};

constexpr MacAddress kGuest = {2, 0, 0, 0, 0, 1};
constexpr std::uint32_t kGuestIp = 0x0A00'020F, kRouterIp = 0x0A00'0202;

template <typename T>
void put(Frame& frame, const T& value) {
  const auto bytes = bytes_of(value);
  frame.insert(frame.end(), bytes.begin(), bytes.end());
}

template <typename T>
void put_at(Frame& frame, std::size_t offset, const T& value) {
  std::ranges::copy(bytes_of(value), frame.begin() + static_cast<std::ptrdiff_t>(offset));
}

Frame udp_frame(std::uint32_t source, std::uint32_t destination, std::uint16_t source_port, std::uint16_t destination_port,
                std::span<const std::byte> payload, MacAddress to = {0x52, 0x55, 10, 0, 2, 2}) {
  Frame frame;
  put(frame, net::EthernetHeader{to, kGuest, net::kTypeIpv4});
  net::Ipv4Header ip{};
  ip.version_and_length = 0x45;
  ip.total_bytes = static_cast<std::uint16_t>(28 + payload.size());
  ip.hops = 64;
  ip.protocol = net::kProtocolUdp;
  ip.source = source;
  ip.destination = destination;
  put(frame, ip);
  put(frame, net::UdpHeader{source_port, destination_port, static_cast<std::uint16_t>(8 + payload.size()), std::uint16_t{0}});
  frame.insert(frame.end(), payload.begin(), payload.end());
  const FrameLayout layout = find_headers(frame);
  fill_ip_checksum(frame, layout);
  fill_transport_checksum(frame, layout);
  return frame;
}

/// The guest says which address belongs to its card (RFC 826), so that the router need not ask.
Frame arp_announcement() {
  Frame frame;
  put(frame, net::EthernetHeader{{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, kGuest, net::kTypeArp});
  put(frame, std::array<be16, 4>{be16(1), be16(net::kTypeIpv4), be16(0x0604), be16(1)});
  put(frame, kGuest);
  put(frame, be32(kGuestIp));
  put(frame, MacAddress{});
  put(frame, be32(kRouterIp));
  return frame;
}

std::span<const std::byte> udp_payload(const Frame& frame) {
  const FrameLayout layout = find_headers(frame);
  return std::span(frame).subspan(layout.payload_offset, layout.end - layout.payload_offset);
}

/// A UDP socket of the host's on 127.0.0.1, on a port that is free.
struct HostSocket {
  explicit HostSocket(int type = SOCK_DGRAM) : fd(::socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    socklen_t length = sizeof address;
    EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    port = ntohs(address.sin_port);
  }
  UniqueFd fd;
  std::uint16_t port = 0;
};

TEST_F(BackendTest, nat_gives_the_guest_an_address) {
  auto nat = create_nat(*loop_, {.forwards = {}, .guest_name = "tester"}, {});
  ASSERT_TRUE(nat) << nat.error().text();
  ASSERT_TRUE((*nat)->start(sink_));
  EXPECT_THAT(sink_.link, ::testing::ElementsAre(true));
  // DHCPDISCOVER (RFC 2131).
  Frame message(240);
  message[0] = message[1] = std::byte{1};
  message[2] = std::byte{6};
  std::ranges::copy(bytes_of(be32(0x1234'5678)), message.begin() + 4);
  std::ranges::copy(bytes_of(kGuest), message.begin() + 28);
  std::ranges::copy(bytes_of(be32(0x6382'5363)), message.begin() + 236);
  for (const int byte : {53, 1, 1, 255}) message.push_back(static_cast<std::byte>(byte));
  message.resize(300);
  (*nat)->send(udp_frame(0, 0xFFFF'FFFF, 68, 67, message, {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}));
  (*nat)->finish_burst();
  ASSERT_EQ(sink_.frames.size(), 1U);
  const auto offer = udp_payload(sink_.frames[0]);
  ASSERT_GT(offer.size(), 240U);
  be32 address;
  std::memcpy(&address, offer.data() + 16, sizeof address);
  EXPECT_EQ(address, kGuestIp);
  EXPECT_TRUE(sink_.last_notes.checksums_are_valid);
  EXPECT_TRUE(transport_checksum_is_right(sink_.frames[0], find_headers(sink_.frames[0])));
}

TEST_F(BackendTest, nat_carries_datagrams_to_the_host_and_back) {
  auto nat = create_nat(*loop_, {}, {});
  ASSERT_TRUE(nat);
  ASSERT_TRUE((*nat)->start(sink_));
  HostSocket host;
  const std::string text = "from the guest";
  (*nat)->send(arp_announcement());
  (*nat)->send(udp_frame(kGuestIp, kRouterIp, 5000, host.port, std::as_bytes(std::span(text))));
  (*nat)->finish_burst();
  sockaddr_in from{};
  std::array<char, 100> buffer{};
  ssize_t got = -1;
  ASSERT_TRUE(run_until([&] {
    socklen_t length = sizeof from;
    got = ::recvfrom(host.fd.get(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &length);
    return got >= 0;
  }));
  EXPECT_EQ(std::string_view(buffer.data(), static_cast<std::size_t>(got)), text);
  sink_.frames.clear();
  ASSERT_EQ(::sendto(host.fd.get(), "back", 4, 0, reinterpret_cast<sockaddr*>(&from), sizeof from), 4);
  ASSERT_TRUE(run_until([&] { return !sink_.frames.empty(); }));
  const auto answer = udp_payload(sink_.frames.back());
  ASSERT_EQ(answer.size(), 4U);
  EXPECT_EQ(std::memcmp(answer.data(), "back", 4), 0);
  EXPECT_GT(sink_.deliveries, 0);
  // The loop tells once of several, and libslirp takes one at a time.
  sink_.frames.clear();
  constexpr std::size_t kMany = 7;
  for (std::size_t i = 0; i < kMany; ++i) {
    ASSERT_EQ(::sendto(host.fd.get(), "more", 4, 0, reinterpret_cast<sockaddr*>(&from), sizeof from), 4);
  }
  for (int turn = 0; turn < 50; ++turn) loop_->run_once(std::chrono::milliseconds(0));  // no time for libslirp's own alarm
  EXPECT_EQ(sink_.frames.size(), kMany);
}

TEST_F(BackendTest, nat_forwards_a_port_of_the_host) {
  std::uint16_t port = 0;
  std::unique_ptr<Backend> nat;
  for (int attempt = 0; attempt < 20 && nat == nullptr; ++attempt) {
    port = HostSocket(SOCK_STREAM).port;  // free a moment ago
    if (auto created = create_nat(*loop_, {.forwards = {{false, "127.0.0.1", port, 22}}, .guest_name = {}}, {})) nat = std::move(*created);
  }
  ASSERT_TRUE(nat);
  ASSERT_TRUE(nat->start(sink_));
  nat->send(arp_announcement());
  nat->finish_burst();
  const UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    ASSERT_EQ(errno, EINPROGRESS);
  }
  const auto is_syn = [](const Frame& frame) {
    const FrameLayout layout = find_headers(frame);
    if (layout.transport != FrameLayout::Transport::kTcp) return false;
    net::TcpHeader tcp;
    std::memcpy(&tcp, frame.data() + layout.transport_offset, sizeof tcp);
    return tcp.destination_port == 22 && (tcp.flags & net::kTcpSyn) != 0;
  };
  EXPECT_TRUE(run_until([&] { return std::ranges::any_of(sink_.frames, is_syn); }));
}

TEST_F(BackendTest, nat_forwards_datagrams_too) {
  std::uint16_t port = 0;
  std::unique_ptr<Backend> nat;
  for (int attempt = 0; attempt < 20 && nat == nullptr; ++attempt) {
    port = HostSocket().port;  // free a moment ago
    if (auto created = create_nat(*loop_, {.forwards = {{true, "127.0.0.1", port, 123}}, .guest_name = {}}, {})) nat = std::move(*created);
  }
  ASSERT_TRUE(nat);
  ASSERT_TRUE(nat->start(sink_));
  nat->send(arp_announcement());
  nat->finish_burst();
  const HostSocket client;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  ASSERT_EQ(::sendto(client.fd.get(), "time?", 5, 0, reinterpret_cast<sockaddr*>(&address), sizeof address), 5);
  const auto is_question = [](const Frame& frame) {
    const FrameLayout layout = find_headers(frame);
    if (layout.transport != FrameLayout::Transport::kUdp) return false;
    net::UdpHeader udp;
    std::memcpy(&udp, frame.data() + layout.transport_offset, sizeof udp);
    const auto payload = udp_payload(frame);
    return udp.destination_port == 123 && payload.size() == 5 && std::memcmp(payload.data(), "time?", 5) == 0;
  };
  EXPECT_TRUE(run_until([&] { return std::ranges::any_of(sink_.frames, is_question); }));
}

TEST_F(BackendTest, nat_advertises_ipv6) {
  auto nat = create_nat(*loop_, {}, {});
  ASSERT_TRUE(nat);
  ASSERT_TRUE((*nat)->start(sink_));
  // A router solicitation (RFC 4861, 4.1) from fe80::1 to all routers.
  constexpr std::size_t kIp = 14, kMessage = kIp + 40;
  Frame frame(kMessage + 8);
  put_at(frame, 0, net::EthernetHeader{{0x33, 0x33, 0, 0, 0, 2}, kGuest, net::kTypeIpv6});
  frame[kIp] = std::byte{0x60};
  frame[kIp + 5] = std::byte{8};     // length
  frame[kIp + 6] = std::byte{58};    // ICMPv6
  frame[kIp + 7] = std::byte{255};   // hops
  frame[kIp + 8] = std::byte{0xFE}, frame[kIp + 9] = std::byte{0x80}, frame[kIp + 23] = std::byte{1};
  frame[kIp + 24] = std::byte{0xFF}, frame[kIp + 25] = std::byte{2}, frame[kIp + 39] = std::byte{2};
  frame[kMessage] = std::byte{133};
  std::uint32_t sum = 58 + 8;
  for (std::size_t i = kIp + 8; i < frame.size(); i += 2) sum += std::to_integer<std::uint32_t>(frame[i]) << 8 | std::to_integer<std::uint32_t>(frame[i + 1]);
  while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
  put_at(frame, kMessage + 2, be16(static_cast<std::uint16_t>(~sum)));
  (*nat)->send(frame);
  (*nat)->finish_burst();
  const auto is_advertisement = [&](const Frame& got) {
    return got.size() > kMessage + 16 && got[12] == std::byte{0x86} && got[kIp + 6] == std::byte{58} && got[kMessage] == std::byte{134};
  };
  ASSERT_TRUE(run_until([&] { return std::ranges::any_of(sink_.frames, is_advertisement); }));
  const Frame& got = *std::ranges::find_if(sink_.frames, is_advertisement);
  bool has_prefix = false;
  for (std::size_t at = kMessage + 16; at + 8 <= got.size();) {  // options: type, length in units of 8
    const auto length = std::to_integer<std::size_t>(got[at + 1]) * 8;
    if (length == 0 || at + length > got.size()) break;
    if (got[at] == std::byte{3} && length == 32) has_prefix = got[at + 2] == std::byte{64} && got[at + 16] == std::byte{0xFE} && got[at + 17] == std::byte{0xC0};
    at += length;
  }
  EXPECT_TRUE(has_prefix) << "fec0::/64";
}

TEST_F(BackendTest, a_forward_that_cannot_be_is_an_error) {
  HostSocket taken(SOCK_STREAM);
  ASSERT_EQ(::listen(taken.fd.get(), 1), 0);
  const auto busy = create_nat(*loop_, {.forwards = {{false, "127.0.0.1", taken.port, 22}}, .guest_name = {}}, {});
  ASSERT_FALSE(busy);
  EXPECT_THAT(busy.error().text(), ::testing::HasSubstr(std::to_string(taken.port)));
  const auto wrong = create_nat(*loop_, {.forwards = {{false, "nowhere", 1, 22}}, .guest_name = {}}, {});
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::kInvalidArgument);
}

TEST_F(BackendTest, nat_survives_frames_of_any_bytes) {
  auto nat = create_nat(*loop_, {}, {});
  ASSERT_TRUE(nat);
  ASSERT_TRUE((*nat)->start(sink_));
  std::uint32_t random = 1;
  for (int i = 0; i < 3000; ++i) {
    Frame frame = i % 3 == 0 ? arp_announcement() : make_frame({.is_v6 = i % 2 == 0, .is_udp = i % 5 == 0, .payload_bytes = static_cast<std::size_t>(i % 90)});
    for (int change = 0; change < 3; ++change) {
      random = random * 1664525 + 1013904223;
      frame[12 + (random >> 8) % (frame.size() - 12)] = static_cast<std::byte>(random >> 24);
    }
    if (i % 7 == 0) frame.resize(14 + random % (frame.size() - 13));
    (*nat)->send(frame);
  }
  (*nat)->finish_burst();
  loop_->run_once(std::chrono::milliseconds(0));
}

TEST_F(BackendTest, a_frame_descriptor_carries_frames_both_ways_and_waits_for_room) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd wire(pair[1]);
  const auto backend = create_frame_descriptor(*loop_, UniqueFd(pair[0]), "pair", {});
  ASSERT_TRUE(backend->start(sink_));
  const Frame frame = make_frame({});
  backend->send(frame);
  Frame got(2000);
  ASSERT_EQ(::read(wire.get(), got.data(), got.size()), static_cast<ssize_t>(frame.size()));
  sink_.room = false;
  ASSERT_EQ(::write(wire.get(), frame.data(), frame.size()), static_cast<ssize_t>(frame.size()));
  loop_->run_once(std::chrono::milliseconds(0));
  EXPECT_TRUE(sink_.frames.empty());
  sink_.room = true;
  backend->has_room_again();
  ASSERT_TRUE(run_until([&] { return !sink_.frames.empty(); }));
  EXPECT_THAT(sink_.frames, ::testing::ElementsAre(frame));
  EXPECT_FALSE(sink_.last_notes.checksums_are_valid);
}

TEST_F(BackendTest, a_descriptor_that_fails_takes_the_link_down_once) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
  const auto backend = create_frame_descriptor(*loop_, UniqueFd(pair[0]), "pair", {});
  ASSERT_TRUE(backend->start(sink_));
  ::close(pair[1]);
  ASSERT_TRUE(run_until([&] { return sink_.link.size() == 2; }));
  EXPECT_THAT(sink_.link, ::testing::ElementsAre(true, false));
  backend->send(make_frame({}));  // goes nowhere, harms nothing
  backend->has_room_again();
  loop_->run_once(std::chrono::milliseconds(0));
  EXPECT_EQ(sink_.link.size(), 2U);
  EXPECT_NE(backend->inspect()["state"], "up");
}

TEST_F(BackendTest, a_tap_that_is_not_there_says_what_to_do) {
  const auto tap = create_tap(*loop_, {.interface_name = "a-name-that-is-too-long-for-linux", .descriptor = -1}, {});
  ASSERT_FALSE(tap);
  EXPECT_EQ(tap.error().code, ErrorCode::kInvalidArgument);
  const auto closed = create_tap(*loop_, {.interface_name = {}, .descriptor = 9999}, {});
  EXPECT_FALSE(closed);
}

TEST_F(BackendTest, unplugged_has_no_link) {
  Unplugged unplugged;
  ASSERT_TRUE(unplugged.start(sink_));
  EXPECT_THAT(sink_.link, ::testing::ElementsAre(false));
  unplugged.send(make_frame({}));
  EXPECT_TRUE(sink_.frames.empty());
}

TEST_F(BackendTest, a_capture_holds_both_directions) {
  const auto path = std::filesystem::temp_directory_path() / ("bygone-capture-" + std::to_string(::getpid()) + ".pcapng");
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd wire(pair[1]);
  const Frame out = make_frame({.payload_bytes = 33}), in = make_frame({.payload_bytes = 61});
  {
    auto captured = capture(create_frame_descriptor(*loop_, UniqueFd(pair[0]), "pair", {}), path, {});
    ASSERT_TRUE(captured);
    ASSERT_TRUE((*captured)->start(sink_));
    (*captured)->send(out);
    (*captured)->finish_burst();
    ASSERT_EQ(::write(wire.get(), in.data(), in.size()), static_cast<ssize_t>(in.size()));
    ASSERT_TRUE(run_until([&] { return !sink_.frames.empty(); }));
    EXPECT_EQ((*captured)->inspect()["captured"], 2);
  }
  auto bytes = read_file(path.string(), 1 << 20);
  std::filesystem::remove(path);
  ASSERT_TRUE(bytes);
  // Block by block, as any reader does: type, length, content, length.
  std::vector<std::pair<Frame, std::uint32_t>> packets;
  std::span<const std::byte> rest = std::as_bytes(std::span(*bytes));
  std::vector<std::uint32_t> types;
  while (rest.size() >= 12) {
    le32 type, length, again;
    std::memcpy(&type, rest.data(), 4);
    std::memcpy(&length, rest.data() + 4, 4);
    ASSERT_LE(length, rest.size());
    ASSERT_EQ(length % 4, 0U);
    std::memcpy(&again, rest.data() + length - 4, 4);
    ASSERT_EQ(again, length);
    types.push_back(type);
    if (type == 6U) {
      le32 kept, flags;
      std::memcpy(&kept, rest.data() + 20, 4);
      std::memcpy(&flags, rest.data() + length - 12, 4);
      packets.emplace_back(Frame(rest.begin() + 28, rest.begin() + 28 + static_cast<std::ptrdiff_t>(kept.value())), flags);
    }
    rest = rest.subspan(length);
  }
  EXPECT_TRUE(rest.empty());
  EXPECT_THAT(types, ::testing::ElementsAre(0x0A0D0D0AU, 1U, 6U, 6U));
  ASSERT_EQ(packets.size(), 2U);
  EXPECT_EQ(packets[0], std::pair(out, 2U));
  EXPECT_EQ(packets[1], std::pair(in, 1U));
}

TEST_F(BackendTest, a_capture_on_a_full_disk_ends_and_the_network_goes_on) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd wire(pair[1]);
  std::vector<std::string> lines;
  const Log log([&](LogLevel, std::string_view, std::string_view text) { lines.emplace_back(text); });
  const auto backend = capture(create_frame_descriptor(*loop_, UniqueFd(pair[0]), "pair", {}), "/dev/full", log);
  ASSERT_TRUE(backend) << backend.error().text();
  ASSERT_TRUE((*backend)->start(sink_));
  const Frame frame = make_frame({});
  for (int i = 0; i < 3; ++i) {
    (*backend)->send(frame);
    (*backend)->finish_burst();
    Frame got(2000);
    EXPECT_EQ(::read(wire.get(), got.data(), got.size()), static_cast<ssize_t>(frame.size()));
  }
  ASSERT_EQ(::write(wire.get(), frame.data(), frame.size()), static_cast<ssize_t>(frame.size()));
  EXPECT_TRUE(run_until([&] { return !sink_.frames.empty(); }));
  EXPECT_THAT(sink_.link, ::testing::ElementsAre(true));
  EXPECT_EQ(lines.size(), 1U) << "one warning";
}

TEST_F(BackendTest, a_capture_that_cannot_begin_is_an_error) {
  EXPECT_FALSE(capture(std::make_unique<Unplugged>(), "/nowhere/at/all.pcapng", {}));
}

}  // namespace
}  // namespace bygone::network
