// Links: bygone_devices_storage
// The storage controller under any packets: commands, control operations and buffers of the guest's choice on several channels, while
// disks come, go, fail and change their size, channels break, and the controller is saved and restored.
// Input: steps of {u8 operation, u8 lun, u16 buffer length, u8 buffer page, u8 payload length, payload}. Operations from 0x80 on are
// commands with the payload as CDB, 0x40-0x7F happen on the host or to a channel, the others are packets of type operation % 16.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>

#include "devices/storage/storage_controller.h"
#include "disk/memory_block_device.h"
#include "vmbus/testing/fake_guest.h"

using namespace bygone;
using devices::storage::StorageController;
namespace wire = spec::vmbus;

namespace {

disk::BlockDeviceInfo information(std::uint32_t sector_bytes) {
  disk::BlockDeviceInfo info;
  info.size_bytes = 1 << 20;
  info.logical_sector_bytes = sector_bytes;
  info.optimal_unmap_bytes = 4096;
  info.reads_zero_after_unmap = true;
  return info;
}

struct World {
  World() {
    controller.attach_disk(0, disk);
    controller.attach_dvd(1, {std::make_shared<disk::MemoryBlockDevice>(information(2048))});
    channels[0] = guest.open(controller, {.ring_pages = 3});
    control(wire::StorageOperation::kBeginInitialization, 0);
    control(wire::StorageOperation::kQueryProtocolVersion, wire::kStorageVersion6_2);
    control(wire::StorageOperation::kQueryProperties, 0);
    control(wire::StorageOperation::kEndInitialization, 0);
  }
  void control(wire::StorageOperation operation, std::uint16_t body) {
    wire::StoragePacket packet = {};
    packet.operation = static_cast<std::uint32_t>(operation);
    std::memcpy(packet.body.data(), &body, sizeof body);
    channels[0]->send(bytes_of(packet), 1, true);
  }
  /// What happens on the host, and to channels.
  void happen(std::uint8_t what, std::uint8_t argument, std::uint16_t number) {
    const auto lun = static_cast<std::uint8_t>(argument % 4);
    switch (what % 10) {
      case 0: controller.attach_disk(lun, disk); break;
      case 1: controller.detach(lun); break;
      case 2: controller.insert_medium(lun, {std::make_shared<disk::MemoryBlockDevice>(information(2048))}); break;
      case 3:
        controller.eject_medium(lun, (argument & 0x80) != 0 ? devices::storage::ScsiDvd::Force::kIgnoreLock
                                                            : devices::storage::ScsiDvd::Force::kRespectLock);
        break;
      case 4: controller.announce_resize(lun); break;
      case 5:
        current = argument % channels.size();
        if (!channels[current] || !channels[current]->is_open()) {
          channels[current] = guest.open(controller, {.ring_pages = 3, .subchannel_index = static_cast<std::uint16_t>(current)});
        }
        break;
      case 6:
        if (channels[current]) channels[current]->close();
        break;
      case 7: {
        guest.run();
        const auto state = controller.save();
        if (!state || !controller.restore(*state)) std::abort();  // what it saves it takes
        break;
      }
      case 8: disk->fail_range(number * std::uint64_t{512}, 512); break;
      default:
        if (channels[current] && channels[current]->is_open()) {
          auto& pages = (argument & 1) != 0 ? channels[current]->to_host_pages() : channels[current]->to_guest_pages();
          pages.store((argument & 1) != 0 ? vmbus::RingPages::Field::kWriteIndex : vmbus::RingPages::Field::kReadIndex, number);
          channels[current]->signal();
        }
        break;
    }
    guest.run();
    (void)controller.inspect();
  }

  vmbus::testing::FakeGuest guest{4};
  StorageController controller{{"scsi0", {}, 2}, guest.loop()};
  std::shared_ptr<disk::MemoryBlockDevice> disk = std::make_shared<disk::MemoryBlockDevice>(information(512));
  std::array<std::unique_ptr<vmbus::testing::GuestChannel>, 3> channels;
  std::size_t current = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  World world;
  std::span input(data, size);
  int opened = 0;
  while (input.size() >= 6) {
    const std::uint8_t operation = input[0], lun = input[1], page = input[4];
    const auto buffer = static_cast<std::uint16_t>(input[2] | input[3] << 8);
    const std::size_t length = std::min<std::size_t>(input[5], input.size() - 6);
    const auto payload = input.subspan(6, length);
    input = input.subspan(6 + length);
    if ((operation & 0xC0) == 0x40) {
      // Each channel takes pages of the fake guest's, which never come back.
      if ((operation & 0x3F) % 10 == 5 && ++opened > 64) break;
      world.happen(operation & 0x3F, lun, buffer);
      continue;
    }
    auto& channel = world.channels[world.current];
    if (!channel || !channel->is_open()) continue;
    wire::StoragePacket packet = {};
    packet.operation = operation >= 0x80 ? 3U : operation % 16U;
    std::memcpy(packet.body.data(), payload.data(), std::min(payload.size(), packet.body.size()));
    if (operation >= 0x80) {  // a whole command: the payload is its CDB
      wire::StorageScsiRequest srb = {};
      srb.lun = lun % 5;
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
    while (channel->is_open() && channel->receive()) {
    }
  }
  return 0;
}
