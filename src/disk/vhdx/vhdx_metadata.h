// The metadata region of a VHDX file ([MS-VHDX] 2.6): what disk it is. Threading: values.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "disk/vhdx/vhdx_header.h"

namespace bygone::disk {

/// A differencing image's parent, by the keys of 2.6.2.6.3: parent_linkage, parent_linkage2, relative_path, volume_path,
/// absolute_win32_path.
using VhdxParentLocator = std::map<std::string, std::string>;

struct VhdxMetadata {
  std::uint32_t block_bytes = 0;
  bool leaves_blocks_allocated = false;
  bool has_parent = false;
  std::uint64_t size_bytes = 0;
  Guid disk_id;
  std::uint32_t logical_sector_bytes = 0;
  std::uint32_t physical_sector_bytes = 0;
  VhdxParentLocator parent;
  std::uint64_t size_item_offset = 0;  ///< in the file

  [[nodiscard]] std::uint64_t chunk_ratio() const {
    return spec::vhdx::kSectorsPerBitmapBlock * logical_sector_bytes / block_bytes;
  }
  [[nodiscard]] std::uint64_t block_count() const { return (size_bytes + block_bytes - 1) / block_bytes; }
  /// Entries of the block allocation table, sector bitmap blocks included (2.5).
  [[nodiscard]] std::uint64_t bat_entry_count() const;
};

/// Errors: kCorrupt, kUnsupported (a required item that we don't know, named).
[[nodiscard]] Result<VhdxMetadata> read_vhdx_metadata(const VhdxRegion& region, const MetadataReader& read, const std::string& name);
/// Errors: kInvalidArgument when the values break a rule of the format.
[[nodiscard]] Result<void> check_vhdx_metadata(const VhdxMetadata& metadata);
/// The region's first bytes: the table and the items behind it.
[[nodiscard]] std::vector<std::byte> make_vhdx_metadata(const VhdxMetadata& metadata);
[[nodiscard]] std::vector<std::byte> make_vhdx_parent_locator(const VhdxParentLocator& parent);
[[nodiscard]] Result<VhdxParentLocator> parse_vhdx_parent_locator(std::span<const std::byte> bytes);

}  // namespace bygone::disk
