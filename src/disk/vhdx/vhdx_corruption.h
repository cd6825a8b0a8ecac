// What the tests of damaged VHDX files share: a small sound file whose structures can be changed.
#pragma once

#include <cstring>
#include <functional>
#include <vector>

#include "disk/testing_corruption.h"
#include "disk/vhdx/vhdx_create.h"
#include "disk/vhdx/vhdx_layout.h"
#include "support/crc32c.h"

namespace bygone::disk {

class VhdxCorruption : public CorruptionTest<VhdxLayout> {
 protected:
  VhdxCorruption() {
    VhdxMetadata metadata;
    metadata.block_bytes = 1U << 20;
    metadata.size_bytes = 16U << 20;
    metadata.disk_id = Guid::random();
    metadata.logical_sector_bytes = 512;
    metadata.physical_sector_bytes = 4096;
    FaultFile file(history_);
    EXPECT_TRUE(create_vhdx(file, metadata));
  }

  void put_header(const spec::vhdx::Header& changed) {
    for (const std::uint64_t offset : spec::vhdx::kHeaderOffsets) {
      spec::vhdx::Header header = changed;
      header.checksum = 0;
      header.checksum = crc32c(bytes_of(header));
      put(offset, header);
    }
  }
  /// Changes the region table's entry `index` in both copies.
  void change_region(std::size_t index, const std::function<void(spec::vhdx::RegionTableEntry&)>& change, std::uint32_t count = 2) {
    std::vector<std::byte> table(spec::vhdx::kRegionTableBytes);
    history_->now.read(spec::vhdx::kRegionTableOffsets[0], table);
    const std::size_t place = sizeof(spec::vhdx::RegionTableHeader) + index * sizeof(spec::vhdx::RegionTableEntry);
    spec::vhdx::RegionTableEntry entry;
    std::memcpy(&entry, table.data() + place, sizeof entry);
    change(entry);
    std::memcpy(table.data() + place, &entry, sizeof entry);
    spec::vhdx::RegionTableHeader header = {};
    header.signature = spec::vhdx::kRegionTableSignature;
    header.entry_count = count;
    std::memcpy(table.data(), &header, sizeof header);
    header.checksum = crc32c(table);
    std::memcpy(table.data(), &header, sizeof header);
    for (const std::uint64_t offset : spec::vhdx::kRegionTableOffsets) history_->now.write(offset, table);
  }
  std::uint64_t metadata_offset() { return 2U << 20; }
  std::uint64_t bat_offset() { return 3U << 20; }
};

}  // namespace bygone::disk
