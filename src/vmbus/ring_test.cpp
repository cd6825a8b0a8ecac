#include "vmbus/ring.h"

#include <gtest/gtest.h>

#include <array>
#include <numeric>
#include <vector>

namespace bygone::vmbus {
namespace {

using Field = RingPages::Field;

class RingTest : public ::testing::Test {
 protected:
  RingTest() {
    EXPECT_TRUE(memory_.add_ram(memory::Gpa{0}, 1 << 20));
    pages_.emplace(*RingPages::create(memory_, std::array<std::uint64_t, 3>{7, 3, 12}));
    sender_.emplace(*OutgoingRing::create(*pages_));
    receiver_.emplace(*IncomingRing::create(*pages_));
  }
  static std::vector<std::byte> bytes(std::size_t count, std::uint8_t seed) {
    std::vector<std::byte> result(count);
    for (std::size_t i = 0; i < count; ++i) result[i] = static_cast<std::byte>(seed + i);
    return result;
  }
  bool send(std::span<const std::byte> payload, std::uint64_t id = 0) {
    auto sent = sender_->send({PacketType::kInBand, id, false, {}, {&payload, 1}});
    EXPECT_TRUE(sent) << sent.error().text();
    return sent && *sent;
  }

  memory::GuestMemory memory_;
  std::optional<RingPages> pages_;
  std::optional<OutgoingRing> sender_;
  std::optional<IncomingRing> receiver_;
  Packet packet_;
};

TEST_F(RingTest, packets_come_out_as_they_went_in_over_many_wraps) {
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const auto payload = bytes(8 * (i % 120), static_cast<std::uint8_t>(i));
    ASSERT_TRUE(send(payload, i));
    ASSERT_TRUE(receiver_->receive(packet_).value());
    EXPECT_EQ(packet_.transaction_id(), i);
    ASSERT_TRUE(std::ranges::equal(packet_.payload(), payload));
    receiver_->publish();
  }
  EXPECT_FALSE(receiver_->receive(packet_).value());
}

TEST_F(RingTest, odd_payload_is_padded_with_zeroes) {
  ASSERT_TRUE(send(bytes(13, 1)));
  ASSERT_TRUE(receiver_->receive(packet_).value());
  ASSERT_EQ(packet_.payload().size(), 16U);
  EXPECT_EQ(packet_.payload()[12], std::byte{13});
  EXPECT_EQ(packet_.payload()[13], std::byte{0});
}

TEST_F(RingTest, only_the_step_from_empty_signals) {
  ASSERT_TRUE(send(bytes(8, 0)));
  EXPECT_TRUE(sender_->take_signal());
  ASSERT_TRUE(send(bytes(8, 0)));
  EXPECT_FALSE(sender_->take_signal());
}

TEST_F(RingTest, masked_receiver_is_not_signalled) {
  ASSERT_TRUE(send(bytes(8, 0)));
  ASSERT_TRUE(receiver_->receive(packet_).value());
  receiver_->publish();
  (void)sender_->take_signal();
  ASSERT_TRUE(send(bytes(8, 0)));  // empty, but the receiver is still draining
  EXPECT_FALSE(sender_->take_signal());
  ASSERT_TRUE(receiver_->receive(packet_).value());
  EXPECT_FALSE(receiver_->receive(packet_).value());
  EXPECT_EQ(pages_->load(Field::kInterruptMask), 0U);
  ASSERT_TRUE(send(bytes(8, 0)));
  EXPECT_TRUE(sender_->take_signal());
}

TEST_F(RingTest, full_ring_asks_for_room_and_is_told_once) {
  while (send(bytes(1000, 0))) {
  }
  EXPECT_EQ(pages_->load(Field::kPendingSendSize), 16U + 1000 + 8);
  int told = 0;
  for (;;) {
    auto got = receiver_->receive(packet_);
    ASSERT_TRUE(got);
    if (!*got) break;
    receiver_->publish();
    told += receiver_->take_signal() ? 1 : 0;
  }
  EXPECT_EQ(told, 1);
  ASSERT_TRUE(send(bytes(1000, 0)));
  EXPECT_EQ(pages_->load(Field::kPendingSendSize), 0U);
}

TEST_F(RingTest, largest_payload_fits_and_one_byte_more_is_refused) {
  const auto most = bytes(sender_->maximum_payload(), 5);
  ASSERT_TRUE(send(most));
  ASSERT_TRUE(receiver_->receive(packet_).value());
  ASSERT_TRUE(std::ranges::equal(packet_.payload(), most));
  const auto more = bytes(most.size() + 1, 5);
  const std::span<const std::byte> piece(more);
  EXPECT_EQ(sender_->send({PacketType::kInBand, 0, false, {}, {&piece, 1}}).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(RingTest, wild_indexes_are_corrupt) {
  for (const std::uint32_t index : {8192U, 0xFFFFFFF8U, 4U}) {
    pages_->store(Field::kWriteIndex, index);
    EXPECT_EQ(receiver_->receive(packet_).error().code, ErrorCode::kCorrupt) << index;
    pages_->store(Field::kReadIndex, index);
    EXPECT_EQ(sender_->send({}).error().code, ErrorCode::kCorrupt) << index;
  }
}

TEST_F(RingTest, packet_longer_than_what_was_published_is_corrupt) {
  spec::vmbus::PacketDescriptor descriptor = {};
  descriptor.type = 6;
  descriptor.data_offset8 = 2;
  descriptor.length8 = 4;  // with its trailer 40 bytes
  pages_->write(0, bytes_of(descriptor));
  pages_->store(Field::kWriteIndex, 32);
  EXPECT_EQ(receiver_->receive(packet_).error().code, ErrorCode::kCorrupt);
}

TEST_F(RingTest, data_offset_outside_the_packet_is_corrupt) {
  for (const std::uint16_t offset : {std::uint16_t{0}, std::uint16_t{1}, std::uint16_t{4}}) {
    spec::vmbus::PacketDescriptor descriptor = {};
    descriptor.type = 6;
    descriptor.data_offset8 = offset;
    descriptor.length8 = 3;
    pages_->write(0, bytes_of(descriptor));
    pages_->store(Field::kWriteIndex, 32);
    EXPECT_EQ(receiver_->receive(packet_).error().code, ErrorCode::kCorrupt) << offset;
  }
}

TEST_F(RingTest, gpa_direct_packet_carries_its_ranges) {
  struct {
    spec::vmbus::GpaDirectHeader direct;
    spec::vmbus::GpaRangeHeader range;
    le64 pages[2];
  } header = {{0, 1}, {5000, 100}, {20, 21}};
  const auto body = bytes(24, 9);
  const std::span<const std::byte> piece(body);
  ASSERT_TRUE(sender_->send({PacketType::kGpaDirect, 77, true, bytes_of(header), {&piece, 1}}).value());
  ASSERT_TRUE(receiver_->receive(packet_).value());
  EXPECT_TRUE(packet_.wants_completion());
  EXPECT_EQ(packet_.buffers().total_bytes(), 5000U);
  EXPECT_TRUE(std::ranges::equal(packet_.payload(), body));
  std::vector<iovec> vectors;
  ASSERT_TRUE(packet_.buffers().host_ranges(memory_, 0, 5000, vectors));
  ASSERT_EQ(vectors.size(), 1U);  // pages 20 and 21 follow each other
  EXPECT_EQ(vectors[0].iov_base, memory_.host_span(memory::Gpa{20 * 4096 + 100}, 1).data());
}

TEST_F(RingTest, gpa_direct_packet_with_too_few_pages_is_corrupt) {
  struct {
    spec::vmbus::GpaDirectHeader direct;
    spec::vmbus::GpaRangeHeader range;
    le64 pages[1];
  } header = {{0, 1}, {5000, 100}, {20}};
  ASSERT_TRUE(sender_->send({PacketType::kGpaDirect, 77, true, bytes_of(header), {}}).value());
  EXPECT_EQ(receiver_->receive(packet_).error().code, ErrorCode::kCorrupt);
}

TEST_F(RingTest, ring_outside_ram_is_refused) {
  EXPECT_EQ(RingPages::create(memory_, std::array<std::uint64_t, 2>{7, 100000}).error().code, ErrorCode::kOutOfRange);
}

}  // namespace
}  // namespace bygone::vmbus
