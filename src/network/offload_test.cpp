#include "network/offload.h"

#include <gtest/gtest.h>

#include "network/testing_frames.h"

namespace bygone::network {
namespace {

namespace net = spec::internet;
using Ip = FrameLayout::Ip;
using Transport = FrameLayout::Transport;

std::vector<std::byte> bytes(std::initializer_list<int> values) {
  std::vector<std::byte> result;
  for (const int value : values) result.push_back(static_cast<std::byte>(value));
  return result;
}

template <typename T>
T header_at(std::span<const std::byte> frame, std::size_t offset) {
  T value;
  std::memcpy(&value, frame.data() + offset, sizeof value);
  return value;
}

TEST(OffloadTest, ones_sum_agrees_with_the_rfc_example) {
  // RFC 1071 3: 0001 f203 f4f5 f6f7 sum to ddf2.
  const auto example = bytes({0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7});
  EXPECT_EQ(ones_sum(example), 0xddf2);
}

TEST(OffloadTest, ones_sum_is_the_same_for_every_length_and_alignment_as_word_by_word) {
  std::vector<std::byte> data(300);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 37 + 11);
  for (std::size_t start = 0; start < 9; ++start) {
    for (std::size_t length = 0; length + start <= data.size(); ++length) {
      std::uint32_t expected = 0x1234;
      for (std::size_t i = 0; i < length; ++i) expected += static_cast<std::uint32_t>(data[start + i]) << (i % 2 == 0 ? 8 : 0);
      while (expected >> 16 != 0) expected = (expected & 0xFFFF) + (expected >> 16);
      ASSERT_EQ(ones_sum(std::span(data).subspan(start, length), 0x1234), expected) << start << "+" << length;
    }
  }
}

TEST(OffloadTest, a_known_ipv4_header_gets_its_checksum) {
  // A header whose checksum is known to be b861.
  auto frame = bytes({2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0,  //
                      0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7});
  frame.resize(14 + 0x73);
  fill_ip_checksum(frame, find_headers(frame));
  EXPECT_EQ(static_cast<int>(frame[24]), 0xb8);
  EXPECT_EQ(static_cast<int>(frame[25]), 0x61);
}

TEST(OffloadTest, filled_checksums_are_right_and_one_changed_bit_is_seen) {
  for (const bool v6 : {false, true}) {
    for (const bool udp : {false, true}) {
      auto frame = make_frame({.is_v6 = v6, .is_udp = udp, .payload_bytes = 333});
      const FrameLayout layout = find_headers(frame);
      EXPECT_EQ(layout.ip, v6 ? Ip::kV6 : Ip::kV4);
      EXPECT_EQ(layout.transport, udp ? Transport::kUdp : Transport::kTcp);
      EXPECT_EQ(layout.end, frame.size());
      EXPECT_TRUE(transport_checksum_is_right(frame, layout));
      frame.back() ^= std::byte{1};
      EXPECT_FALSE(transport_checksum_is_right(frame, layout));
    }
  }
}

TEST(OffloadTest, headers_that_are_cut_off_or_lie_are_not_found) {
  const auto frame = make_frame({});
  for (std::size_t length = 0; length < frame.size(); ++length) {
    const FrameLayout layout = find_headers(std::span(frame).first(length));
    EXPECT_EQ(layout.transport, Transport::kNone) << length;
    EXPECT_LE(layout.end, length);
  }
  auto lying = frame;
  lying[14] = std::byte{0x4F};  // a header of 60 bytes puts TCP's into the payload
  EXPECT_LE(find_headers(lying).payload_offset, lying.size());
  lying = frame;
  lying[14 + 20 + 12] = std::byte{0xF0};  // a TCP header of 60 bytes
  EXPECT_LE(find_headers(lying).payload_offset, lying.size());
  lying = make_frame({.payload_bytes = 4});
  lying[14 + 20 + 12] = std::byte{0xF0};
  EXPECT_EQ(find_headers(lying).transport, Transport::kNone);
}

TEST(OffloadTest, ipv6_extension_headers_are_walked_and_endless_ones_are_not) {
  auto frame = make_frame({.is_v6 = true, .payload_bytes = 64});
  // A hop-by-hop header of 8 bytes before TCP.
  frame.insert(frame.begin() + 54, 8, std::byte{0});
  frame[14 + 6] = std::byte{0};
  frame[54] = std::byte{net::kProtocolTcp};
  ASSERT_TRUE(set_ip_length(frame));
  EXPECT_EQ(find_headers(frame).transport_offset, 62U);
  std::vector<std::byte> endless(14 + 40 + 400);
  const auto start = make_frame({.is_v6 = true, .payload_bytes = 0});
  std::copy_n(start.begin(), 54, endless.begin());
  endless[14 + 6] = std::byte{0};  // each header says that another follows
  ASSERT_TRUE(set_ip_length(endless));
  EXPECT_EQ(find_headers(endless).transport, Transport::kNone);
}

TEST(OffloadTest, segments_carry_the_same_bytes_and_right_headers) {
  for (const bool v6 : {false, true}) {
    const auto frame = make_frame({.is_v6 = v6, .payload_bytes = 5000, .tcp_flags = 0x10 | net::kTcpPush | net::kTcpFin});
    const FrameLayout whole = find_headers(frame);
    std::vector<std::byte> scratch, joined;
    std::vector<net::TcpHeader> headers;
    std::uint16_t id = 0x1234;
    ASSERT_TRUE(cut_segments(frame, 1448, scratch, [&](std::span<const std::byte> part) {
      const FrameLayout layout = find_headers(part);
      ASSERT_EQ(layout.transport, Transport::kTcp);
      ASSERT_EQ(layout.end, part.size());
      EXPECT_TRUE(transport_checksum_is_right(part, layout));
      if (!v6) {
        EXPECT_EQ(ones_sum(part.subspan(layout.ip_offset, 20)), 0xFFFF);
        EXPECT_EQ(header_at<net::Ipv4Header>(part, layout.ip_offset).id, id++);
      }
      headers.push_back(header_at<net::TcpHeader>(part, layout.transport_offset));
      joined.insert(joined.end(), part.begin() + static_cast<std::ptrdiff_t>(layout.payload_offset), part.end());
    }));
    ASSERT_EQ(headers.size(), 4U);
    for (std::uint32_t i = 0; i < 4; ++i) {
      EXPECT_EQ(headers[i].sequence, 0xFFFF'FF00U + i * 1448);
      EXPECT_EQ((headers[i].flags & (net::kTcpFin | net::kTcpPush)) != 0, i == 3);
    }
    EXPECT_TRUE(std::ranges::equal(joined, std::span(frame).subspan(whole.payload_offset)));
  }
}

TEST(OffloadTest, the_maximum_segment_size_of_a_syn_is_replaced_and_nothing_else_is) {
  const auto with_option = [](std::uint8_t flags, std::initializer_list<int> options) {
    auto frame = make_frame({.payload_bytes = options.size(), .tcp_flags = flags});
    std::ranges::copy(bytes(options), frame.begin() + 54);
    frame[14 + 20 + 12] = static_cast<std::byte>((20 + options.size()) / 4 << 4);
    fill_transport_checksum(frame, find_headers(frame));
    return frame;
  };
  auto syn = with_option(net::kTcpSyn, {1, 1, 1, 1, 2, 4, 5, 180});  // 1460 behind four fillers
  ASSERT_TRUE(replace_maximum_segment(syn, 1460, 0x7FFF));
  EXPECT_EQ(header_at<be16>(syn, 60), 0x7FFF);
  EXPECT_TRUE(transport_checksum_is_right(syn, find_headers(syn)));
  EXPECT_FALSE(replace_maximum_segment(syn, 1460, 0x7FFF));                                    // another size by now
  for (auto other : {with_option(0x10, {2, 4, 5, 180}), with_option(net::kTcpSyn, {2, 0, 5, 180}), with_option(net::kTcpSyn, {0, 2, 4, 5}),
                     with_option(net::kTcpSyn, {2, 200, 5, 180}), make_frame({.is_udp = true}), with_option(net::kTcpSyn, {})}) {
    const auto before = other;
    EXPECT_FALSE(replace_maximum_segment(other, 1460, 0x7FFF));
    EXPECT_EQ(other, before);
  }
}

TEST(OffloadTest, a_datagram_is_not_cut_into_segments) {
  std::vector<std::byte> scratch;
  const auto never = [](std::span<const std::byte>) { FAIL(); };
  EXPECT_FALSE(cut_segments(make_frame({.is_udp = true}), 100, scratch, never));
  EXPECT_FALSE(cut_segments(make_frame({}), 0, scratch, never));
}

TEST(OffloadTest, fragments_put_together_are_the_datagram) {
  const auto frame = make_frame({.is_udp = true, .payload_bytes = 4000});
  std::vector<std::byte> scratch, joined(frame.size() - 34);
  int count = 0;
  bool last_seen = false;
  ASSERT_TRUE(cut_fragments(frame, 1500, scratch, [&](std::span<const std::byte> part) {
    const auto ip = header_at<net::Ipv4Header>(part, 14);
    EXPECT_LE(part.size(), 1514U);
    EXPECT_EQ(ip.total_bytes, part.size() - 14);
    EXPECT_EQ(ones_sum(part.subspan(14, 20)), 0xFFFF);
    const std::size_t offset = std::size_t{ip.fragment} % 0x2000 * 8;
    ASSERT_LE(offset + part.size() - 34, joined.size());
    std::ranges::copy(part.subspan(34), joined.begin() + static_cast<std::ptrdiff_t>(offset));
    EXPECT_FALSE(last_seen);
    last_seen = (ip.fragment & net::kMoreFragments) == 0;
    ++count;
  }));
  EXPECT_EQ(count, 3);
  EXPECT_TRUE(last_seen);
  EXPECT_TRUE(std::ranges::equal(joined, std::span(frame).subspan(34)));
  EXPECT_FALSE(cut_fragments(make_frame({.is_v6 = true}), 1500, scratch, [](std::span<const std::byte>) { FAIL(); }));
}

TEST(OffloadTest, the_length_that_a_large_send_leaves_out_is_written) {
  for (const bool v6 : {false, true}) {
    auto frame = make_frame({.is_v6 = v6, .has_checksums = false, .payload_bytes = 60000});
    const auto whole = frame;
    const std::size_t at = 14U + (v6 ? 4 : 2);
    frame[at] = frame[at + 1] = std::byte{0};
    EXPECT_EQ(find_headers(frame).transport, Transport::kNone);
    ASSERT_TRUE(set_ip_length(frame));
    EXPECT_EQ(frame, whole);
  }
  auto too_large = make_frame({.has_checksums = false, .payload_bytes = 66000});
  EXPECT_FALSE(set_ip_length(too_large));
}

}  // namespace
}  // namespace bygone::network
