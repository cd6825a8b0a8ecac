// A guest's view of a storage controller, for its tests: requests through a real ring, their replies and sense data.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "devices/storage/storage_controller.h"
#include "disk/memory_block_device.h"
#include "vmbus/testing/fake_guest.h"

namespace bygone::devices::storage {

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

}  // namespace bygone::devices::storage
