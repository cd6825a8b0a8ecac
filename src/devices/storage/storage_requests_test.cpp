// Requests on their way: many at once, in turns, over several channels, while disks come and go.
#include <set>

#include "devices/storage/testing_storage.h"

namespace bygone::devices::storage {
namespace {

TEST_F(StorageTest, many_requests_in_flight_share_signals) {
  auto held = std::make_shared<HeldBlockDevice>(8 << 20);
  controller_.attach_disk(0, held);
  connect();
  for (std::uint64_t id = 1; id <= 32; ++id) start(cdb10(Opcode::kRead10, static_cast<std::uint32_t>(id), 1), 512, id);
  guest_.run();
  EXPECT_EQ(held->held.size(), 32U);
  EXPECT_EQ(controller_.requests_in_flight(channel_->host()), 32U);
  EXPECT_FALSE(channel_->try_receive());  // drained: from here on the guest wants signals
  const auto before = channel_->interrupts();
  held->release();
  guest_.run();
  EXPECT_EQ(channel_->interrupts(), before + 1);
  std::vector<bool> seen(33);
  for (int i = 0; i < 32; ++i) {
    ASSERT_TRUE(next());
    ASSERT_FALSE(seen.at(last_id_));
    seen.at(last_id_) = true;
  }
}

TEST_F(StorageTest, completions_wait_for_room_and_none_is_lost) {
  auto held = std::make_shared<HeldBlockDevice>(8 << 20);
  controller_.attach_disk(0, held);
  connect(wire::kStorageVersion6_2, {.ring_pages = 2});  // 46 completions fill it
  int started = 0, answered = 0;
  for (; started < 100; ++started) {
    start(cdb10(Opcode::kRead10, 0, 1), 512, static_cast<std::uint64_t>(started) + 1);
    guest_.run();
  }
  held->release();
  guest_.run();
  while (next()) ++answered;
  EXPECT_EQ(answered, started);
}

TEST_F(StorageTest, a_full_ring_takes_several_turns_and_not_the_stack) {
  controller_.attach_disk(0, disk_);
  connect(wire::kStorageVersion6_2, {.ring_pages = 200});
  guest_.run();
  constexpr std::uint64_t kCommands = 4 * vmbus::kPacketsATurn;
  for (std::uint64_t id = 1; id <= kCommands; ++id) start({0x00}, 0, id);
  const std::uint64_t before = channel_->host().statistics().packets_received;
  guest_.loop().run_once(std::chrono::milliseconds(0));
  EXPECT_LE(channel_->host().statistics().packets_received - before, vmbus::kPacketsATurn) << "in one turn";
  std::uint64_t answered = 0;
  for (int i = 0; i < 10; ++i) {
    while (next()) ++answered;
  }
  EXPECT_EQ(answered, kCommands);
}

TEST_F(StorageTest, large_requests_take_a_turn_each_and_are_answered_in_between) {
  controller_.attach_disk(0, disk_);
  connect();
  constexpr std::uint32_t kBytes = 512 << 10;
  constexpr std::uint64_t kCommands = 8;
  for (std::uint64_t id = 1; id <= kCommands; ++id) start(cdb10(Opcode::kRead10, 0, kBytes / 512), kBytes, id);
  for (std::uint64_t turn = 1; turn <= kCommands; ++turn) {
    guest_.loop().run_once(std::chrono::milliseconds(0));
    const auto reply = channel_->try_receive();
    ASSERT_TRUE(reply) << turn;
    EXPECT_EQ(reply->transaction_id(), turn);
    EXPECT_FALSE(channel_->try_receive()) << "the others have not been looked at";
  }
}

TEST_F(StorageTest, requests_in_flight_hold_a_bounded_part_of_the_hosts_memory) {
  auto held = std::make_shared<HeldBlockDevice>(8 << 20);
  controller_.attach_disk(0, held);
  connect(wire::kStorageVersion6_2, {.ring_pages = 1200});
  // Each names 60000 pages for a single block.
  const std::vector<std::uint64_t> many(60000, pages_[0]);
  wire::StoragePacket packet = {};
  packet.operation = static_cast<std::uint32_t>(StorageOperation::kExecuteSrb);
  wire::StorageScsiRequest srb = {};
  srb.cdb_length = 16;
  srb.data_transfer_length = 512U;
  std::ranges::copy(cdb10(Opcode::kRead10, 0, 1), srb.cdb_or_sense.begin());
  std::memcpy(packet.body.data(), &srb, sizeof srb);
  for (std::uint64_t id = 1; id <= 10; ++id) ASSERT_TRUE(channel_->send_gpa_direct(bytes_of(packet), many, 0, 60000U * 4096, id)) << id;
  guest_.run();
  EXPECT_EQ(held->held.size(), 5U) << "8 MiB at 32 bytes a page";
  int answered = 0;
  for (int round = 0; round < 10; ++round) {
    held->release();
    while (next()) ++answered;
  }
  EXPECT_EQ(answered, 10);
}

TEST_F(StorageTest, patterns_hold_a_bounded_part_of_the_hosts_memory) {
  auto held = std::make_shared<HeldBlockDevice>(64 << 20);
  controller_.attach_disk(0, held);
  connect(wire::kStorageVersion6_2, {.ring_pages = 64});
  guest_.write(pages_, 0, pattern(512, 3));
  for (std::uint64_t id = 1; id <= 200; ++id) start({0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0}, 512, id);
  guest_.run();
  std::set<const void*> patterns;
  std::size_t bytes = 0;
  for (const auto& request : held->held) {
    bytes += request.buffers.size() * sizeof request.buffers[0];
    if (patterns.insert(request.buffers[0].iov_base).second) bytes += request.buffers[0].iov_len;
  }
  EXPECT_EQ(patterns.size(), held->held.size());
  EXPECT_GT(bytes, 7U << 20);
  EXPECT_LT(bytes, 9U << 20);
  int answered = 0;
  for (int round = 0; round < 10; ++round) {
    for (auto& request : std::exchange(held->held, {})) request.done({});
    while (next()) ++answered;
  }
  EXPECT_EQ(answered, 200);
}

TEST_F(StorageTest, closing_waits_for_requests_in_flight) {
  auto held = std::make_shared<HeldBlockDevice>(8 << 20);
  controller_.attach_disk(0, held);
  connect();
  start(cdb10(Opcode::kRead10, 0, 1), 512, 1);
  guest_.run();
  bool closed = false;
  controller_.close(channel_->host(), [&] { closed = true; });
  guest_.run();
  EXPECT_FALSE(closed);
  held->release();
  guest_.run();
  EXPECT_TRUE(closed);
}

TEST_F(StorageTest, subchannel_carries_commands) {
  controller_.attach_disk(0, disk_);
  connect();
  EXPECT_EQ(control(StorageOperation::kCreateSubChannels, le16(std::uint16_t{2})), 0U);
  EXPECT_EQ(channel_->offered_subchannels(), 2U);
  EXPECT_EQ(control(StorageOperation::kCreateSubChannels, le16(std::uint16_t{4})), wire::kStorageStatusInvalidState);
  auto second = guest_.open(controller_, {.ring_pages = 5, .subchannel_index = 1});
  start(cdb10(Opcode::kRead10, 0, 1), 512, 5, 0, 0, second.get());
  const auto reply = next(second.get());
  ASSERT_TRUE(reply);
  EXPECT_TRUE(reply->is_good());
}

TEST_F(StorageTest, subchannel_that_breaks_disturbs_no_other) {
  controller_.attach_disk(0, disk_);
  connect();
  ASSERT_EQ(control(StorageOperation::kCreateSubChannels, le16(std::uint16_t{2})), 0U);
  auto first = guest_.open(controller_, {.ring_pages = 5, .subchannel_index = 1});
  auto second = guest_.open(controller_, {.ring_pages = 5, .subchannel_index = 2});
  first->to_host_pages().store(vmbus::RingPages::Field::kWriteIndex, 12345);
  first->signal();
  guest_.run();
  EXPECT_TRUE(first->failure());
  for (GuestChannel* channel : {channel_.get(), second.get()}) {
    start(cdb10(Opcode::kRead10, 0, 1), 512, 5, 0, 0, channel);
    const auto reply = next(channel);
    ASSERT_TRUE(reply);
    EXPECT_TRUE(reply->is_good());
  }
  EXPECT_EQ(controller_.inspect()["channels"], 2);
  first = guest_.open(controller_, {.ring_pages = 5, .subchannel_index = 1});
  start(cdb10(Opcode::kRead10, 0, 1), 512, 6, 0, 0, first.get());
  EXPECT_TRUE(next(first.get()));
}

TEST_F(StorageTest, hot_added_disk_is_announced_and_hot_removed_one_is_gone) {
  connect();
  controller_.attach_disk(7, disk_);
  guest_.run();
  auto news = channel_->receive();
  ASSERT_TRUE(news);
  EXPECT_EQ(news->payload_as<le32>()->value(), static_cast<std::uint32_t>(StorageOperation::kEnumerateBus));
  EXPECT_EQ(news->transaction_id(), 0U);
  EXPECT_TRUE(execute({0x00}, 0, 7).is_good());
  bool detached = false;
  controller_.detach(7, [&] { detached = true; });
  guest_.run();
  ASSERT_TRUE(channel_->receive());
  EXPECT_TRUE(detached);
  EXPECT_EQ(execute({0x00}, 0, 7).srb.srb_status, wire::kSrbInvalidLun);
}

TEST_F(StorageTest, detach_waits_for_the_disks_requests) {
  auto held = std::make_shared<HeldBlockDevice>(8 << 20);
  controller_.attach_disk(0, held);
  connect();
  start(cdb10(Opcode::kRead10, 0, 1), 512, 1);
  guest_.run();
  bool detached = false;
  controller_.detach(0, [&] { detached = true; });
  guest_.run();
  EXPECT_FALSE(detached);
  held->release();
  guest_.run();
  EXPECT_TRUE(detached);
}

TEST_F(StorageTest, resize_is_told_with_the_next_command) {
  controller_.attach_disk(0, disk_);
  connect();
  controller_.announce_resize(0);
  guest_.run();
  ASSERT_TRUE(channel_->receive());  // look at the bus
  expect_sense(execute({0x00}), scsi::kSenseUnitAttention, scsi::kCapacityChanged);
  EXPECT_TRUE(execute({0x00}).is_good());
}

TEST_F(StorageTest, packet_too_short_takes_the_channel) {
  connect();
  channel_->send(std::array<std::byte, 8>{});
  guest_.run();
  EXPECT_TRUE(channel_->failure());
}

}  // namespace
}  // namespace bygone::devices::storage
