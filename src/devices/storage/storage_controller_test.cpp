// Versions, and what commands do to disks and say of them.
#include <map>
#include <numeric>

#include "devices/storage/testing_storage.h"

namespace bygone::devices::storage {
namespace {

TEST_F(StorageTest, every_version_connects_and_unknown_ones_are_refused) {
  for (const auto version : {wire::kStorageVersion4_2, wire::kStorageVersion5_1, wire::kStorageVersion6_0, wire::kStorageVersion6_2}) {
    connect(version);
    channel_->close();
  }
  channel_ = guest_.open(controller_);
  ASSERT_EQ(control(StorageOperation::kBeginInitialization), 0U);
  EXPECT_EQ(control(StorageOperation::kQueryProtocolVersion, le16(std::uint16_t{0x0701})), wire::kStorageStatusRevisionMismatch);
  EXPECT_EQ(control(StorageOperation::kQueryProtocolVersion, le16(wire::kStorageVersion6_0)), 0U);
}

TEST_F(StorageTest, every_version_reads_and_writes) {
  controller_.attach_disk(0, disk_);
  for (const auto version : {wire::kStorageVersion4_2, wire::kStorageVersion5_1, wire::kStorageVersion6_0, wire::kStorageVersion6_2}) {
    SCOPED_TRACE(version);
    connect(version);
    const auto bytes = pattern(4096, version);
    guest_.write(pages_, 0, bytes);
    const Reply written = execute(cdb10(Opcode::kWrite10, 16, 8), 4096);
    EXPECT_TRUE(written.is_good());
    EXPECT_EQ(written.packet_bytes, version == wire::kStorageVersion4_2 ? 48U : 64U);
    guest_.write(pages_, 0, std::vector<std::byte>(4096));
    EXPECT_TRUE(execute(cdb10(Opcode::kRead10, 16, 8), 4096).is_good());
    EXPECT_EQ(data(4096), bytes);
    expect_sense(execute(cdb10(Opcode::kRead10, 16384, 1), 512), scsi::kSenseIllegalRequest, scsi::kLbaOutOfRange);
    EXPECT_EQ(controller_.inspect()["protocol"], fmt::format("{}.{}", version >> 8, version & 0xFF));
    channel_->close();
  }
}

TEST_F(StorageTest, properties_offer_subchannels_from_5_1_on) {
  connect(wire::kStorageVersion6_0);
  wire::StorageChannelProperties properties;
  channel_->close();
  for (const auto version : {wire::kStorageVersion4_2, wire::kStorageVersion6_2}) {
    channel_ = guest_.open(controller_);
    (void)control(StorageOperation::kBeginInitialization);
    (void)control(StorageOperation::kQueryProtocolVersion, le16(version));
    (void)control(StorageOperation::kQueryProperties);
    std::memcpy(&properties, last_control_.body.data(), sizeof properties);
    EXPECT_EQ(properties.maximum_subchannels, version == wire::kStorageVersion4_2 ? 0U : 3U);
    EXPECT_EQ(properties.maximum_transfer_bytes, 1U << 20);
    channel_->close();
  }
}

TEST_F(StorageTest, steps_out_of_order_are_refused) {
  channel_ = guest_.open(controller_);
  EXPECT_EQ(control(StorageOperation::kEndInitialization), wire::kStorageStatusInvalidState);
  EXPECT_EQ(control(StorageOperation::kQueryProperties), wire::kStorageStatusInvalidState);
  EXPECT_EQ(control(static_cast<StorageOperation>(99)), wire::kStorageStatusInvalidRequest);
  EXPECT_EQ(execute(cdb10(Opcode::kRead10, 0, 1), 512).status, wire::kStorageStatusInvalidState);
}

TEST_F(StorageTest, data_written_is_read_back_through_scattered_unaligned_pages) {
  controller_.attach_disk(0, disk_);
  connect();
  const auto bytes = pattern(20 * 512, 3);
  guest_.write(pages_, 100, bytes);
  EXPECT_TRUE(execute(cdb10(Opcode::kWrite10, 5, 20), 20 * 512, 0, 100).is_good());
  std::vector<std::byte> on_disk(bytes.size());
  ASSERT_TRUE(disk::read_blocks(*disk_, 5 * 512, on_disk));
  EXPECT_EQ(on_disk, bytes);
  guest_.write(pages_, 0, std::vector<std::byte>(40000));
  const Reply reply = execute(cdb10(Opcode::kRead10, 5, 20), 20 * 512, 0, 3000);
  EXPECT_TRUE(reply.is_good());
  EXPECT_EQ(reply.srb.data_transfer_length, 20U * 512);
  EXPECT_EQ(data(bytes.size(), 3000), bytes);
}

TEST_F(StorageTest, in_place_reads_are_reported_to_memory_observers) {
  struct Observer final : memory::GuestMemory::WriteObserver {
    void host_wrote(memory::Gpa address, std::uint64_t length) override { wrote[address.page()] += length; }
    std::map<std::uint64_t, std::uint64_t> wrote;
  } observer;
  guest_.memory().add_write_observer(observer);
  controller_.attach_disk(0, disk_);
  connect();
  ASSERT_TRUE(execute(cdb10(Opcode::kRead10, 0, 16), 8192).is_good());
  EXPECT_EQ(observer.wrote[pages_[0]], 4096U);
  EXPECT_EQ(observer.wrote[pages_[1]], 4096U);
}

TEST_F(StorageTest, failed_read_is_reported_to_memory_observers_too) {
  struct Observer final : memory::GuestMemory::WriteObserver {
    void host_wrote(memory::Gpa address, std::uint64_t length) override { wrote[address.page()] += length; }
    std::map<std::uint64_t, std::uint64_t> wrote;
  } observer;
  controller_.attach_disk(0, disk_);
  connect();
  disk_->fail_range(0, 512);
  guest_.memory().add_write_observer(observer);
  EXPECT_FALSE(execute(cdb10(Opcode::kRead10, 0, 8), 4096).is_good());
  EXPECT_EQ(observer.wrote[pages_[0]], 4096U);
}

TEST_F(StorageTest, all_lengths_of_read_and_write_reach_the_same_blocks) {
  controller_.attach_disk(0, disk_);
  connect();
  const auto bytes = pattern(512, 9);
  guest_.write(pages_, 0, bytes);
  EXPECT_TRUE(execute({0x0A, 0, 0, 7, 1}, 512).is_good());                                      // WRITE(6) block 7
  EXPECT_TRUE(execute({0xAA, 0, 0, 0, 0, 8, 0, 0, 0, 1}, 512).is_good());                       // WRITE(12) block 8
  EXPECT_TRUE(execute({0x8A, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1}, 512).is_good());           // WRITE(16) block 9
  for (const auto& cdb : {std::array<std::uint8_t, 16>{0x08, 0, 0, 8, 1}, {0xA8, 0, 0, 0, 0, 9, 0, 0, 0, 1},
                          {0x88, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1}}) {
    guest_.write(pages_, 0, std::vector<std::byte>(512));
    EXPECT_TRUE(execute(cdb, 512).is_good());
    EXPECT_EQ(data(512), bytes);
  }
}

TEST_F(StorageTest, whole_megabyte_in_one_command) {
  controller_.attach_disk(0, disk_);
  connect();
  const auto bytes = pattern(1 << 20, 1);
  guest_.write(pages_, 0, bytes);
  EXPECT_TRUE(execute(cdb10(Opcode::kWrite10, 0, 2048), 1 << 20).is_good());
  guest_.write(pages_, 0, std::vector<std::byte>(1 << 20));
  EXPECT_TRUE(execute(cdb10(Opcode::kRead10, 0, 2048), 1 << 20).is_good());
  EXPECT_EQ(data(1 << 20), bytes);
}

TEST_F(StorageTest, range_beyond_the_end_is_illegal) {
  controller_.attach_disk(0, disk_);
  connect();
  expect_sense(execute(cdb10(Opcode::kRead10, 16384, 1), 512), scsi::kSenseIllegalRequest, scsi::kLbaOutOfRange);
  expect_sense(execute(cdb10(Opcode::kWrite10, 16383, 2), 1024), scsi::kSenseIllegalRequest, scsi::kLbaOutOfRange);
  expect_sense(execute({0x88, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, 512),
               scsi::kSenseIllegalRequest, scsi::kLbaOutOfRange);
}

TEST_F(StorageTest, buffer_shorter_than_the_transfer_is_an_overrun_and_nothing_moves) {
  controller_.attach_disk(0, disk_);
  connect();
  EXPECT_EQ(execute(cdb10(Opcode::kRead10, 0, 2), 512).srb.srb_status, wire::kSrbDataOverrun);
  EXPECT_EQ(execute(cdb10(Opcode::kWrite10, 0, 2), 0).srb.srb_status, wire::kSrbDataOverrun);
}

TEST_F(StorageTest, buffer_outside_ram_fails_the_command_only) {
  controller_.attach_disk(0, disk_);
  connect();
  const auto kept = std::exchange(pages_, {1U << 30});
  expect_sense(execute(cdb10(Opcode::kRead10, 0, 1), 512), scsi::kSenseHardwareError, scsi::kInternalTargetFailure);
  pages_ = kept;
  EXPECT_TRUE(execute(cdb10(Opcode::kRead10, 0, 1), 512).is_good());
}

TEST_F(StorageTest, host_errors_become_medium_errors) {
  controller_.attach_disk(0, disk_);
  connect();
  disk_->fail_range(0, 512);
  expect_sense(execute(cdb10(Opcode::kRead10, 0, 1), 512), scsi::kSenseMediumError, scsi::kUnrecoveredReadError);
  expect_sense(execute(cdb10(Opcode::kWrite10, 0, 1), 512), scsi::kSenseMediumError, scsi::kWriteError);
  EXPECT_EQ(controller_.inspect()["host_failures"], 2) << "the host's people hear of it";
  EXPECT_THAT(controller_.inspect()["last_host_failure"].get<std::string>(), testing::StartsWith("LUN 0: "));
  expect_sense(execute(cdb10(Opcode::kRead10, 0xFFFF'FFF0, 1), 512), scsi::kSenseIllegalRequest, scsi::kLbaOutOfRange);
  EXPECT_EQ(controller_.inspect()["host_failures"], 2) << "a guest's mistake is none of the host's";
}

/// A disk whose file system has no room left, or whose image has gone.
class FailingDevice final : public disk::BlockDevice {
 public:
  explicit FailingDevice(ErrorCode code) : code_(code) {}
  [[nodiscard]] disk::BlockDeviceInfo info() const override {
    disk::BlockDeviceInfo info;
    info.size_bytes = 1 << 20;
    info.optimal_unmap_bytes = 4096;
    return info;
  }
  void submit(disk::BlockRequest request) override { request.done(fail(code_, "it is gone")); }

 private:
  ErrorCode code_;
};

TEST_F(StorageTest, a_full_host_and_a_lost_image_are_told_apart) {
  controller_.attach_disk(0, std::make_shared<FailingDevice>(ErrorCode::kNoSpace));
  controller_.attach_disk(1, std::make_shared<FailingDevice>(ErrorCode::kInternal));
  connect();
  expect_sense(execute(cdb10(Opcode::kWrite10, 0, 1), 512), scsi::kSenseDataProtect, scsi::kSpaceAllocationFailed);
  expect_sense(execute(cdb10(Opcode::kSynchronizeCache10, 0, 0)), scsi::kSenseDataProtect, scsi::kSpaceAllocationFailed);
  expect_sense(execute(cdb10(Opcode::kWrite10, 0, 1), 512, 1), scsi::kSenseHardwareError, scsi::kInternalTargetFailure);
  EXPECT_EQ(controller_.inspect()["host_failures"], 3);
}

TEST_F(StorageTest, every_command_that_a_failing_host_spoils_says_so) {
  controller_.attach_disk(0, std::make_shared<FailingDevice>(ErrorCode::kIo));
  controller_.attach_dvd(1, {std::make_shared<FailingDevice>(ErrorCode::kIo)});
  connect();
  const auto spoiled = [&](const Reply& reply, scsi::AdditionalSense what) { expect_sense(reply, scsi::kSenseMediumError, what); };
  spoiled(execute(cdb10(Opcode::kRead10, 0, 1), 512), scsi::kUnrecoveredReadError);
  spoiled(execute({0x08, 0, 0, 0, 1}, 512), scsi::kUnrecoveredReadError);
  spoiled(execute({0x0A, 0, 0, 0, 1}, 512), scsi::kWriteError);
  spoiled(execute(cdb10(Opcode::kSynchronizeCache10, 0, 0)), scsi::kWriteError);
  guest_.write(pages_, 0, std::vector<std::byte>(512));
  spoiled(execute({0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4}, 512), scsi::kWriteError);
  struct {
    scsi::UnmapHeader header;
    scsi::UnmapDescriptor descriptors[2];
  } list;
  list.header.descriptor_bytes = std::uint16_t{32};
  list.descriptors[0].block_count = list.descriptors[1].block_count = 8U;
  guest_.write(pages_, 0, bytes_of(list));
  spoiled(execute({0x42, 0, 0, 0, 0, 0, 0, 0, 40}, 40), scsi::kWriteError);
  spoiled(execute(cdb10(Opcode::kRead10, 0, 1), 2048, 1), scsi::kUnrecoveredReadError);
  EXPECT_EQ(controller_.inspect()["host_failures"], 7);
  EXPECT_TRUE(execute({0x00}).is_good()) << "the disk is still there";
}

TEST_F(StorageTest, sense_of_commands_that_ask_for_what_is_not_there) {
  controller_.attach_disk(0, disk_);
  connect();
  const auto illegal = [&](const Reply& reply, scsi::AdditionalSense what) { expect_sense(reply, scsi::kSenseIllegalRequest, what); };
  illegal(execute(cdb10(Opcode::kSynchronizeCache10, 16385, 0)), scsi::kLbaOutOfRange);
  illegal(execute(cdb10(Opcode::kVerify10, 16384, 1)), scsi::kLbaOutOfRange);
  illegal(execute({0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 512), scsi::kInvalidFieldInCdb);  // WRITE SAME of nothing
  illegal(execute({0x42, 0, 0, 0, 0, 0, 0, 0, 4}, 4), scsi::kParameterListLength);
  illegal(execute({0x9E, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32}, 32), scsi::kInvalidFieldInCdb);
  illegal(execute({0x12, 0, 5, 0, 36}, 36), scsi::kInvalidFieldInCdb);  // a page without EVPD
  illegal(execute({0x03, 1, 0, 0, 18}, 18), scsi::kInvalidFieldInCdb);  // descriptor format
  illegal(execute({0x15, 0x10, 0, 0, 24}, 24), scsi::kInvalidOpcode);
}

TEST_F(StorageTest, request_sense_tells_what_waits_and_takes_it_away) {
  controller_.attach_disk(0, disk_);
  connect();
  controller_.announce_resize(0);
  guest_.run();
  ASSERT_TRUE(channel_->receive());
  const auto sense = [&] {
    EXPECT_TRUE(execute({0x03, 0, 0, 0, 18}, 18).is_good());
    scsi::FixedSense told;
    std::memcpy(&told, data(18).data(), 18);
    return told;
  };
  EXPECT_TRUE(execute({0x12, 0, 0, 0, 36}, 36).is_good()) << "INQUIRY is answered meanwhile";
  const auto told = sense();
  EXPECT_EQ(told.key, scsi::kSenseUnitAttention);
  EXPECT_EQ(told.additional_code, scsi::kCapacityChanged.code);
  EXPECT_EQ(sense().key, scsi::kSenseNone);
  EXPECT_TRUE(execute({0x00}).is_good());
}

TEST_F(StorageTest, read_only_disk_says_so_and_refuses_writes) {
  auto info = disk_info();
  info.is_read_only = true;
  controller_.attach_disk(0, std::make_shared<MemoryBlockDevice>(info));
  connect();
  expect_sense(execute(cdb10(Opcode::kWrite10, 0, 1), 512), scsi::kSenseDataProtect, scsi::kWriteProtected);
  ASSERT_TRUE(execute({0x1A, 0, 0x3F, 0, 192}, 192).is_good());
  EXPECT_EQ(data(3)[2], std::byte{0x90});
}

TEST_F(StorageTest, flush_and_forced_write_reach_the_image) {
  controller_.attach_disk(0, disk_);
  connect();
  EXPECT_TRUE(execute(cdb10(Opcode::kSynchronizeCache10, 0, 0)).is_good());
  EXPECT_EQ(disk_->flush_count(), 1U);
  EXPECT_TRUE(execute(cdb10(Opcode::kWrite10, 0, 1, 0x08), 512).is_good());
  EXPECT_EQ(disk_->flush_count(), 2U);
}

TEST_F(StorageTest, inquiry_tells_who_it_is) {
  controller_.attach_disk(0, disk_);
  connect();
  const Reply reply = execute({0x12, 0, 0, 0, 255}, 255);
  ASSERT_TRUE(reply.is_good());
  EXPECT_EQ(reply.srb.data_transfer_length, 36U);
  const auto bytes = data(36);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()) + 8, 28), "Msft    Virtual Disk    1.0 ");
  ASSERT_TRUE(execute({0x12, 1, 0x83, 0, 255}, 255).is_good());
  EXPECT_EQ(data(8), (std::vector<std::byte>{std::byte{0}, std::byte{0x83}, std::byte{0}, std::byte{48}, std::byte{1}, std::byte{3},
                                             std::byte{0}, std::byte{16}}));
  ASSERT_TRUE(execute({0x12, 1, 0x00, 0, 255}, 255).is_good());
  EXPECT_EQ(data(5)[3], std::byte{6});
  for (const int page : {0x80, 0xB0, 0xB1, 0xB2}) {
    EXPECT_TRUE(execute({0x12, 1, static_cast<std::uint8_t>(page), 0, 255}, 255).is_good()) << page;
  }
  expect_sense(execute({0x12, 1, 0x99, 0, 255}, 255), scsi::kSenseIllegalRequest, scsi::kInvalidFieldInCdb);
}

TEST_F(StorageTest, capacity_is_told_in_both_forms) {
  controller_.attach_disk(0, disk_);
  connect();
  ASSERT_TRUE(execute({0x25}, 8).is_good());
  scsi::ReadCapacity10Data ten;
  std::memcpy(&ten, data(8).data(), 8);
  EXPECT_EQ(ten.last_block, 16383U);
  EXPECT_EQ(ten.block_bytes, 512U);
  ASSERT_TRUE(execute({0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32}, 32).is_good());
  scsi::ReadCapacity16Data sixteen;
  std::memcpy(&sixteen, data(32).data(), 32);
  EXPECT_EQ(sixteen.last_block, 16383U);
  EXPECT_EQ(sixteen.physical_exponent, 3);
  EXPECT_EQ(sixteen.provisioning, 0xC000);
}

TEST_F(StorageTest, report_luns_lists_what_is_attached) {
  controller_.attach_disk(0, disk_);
  controller_.attach_disk(7, disk_);
  controller_.attach_dvd(63, {});
  connect();
  const auto listed = [&](std::uint8_t lun) {
    EXPECT_TRUE(execute({0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 256, lun).is_good());
    const auto bytes = data(32);
    EXPECT_EQ(bytes[3], std::byte{24}) << "the list's length";
    return std::array{bytes[9], bytes[17], bytes[25]};
  };
  const std::array expected = {std::byte{0}, std::byte{7}, std::byte{63}};
  EXPECT_EQ(listed(0), expected);
  EXPECT_EQ(listed(5), expected) << "asked of a LUN that is not there";
  EXPECT_EQ(execute({0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16}, 256).srb.data_transfer_length, 16U) << "the allocation length";
}

TEST_F(StorageTest, mode_pages_tell_of_the_write_cache) {
  controller_.attach_disk(0, disk_);
  connect();
  ASSERT_TRUE(execute({0x1A, 0, 0x08, 0, 192}, 192).is_good());
  auto bytes = data(24);
  EXPECT_EQ(bytes[0], std::byte{23}) << "length";
  EXPECT_EQ(bytes[2], std::byte{0x10}) << "DPO and FUA; not write-protected";
  EXPECT_EQ(bytes[4], std::byte{0x08});
  EXPECT_EQ(bytes[6], std::byte{0x04}) << "WCE";
  ASSERT_TRUE(execute({0x1A, 0, 0x48, 0, 192}, 192).is_good());
  EXPECT_EQ(data(24)[6], std::byte{0}) << "nothing can be changed";
  ASSERT_TRUE(execute({0x5A, 0, 0x3F, 0, 0, 0, 0, 0, 192}, 192).is_good());
  bytes = data(54);
  EXPECT_EQ(bytes[1], std::byte{6 + 20 + 12 + 12}) << "all pages behind the long header";
  expect_sense(execute({0x1A, 0, 0x2A, 0, 192}, 192), scsi::kSenseIllegalRequest, scsi::kInvalidFieldInCdb);
  expect_sense(execute({0x1A, 0, 0xC8, 0, 192}, 192), scsi::kSenseIllegalRequest, {0x39, 0x00});
}

TEST_F(StorageTest, unmap_and_write_same_zero_what_they_name) {
  controller_.attach_disk(0, disk_);
  connect();
  const auto bytes = pattern(64 * 512, 5);
  ASSERT_TRUE(disk::write_blocks(*disk_, 0, bytes));
  struct {
    scsi::UnmapHeader header;
    scsi::UnmapDescriptor descriptors[2];
  } list;
  list.header.data_length = std::uint16_t{38};
  list.header.descriptor_bytes = std::uint16_t{32};
  list.descriptors[0].first_block = std::uint64_t{8};
  list.descriptors[0].block_count = 8U;
  list.descriptors[1].first_block = std::uint64_t{32};
  list.descriptors[1].block_count = 8U;
  guest_.write(pages_, 0, bytes_of(list));
  EXPECT_TRUE(execute({0x42, 0, 0, 0, 0, 0, 0, 0, 40}, 40).is_good());
  std::vector<std::byte> after(bytes.size());
  ASSERT_TRUE(disk::read_blocks(*disk_, 0, after));
  for (std::size_t i = 0; i < after.size(); ++i) {
    const std::size_t block = i / 512;
    const bool gone = (block >= 8 && block < 16) || (block >= 32 && block < 40);
    ASSERT_EQ(after[i], gone ? std::byte{0} : bytes[i]) << i;
  }
  guest_.write(pages_, 0, std::vector<std::byte>(512));
  EXPECT_TRUE(execute({0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4}, 512).is_good());
  ASSERT_TRUE(disk::read_blocks(*disk_, 0, after));
  EXPECT_TRUE(std::all_of(after.begin(), after.begin() + 4 * 512, [](std::byte byte) { return byte == std::byte{0}; }));
  EXPECT_EQ(after[4 * 512], bytes[4 * 512]);
}

TEST_F(StorageTest, write_same_repeats_a_pattern) {
  auto larger = disk_info();
  larger.size_bytes = std::uint64_t{128} << 20;
  controller_.attach_disk(0, disk_);
  controller_.attach_disk(1, std::make_shared<MemoryBlockDevice>(larger));
  connect();
  std::vector<std::byte> after(400 * 512);
  const auto before = pattern(after.size(), 9);
  ASSERT_TRUE(disk::write_blocks(*disk_, 0, before));
  const auto sector = pattern(512, 77);
  guest_.write(pages_, 0, sector);
  const Reply reply = execute({0x41, 0, 0, 0, 0, 3, 0, 0x01, 0x2C, 0}, 512);  // 300 blocks from the third on
  EXPECT_TRUE(reply.is_good());
  EXPECT_EQ(reply.srb.data_transfer_length, 512U);
  ASSERT_TRUE(disk::read_blocks(*disk_, 0, after));
  for (std::size_t i = 0; i < after.size(); ++i) {
    const bool is_same = i / 512 >= 3 && i / 512 < 303;
    ASSERT_EQ(after[i], is_same ? sector[i % 512] : before[i]) << i;
  }
  expect_sense(execute({0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0x01}, 512, 1), scsi::kSenseIllegalRequest, scsi::kInvalidFieldInCdb);
  EXPECT_TRUE(execute({0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0}, 512, 1).is_good()) << "64 MiB, as the block limits page says";
}

TEST_F(StorageTest, missing_luns_and_targets_look_empty) {
  controller_.attach_disk(3, disk_);
  connect();
  ASSERT_TRUE(execute({0x12, 0, 0, 0, 255}, 255, 0).is_good());
  EXPECT_EQ(data(1)[0], std::byte{0x7F});
  EXPECT_EQ(execute({0x00}, 0, 0).srb.srb_status, wire::kSrbInvalidLun);
  ASSERT_TRUE(execute({0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 256).is_good());
  EXPECT_EQ(data(16)[3], std::byte{8});
  EXPECT_EQ(data(16)[9], std::byte{3});
  target_ = 1;
  ASSERT_TRUE(execute({0x12, 0, 0, 0, 255}, 255, 3).is_good());
  EXPECT_EQ(data(1)[0], std::byte{0x7F});
}

TEST_F(StorageTest, unknown_command_is_an_invalid_opcode) {
  controller_.attach_disk(0, disk_);
  connect();
  expect_sense(execute({0xA3, 0x0C}, 0), scsi::kSenseIllegalRequest, scsi::kInvalidOpcode);
}

TEST_F(StorageTest, windows_7_gets_short_packets) {
  controller_.attach_disk(0, disk_);
  connect(wire::kStorageVersion4_2);
  EXPECT_EQ(execute({0x00}).packet_bytes, 48U);
}

}  // namespace
}  // namespace bygone::devices::storage
