#include "devices/storage/storage_controller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>

#include "disk/memory_block_device.h"
#include "vmbus/testing/fake_guest.h"

namespace bygone::devices::storage {
namespace {

namespace scsi = spec::scsi;
namespace wire = spec::vmbus;
using disk::MemoryBlockDevice;
using scsi::Opcode;
using vmbus::testing::FakeGuest;
using vmbus::testing::GuestChannel;
using wire::StorageOperation;

struct Reply {
  std::uint32_t status = 0xDEAD;
  wire::StorageScsiRequest srb = {};
  std::size_t packet_bytes = 0;
  [[nodiscard]] scsi::FixedSense sense() const {
    scsi::FixedSense sense;
    std::memcpy(&sense, srb.cdb_or_sense.data(), sizeof sense);
    return sense;
  }
  [[nodiscard]] bool is_good() const { return srb.srb_status == wire::kSrbSuccess && srb.scsi_status == 0; }
};

/// Holds requests back until it is told to perform them.
class HeldBlockDevice final : public disk::BlockDevice {
 public:
  explicit HeldBlockDevice(std::uint64_t size) : inner_(size) {}
  disk::BlockDeviceInfo info() const override { return inner_.info(); }
  void submit(disk::BlockRequest request) override { held.push_back(std::move(request)); }
  void release() {
    for (auto& request : std::exchange(held, {})) inner_.submit(std::move(request));
  }
  std::vector<disk::BlockRequest> held;

 private:
  MemoryBlockDevice inner_;
};

class StorageTest : public ::testing::Test {
 protected:
  StorageTest() : controller_({"scsi0", {}, 3}, guest_.loop()) {}

  void connect(std::uint16_t version = wire::kStorageVersion6_2, vmbus::testing::GuestChannelOptions options = {.ring_pages = 9}) {
    channel_ = guest_.open(controller_, options);
    ASSERT_EQ(control(StorageOperation::kBeginInitialization), 0U);
    ASSERT_EQ(control(StorageOperation::kQueryProtocolVersion, le16(version)), 0U);
    ASSERT_EQ(control(StorageOperation::kQueryProperties), 0U);
    ASSERT_EQ(control(StorageOperation::kEndInitialization), 0U);
  }
  template <typename T = le16>
  std::uint32_t control(StorageOperation operation, T body = {}) {
    wire::StoragePacket packet = {};
    packet.operation = static_cast<std::uint32_t>(operation);
    std::memcpy(packet.body.data(), &body, sizeof body);
    EXPECT_TRUE(channel_->send(bytes_of(packet), 1, true));
    const auto answer = channel_->receive();
    if (!answer) return 0xDEAD;
    EXPECT_EQ(answer->type(), vmbus::PacketType::kCompletion);
    EXPECT_GE(answer->payload().size(), wire::kStoragePacketSizeBefore5_1);
    last_control_ = {};
    std::memcpy(&last_control_, answer->payload().data(), std::min(sizeof last_control_, answer->payload().size()));
    return last_control_.status;
  }
  static std::array<std::uint8_t, 16> cdb10(Opcode opcode, std::uint32_t block, std::uint16_t count, std::uint8_t flags = 0) {
    return {static_cast<std::uint8_t>(opcode), flags, static_cast<std::uint8_t>(block >> 24), static_cast<std::uint8_t>(block >> 16),
            static_cast<std::uint8_t>(block >> 8), static_cast<std::uint8_t>(block), 0, static_cast<std::uint8_t>(count >> 8),
            static_cast<std::uint8_t>(count)};
  }
  void start(std::array<std::uint8_t, 16> cdb, std::uint32_t length, std::uint64_t id, std::uint8_t lun = 0,
             std::uint32_t offset = 0, GuestChannel* channel = nullptr) {
    if (channel == nullptr) channel = channel_.get();
    wire::StoragePacket packet = {};
    packet.operation = static_cast<std::uint32_t>(StorageOperation::kExecuteSrb);
    wire::StorageScsiRequest srb = {};
    srb.lun = lun;
    srb.target = target_;
    srb.cdb_length = 16;
    srb.data_transfer_length = length;
    std::ranges::copy(cdb, srb.cdb_or_sense.begin());
    std::memcpy(packet.body.data(), &srb, sizeof srb);
    if (length == 0) {
      ASSERT_TRUE(channel->send(bytes_of(packet), id, true));
    } else {
      const std::size_t pages = (offset + length + 4095) / 4096;
      ASSERT_TRUE(channel->send_gpa_direct(bytes_of(packet), std::span(pages_).first(pages), offset, length, id));
    }
  }
  std::optional<Reply> next(GuestChannel* channel = nullptr) {
    const auto answer = (channel == nullptr ? channel_.get() : channel)->receive();
    if (!answer) return std::nullopt;
    Reply reply;
    wire::StoragePacket packet = {};
    reply.packet_bytes = answer->payload().size();
    std::memcpy(&packet, answer->payload().data(), std::min(sizeof packet, reply.packet_bytes));
    EXPECT_EQ(packet.operation, static_cast<std::uint32_t>(StorageOperation::kCompleteIo));
    reply.status = packet.status;
    std::memcpy(&reply.srb, packet.body.data(), sizeof reply.srb);
    last_id_ = answer->transaction_id();
    return reply;
  }
  Reply execute(std::array<std::uint8_t, 16> cdb, std::uint32_t length = 0, std::uint8_t lun = 0, std::uint32_t offset = 0) {
    start(cdb, length, 1000, lun, offset);
    auto reply = next();
    EXPECT_TRUE(reply);
    return reply.value_or(Reply{});
  }
  std::vector<std::byte> data(std::size_t length, std::uint64_t offset = 0) { return guest_.read(pages_, offset, length); }
  static std::vector<std::byte> pattern(std::size_t length, unsigned seed) {
    std::vector<std::byte> bytes(length);
    for (std::size_t i = 0; i < length; ++i) bytes[i] = static_cast<std::byte>(i * 7 + seed + i / 512);
    return bytes;
  }
  void expect_sense(const Reply& reply, std::uint8_t key, scsi::AdditionalSense what) {
    EXPECT_EQ(reply.srb.srb_status, wire::kSrbError | wire::kSrbAutosenseValid);
    EXPECT_EQ(reply.srb.scsi_status, scsi::kStatusCheckCondition);
    EXPECT_EQ(reply.srb.sense_length, 18);
    EXPECT_EQ(reply.sense().response_code, 0x70);
    EXPECT_EQ(reply.sense().key, key);
    EXPECT_EQ(reply.sense().additional_code, what.code);
    EXPECT_EQ(reply.sense().additional_qualifier, what.qualifier);
  }
  static disk::BlockDeviceInfo disk_info() {
    disk::BlockDeviceInfo info;
    info.size_bytes = 8 << 20;
    info.optimal_unmap_bytes = 4096;
    info.reads_zero_after_unmap = true;
    info.identity = Guid::parse("12345678-9abc-def0-1122-334455667788").value();
    return info;
  }

