// DVD drives.
#include "devices/storage/testing_storage.h"

namespace bygone::devices::storage {
namespace {

TEST_F(StorageTest, dvd_reads_and_changes_media) {
  disk::BlockDeviceInfo info;
  info.size_bytes = 2 << 20;
  info.logical_sector_bytes = 2048;
  auto medium = std::make_shared<MemoryBlockDevice>(info);
  const auto bytes = pattern(2048, 4);
  ASSERT_TRUE(disk::write_blocks(*medium, 16 * 2048, bytes));
  bool ejected = false;
  controller_.attach_dvd(1, {}, [&] { ejected = true; });
  connect();
  expect_sense(execute({0x00}, 0, 1), scsi::kSenseNotReady, scsi::kMediumNotPresent);
  controller_.insert_medium(1, {medium});
  guest_.run();
  expect_sense(execute({0x00}, 0, 1), scsi::kSenseUnitAttention, scsi::kMediumMayHaveChanged);
  EXPECT_TRUE(execute({0x00}, 0, 1).is_good());
  EXPECT_TRUE(execute(cdb10(Opcode::kRead10, 16, 1), 2048, 1).is_good());
  EXPECT_EQ(data(2048), bytes);
  ASSERT_TRUE(execute({0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8}, 8, 1).is_good());
  EXPECT_EQ(data(6)[4], std::byte{2});  // new medium
  EXPECT_EQ(data(6)[5], std::byte{2});  // present
  // Locked: neither side opens the tray, except by force.
  EXPECT_TRUE(execute({0x1E, 0, 0, 0, 1}, 0, 1).is_good());
  expect_sense(execute({0x1B, 0, 0, 0, 2}, 0, 1), scsi::kSenseIllegalRequest, scsi::kMediumRemovalPrevented);
  std::optional<Result<void>> outcome;
  controller_.eject_medium(1, ScsiDvd::Force::kRespectLock, [&](Result<void> result) { outcome = result; });
  guest_.run();
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->error().code, ErrorCode::kBusy);
  EXPECT_TRUE(execute({0x1E, 0, 0, 0, 0}, 0, 1).is_good());
  EXPECT_TRUE(execute({0x1B, 0, 0, 0, 2}, 0, 1).is_good());
  EXPECT_TRUE(ejected);
  expect_sense(execute(cdb10(Opcode::kRead10, 16, 1), 2048, 1), scsi::kSenseNotReady, scsi::kMediumNotPresent);
}

TEST_F(StorageTest, tray_that_a_guest_has_locked_opens_after_a_reset) {
  controller_.attach_disk(0, disk_);
  controller_.attach_dvd(1, {std::make_shared<MemoryBlockDevice>(8 << 20)});
  connect();
  EXPECT_TRUE(execute({0x1E, 0, 0, 0, 1}, 0, 1).is_good());
  controller_.announce_resize(0);
  guest_.run();
  channel_->close();
  controller_.reset();
  std::optional<Result<void>> outcome;
  controller_.eject_medium(1, ScsiDvd::Force::kRespectLock, [&](Result<void> result) { outcome = result; });
  guest_.run();
  ASSERT_TRUE(outcome);
  EXPECT_TRUE(*outcome);
  connect();
  EXPECT_TRUE(execute({0x00}).is_good()) << "the next guest reads the size anyway";
}

TEST_F(StorageTest, dvd_answers_what_drivers_ask) {
  disk::BlockDeviceInfo info;
  info.size_bytes = 2 << 20;
  info.logical_sector_bytes = 2048;
  controller_.attach_dvd(0, {std::make_shared<MemoryBlockDevice>(info)});
  connect();
  ASSERT_TRUE(execute({0x12, 0, 0, 0, 36}, 36).is_good());
  EXPECT_EQ(data(2)[0], std::byte{5});
  EXPECT_EQ(data(2)[1], std::byte{0x80});
  ASSERT_TRUE(execute({0x43, 0, 0, 0, 0, 0, 0, 0, 255}, 255).is_good());
  EXPECT_EQ(data(20)[1], std::byte{18});
  EXPECT_EQ(data(20)[18], std::byte{4});  // lead-out at 1024
  ASSERT_TRUE(execute({0x46, 0, 0, 0, 0, 0, 0, 1, 0}, 256).is_good());
  EXPECT_EQ(data(8)[7], std::byte{8});  // CD-ROM profile
  EXPECT_TRUE(execute({0x5A, 0, 0x2A, 0, 0, 0, 0, 1, 0}, 256).is_good());
  EXPECT_TRUE(execute({0x51, 0, 0, 0, 0, 0, 0, 1, 0}, 256).is_good());
  ASSERT_TRUE(execute({0x25}, 8).is_good());
  EXPECT_EQ(data(8)[2], std::byte{3});
}

}  // namespace
}  // namespace bygone::devices::storage
