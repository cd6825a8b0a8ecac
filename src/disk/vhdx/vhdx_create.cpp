#include "disk/vhdx/vhdx_create.h"

#include <algorithm>
#include <cstring>

namespace bygone::disk {
namespace {

namespace vhdx = spec::vhdx;

constexpr std::uint64_t kLogOffset = 1 * vhdx::kMebibyte;
constexpr std::uint64_t kMetadataOffset = 2 * vhdx::kMebibyte;
constexpr std::uint64_t kBatOffset = 3 * vhdx::kMebibyte;

Result<void> allocate_all_blocks(File& file, const VhdxMetadata& metadata, std::uint64_t payload_offset) {
  BYGONE_CHECK(file.allocate(payload_offset, metadata.block_count() * metadata.block_bytes));
  constexpr std::uint64_t kEntriesAtOnce = 8192;
  std::vector<le64> entries;
  std::uint64_t written = 0;
  std::uint64_t block = 0;
  const std::uint64_t count = metadata.bat_entry_count();
  for (std::uint64_t index = 0; index < count; ++index) {
    const bool is_bitmap = index % (metadata.chunk_ratio() + 1) == metadata.chunk_ratio();
    entries.push_back(is_bitmap ? 0
                                : (payload_offset + block++ * metadata.block_bytes) |
                                      static_cast<std::uint64_t>(vhdx::BlockState::kFullyPresent));
    if (entries.size() < kEntriesAtOnce && index + 1 < count) continue;
    BYGONE_CHECK(file.write(kBatOffset + written * sizeof(le64), std::as_bytes(std::span(entries))));
    written += entries.size();
    entries.clear();
  }
  return {};
}

}  // namespace

Result<void> create_vhdx(File& file, const VhdxMetadata& metadata, Guid data_write_guid) {
  BYGONE_CHECK(check_vhdx_metadata(metadata));
  const std::uint64_t bat_bytes =
      (metadata.bat_entry_count() * sizeof(le64) + vhdx::kMebibyte - 1) / vhdx::kMebibyte * vhdx::kMebibyte;
  const std::uint64_t payload_offset = kBatOffset + bat_bytes;
  BYGONE_CHECK(file.resize(payload_offset));
  // A log without space on the host would fail when it is needed most.
  BYGONE_CHECK(file.allocate(0, kBatOffset));

  VhdxRegions regions;
  regions.bat = {vhdx::kBatRegion, kBatOffset, static_cast<std::uint32_t>(bat_bytes), true};
  regions.metadata = {vhdx::kMetadataRegion, kMetadataOffset, static_cast<std::uint32_t>(vhdx::kMebibyte), true};
  const std::vector<std::byte> table = make_vhdx_region_table(regions);
  for (const std::uint64_t offset : vhdx::kRegionTableOffsets) BYGONE_CHECK(file.write(offset, table));
  BYGONE_CHECK(file.write(kMetadataOffset, make_vhdx_metadata(metadata)));
  if (metadata.leaves_blocks_allocated) BYGONE_CHECK(allocate_all_blocks(file, metadata, payload_offset));

  VhdxHeader header;
  header.file_write_guid = Guid::random();
  header.data_write_guid = data_write_guid.is_zero() ? Guid::random() : data_write_guid;
  header.log_offset = kLogOffset;
  header.log_length = static_cast<std::uint32_t>(vhdx::kMebibyte);
  header.slot = 1;
  BYGONE_CHECK(write_vhdx_header(file, header));
  BYGONE_CHECK(write_vhdx_identifier(file));
  return file.flush();
}

}  // namespace bygone::disk
