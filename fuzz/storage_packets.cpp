// Links: bygone_devices_storage
// The storage controller under any packets: commands, control operations and buffers of the guest's choice.
// Input: steps of {u8 operation, u8 lun, u16 buffer length, u8 buffer page, u8 payload length, payload}.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

#include "devices/storage/storage_controller.h"
#include "disk/memory_block_device.h"
#include "vmbus/testing/fake_guest.h"

using namespace bygone;
using devices::storage::StorageController;
namespace wire = spec::vmbus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vmbus::testing::FakeGuest guest(4);
  StorageController controller({"scsi0", {}, 2}, guest.loop());
  disk::BlockDeviceInfo info;
  info.size_bytes = 1 << 20;
  info.optimal_unmap_bytes = 4096;
  info.reads_zero_after_unmap = true;
  controller.attach_disk(0, std::make_shared<disk::MemoryBlockDevice>(info));
  info.logical_sector_bytes = 2048;
  controller.attach_dvd(1, {std::make_shared<disk::MemoryBlockDevice>(info)});
  auto channel = guest.open(controller, {.ring_pages = 3});
  const auto send_control = [&](wire::StorageOperation operation, std::uint16_t body) {
    wire::StoragePacket packet = {};
    packet.operation = static_cast<std::uint32_t>(operation);
    std::memcpy(packet.body.data(), &body, sizeof body);
    channel->send(bytes_of(packet), 1, true);
  };
  send_control(wire::StorageOperation::kBeginInitialization, 0);
  send_control(wire::StorageOperation::kQueryProtocolVersion, wire::kStorageVersion6_2);
  send_control(wire::StorageOperation::kQueryProperties, 0);
  send_control(wire::StorageOperation::kEndInitialization, 0);
  std::span input(data, size);
  while (input.size() >= 6 && channel->is_open()) {
    const std::uint8_t operation = input[0], lun = input[1], page = input[4];
    const auto buffer = static_cast<std::uint32_t>(input[2] | input[3] << 8);
    const std::size_t length = std::min<std::size_t>(input[5], input.size() - 6);
    const auto payload = input.subspan(6, length);
    input = input.subspan(6 + length);
    wire::StoragePacket packet = {};
    packet.operation = operation >= 0x80 ? 3U : operation % 16U;
    std::memcpy(packet.body.data(), payload.data(), std::min(payload.size(), packet.body.size()));
    if (operation >= 0x80) {  // a whole command: the payload is its CDB
      wire::StorageScsiRequest srb = {};
      srb.lun = lun % 3;
      srb.cdb_length = 16;
      srb.data_transfer_length = buffer;
      std::memcpy(srb.cdb_or_sense.data(), payload.data(), std::min<std::size_t>(payload.size(), 16));
      std::memcpy(packet.body.data(), &srb, sizeof srb);
    }
    if (buffer == 0) {
      channel->send(bytes_of(packet).first(std::min<std::size_t>(sizeof packet, 12 + length)), 2, true);
    } else {
      const std::vector<std::uint64_t> pages((buffer + 4095) / 4096, page * std::uint64_t{8});  // some are outside RAM
      if (!channel->send_gpa_direct(bytes_of(packet), pages, 0, buffer, 3)) break;
    }
    while (channel->receive()) {
    }
  }
  return 0;
}