  FakeGuest guest_;
  StorageController controller_;
  std::shared_ptr<MemoryBlockDevice> disk_ = std::make_shared<MemoryBlockDevice>(disk_info());
  std::vector<std::uint64_t> pages_ = guest_.allocate_pages(260);
  std::unique_ptr<GuestChannel> channel_;
  wire::StoragePacket last_control_ = {};
  std::uint64_t last_id_ = 0;
  std::uint8_t target_ = 0;
};

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
  guest_.write(pages_, 0, pattern(512, 1));
  illegal(execute({0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4}, 512), scsi::kInvalidFieldInParameters);
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

TEST_F(StorageTest, many_requests_in_flight_share_signals) {
  auto held = std::make_shared<HeldBlockDevice>(8 << 20);
  controller_.attach_disk(0, held);
  connect();
  for (std::uint64_t id = 1; id <= 32; ++id) start(cdb10(Opcode::kRead10, static_cast<std::uint32_t>(id), 1), 512, id);
  guest_.run();
  EXPECT_EQ(held->held.size(), 32U);
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

TEST_F(StorageTest, saved_state_continues_with_replies_that_found_no_room) {
  controller_.attach_disk(0, disk_);
  connect(wire::kStorageVersion6_2, {.ring_pages = 2});
  for (std::uint64_t id = 1; id <= 60; ++id) {
    start({0x00}, 0, id);
    guest_.run();
  }
  const auto cbor = nlohmann::json::to_cbor(controller_.save().value());
  StorageController fresh({"scsi0", {}, 3}, guest_.loop());
  fresh.attach_disk(0, disk_);
  guest_.run();
  ASSERT_TRUE(fresh.restore(nlohmann::json::from_cbor(cbor)));
  EXPECT_EQ(fresh.save().value()["phase"], controller_.save().value()["phase"]);
  StorageController without({"scsi0", {}, 3}, guest_.loop());
  EXPECT_EQ(without.restore(nlohmann::json::from_cbor(cbor)).error().code, ErrorCode::kNotFound);
  auto reopened = guest_.open(fresh, {.ring_pages = 9, .is_restored = true});
  reopened->signal();
  start({0x00}, 0, 99, 0, 0, reopened.get());
  int replies = 0;
  while (next(reopened.get())) ++replies;
  EXPECT_GE(replies, 1);
  EXPECT_EQ(last_id_, 99U);
}

TEST_F(StorageTest, saving_waits_for_requests_in_flight_and_their_answers_go_out_before) {
  auto held = std::make_shared<HeldBlockDevice>(8 << 20);
  controller_.attach_disk(0, held);
  connect();
  for (std::uint64_t id = 1; id <= 8; ++id) start(cdb10(Opcode::kRead10, static_cast<std::uint32_t>(id), 1), 512, id);
  guest_.run();
  ASSERT_EQ(held->held.size(), 8U);
  std::jthread image([&] { held->release(); });
  const auto state = controller_.save().value();
  EXPECT_EQ(controller_.inspect()["in_flight"], 0);
  StorageController fresh({"scsi0", {}, 3}, guest_.loop());
  fresh.attach_disk(0, held);
  guest_.run();
  ASSERT_TRUE(fresh.restore(nlohmann::json::from_cbor(nlohmann::json::to_cbor(state))));
  std::vector<bool> seen(9);
  while (const auto reply = channel_->try_receive()) seen.at(reply->transaction_id()) = true;
  EXPECT_EQ(std::ranges::count(seen, true), 8) << "what was in flight lies in the ring that the restored guest reads";
}

TEST_F(StorageTest, saving_beside_an_image_that_does_not_answer_fails_and_harms_nothing) {
  auto held = std::make_shared<HeldBlockDevice>(8 << 20);
  StorageController controller({.name = "scsi0", .instance = {}, .save_limit = std::chrono::milliseconds(1)}, guest_.loop());
  controller.attach_disk(0, held);
  channel_ = guest_.open(controller, {.ring_pages = 9});
  ASSERT_EQ(control(StorageOperation::kBeginInitialization), 0U);
  ASSERT_EQ(control(StorageOperation::kQueryProtocolVersion, le16(wire::kStorageVersion6_2)), 0U);
  ASSERT_EQ(control(StorageOperation::kQueryProperties), 0U);
  ASSERT_EQ(control(StorageOperation::kEndInitialization), 0U);
  start(cdb10(Opcode::kRead10, 0, 1), 512, 1);
  guest_.run();
  EXPECT_EQ(controller.save().error().code, ErrorCode::kBusy);
  held->release();
  EXPECT_TRUE(next());
  EXPECT_TRUE(controller.save());
  channel_->close();
}

TEST_F(StorageTest, saved_drives_and_disks_remember_what_the_guest_has_not_heard) {
  controller_.attach_disk(0, disk_);
  controller_.attach_dvd(1, {});
  connect();
  EXPECT_TRUE(execute({0x1E, 0, 0, 0, 1}, 0, 1).is_good());
  controller_.announce_resize(0);
  controller_.insert_medium(1, {std::make_shared<MemoryBlockDevice>(8 << 20)});
  guest_.run();
  const auto state = nlohmann::json::from_cbor(nlohmann::json::to_cbor(controller_.save().value()));
  StorageController fresh({"scsi0", {}, 3}, guest_.loop());
  fresh.attach_disk(0, disk_);
  fresh.attach_dvd(1, {std::make_shared<MemoryBlockDevice>(8 << 20)});
  guest_.run();
  ASSERT_TRUE(fresh.restore(state));
  const auto old = std::move(channel_);
  channel_ = guest_.open(fresh, {.ring_pages = 9, .is_restored = true});
  while (channel_->receive()) {
  }
  expect_sense(execute({0x00}), scsi::kSenseUnitAttention, scsi::kCapacityChanged);
  expect_sense(execute({0x00}, 0, 1), scsi::kSenseUnitAttention, scsi::kMediumMayHaveChanged);
  EXPECT_EQ(fresh.inspect()["luns"]["1"]["locked"], true);
  EXPECT_TRUE(execute({0x00}, 0, 1).is_good());
  channel_->close();
}

}  // namespace
}  // namespace bygone::devices::storage
