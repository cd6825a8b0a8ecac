// Changes of a VHDX file as a whole: its size, its parent. Each becomes visible with one log entry.
#include <algorithm>
#include <cstring>

#include "disk/vhdx/vhdx_layout.h"

namespace bygone::disk {
namespace {

namespace vhdx = spec::vhdx;
using vhdx::BlockState;

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

Result<void> VhdxLayout::resize(std::uint64_t size_bytes) {
  VhdxMetadata next = metadata_;
  next.size_bytes = size_bytes;
  BYGONE_CHECK(check_vhdx_metadata(next));
  if (size_bytes == metadata_.size_bytes) return {};
  BYGONE_CHECK(begin_modification());
  return size_bytes > metadata_.size_bytes ? grow(next) : shrink(next);
}

Result<void> VhdxLayout::grow(const VhdxMetadata& next) {
  const std::uint64_t old_count = metadata_.bat_entry_count();
  const std::uint64_t new_count = next.bat_entry_count();
  if (new_count * sizeof(le64) > regions_.bat.length) {
    BYGONE_CHECK(move_bat(round_up(new_count * sizeof(le64), vhdx::kMebibyte), old_count));
  } else {
    for (std::uint64_t index = old_count; index < new_count; ++index) {  // a shrink that was cut short may have left some
      BYGONE_ASSIGN(const auto bytes, pages_->read(regions_.bat.offset + index * sizeof(le64), sizeof(le64)));
      if (std::ranges::any_of(bytes, [](std::byte byte) { return byte != std::byte{0}; })) BYGONE_CHECK(set_entry(index, {}));
    }
  }
  if (next.leaves_blocks_allocated) {
    const std::uint64_t added = next.block_count() - metadata_.block_count();
    BYGONE_ASSIGN(std::uint64_t place, append(added * next.block_bytes));
    BYGONE_CHECK(file_.allocate(place, added * next.block_bytes));
    for (std::uint64_t block = metadata_.block_count(); block < next.block_count(); ++block) {
      BYGONE_CHECK(set_entry(payload_index(block), {BlockState::kFullyPresent, place}));
      place += next.block_bytes;
    }
    BYGONE_CHECK(commit_now());
  }
  return set_size(next);
}

Result<void> VhdxLayout::shrink(const VhdxMetadata& next) {
  const std::uint64_t old_blocks = metadata_.block_count();
  BYGONE_CHECK(set_size(next));
  for (std::uint64_t index = next.block_count(); index < old_blocks; ++index) {
    BYGONE_ASSIGN(const Block gone, block(index));
    const bool holds_space = gone.state == BlockState::kFullyPresent || gone.state == BlockState::kPartiallyPresent;
    if (holds_space) pending_free_.push_back(gone.file_offset);
    BYGONE_CHECK(set_entry(payload_index(index), {}));
  }
  // What the last block holds past the new end must not come back when the disk grows again.
  const std::uint64_t inside = next.size_bytes % next.block_bytes;
  if (inside != 0) {
    BYGONE_ASSIGN(const Block last, block(next.block_count() - 1));
    const bool holds_space = last.state == BlockState::kFullyPresent || last.state == BlockState::kPartiallyPresent;
    if (holds_space) BYGONE_CHECK(file_.discard(last.file_offset + inside, next.block_bytes - inside));
  }
  return commit_now();
}

Result<void> VhdxLayout::set_size(const VhdxMetadata& next) {
  const le64 size = next.size_bytes;
  BYGONE_CHECK(change_bytes(metadata_.size_item_offset, bytes_of(size)));
  BYGONE_CHECK(commit_now());
  metadata_ = next;
  return {};
}

/// Copies the table to the end of the file and names the new place in both region tables; the next commit makes it so.
Result<void> VhdxLayout::move_bat(std::uint64_t length, std::uint64_t entry_count) {
  BYGONE_CHECK(commit_now());
  BYGONE_CHECK(file_.flush());
  BYGONE_ASSIGN(const std::uint64_t place, append(length));
  std::vector<std::byte> buffer(vhdx::kMebibyte);
  const std::uint64_t used = entry_count * sizeof(le64);
  for (std::uint64_t done = 0; done < used; done += buffer.size()) {
    const std::span<std::byte> part = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), used - done));
    BYGONE_CHECK(file_.read(regions_.bat.offset + done, part));
    BYGONE_CHECK(file_.write(place + done, part));
  }
  VhdxRegions next = regions_;
  next.bat.offset = place;
  next.bat.length = static_cast<std::uint32_t>(length);
  const std::vector<std::byte> table = make_vhdx_region_table(next);
  for (const std::uint64_t offset : vhdx::kRegionTableOffsets) BYGONE_CHECK(change_bytes(offset, table));
  regions_ = next;
  return {};
}

Result<void> VhdxLayout::set_parent(const VhdxParentLocator& parent) {
  const std::vector<std::byte> locator = make_vhdx_parent_locator(parent);
  std::vector<std::byte> table(vhdx::kMetadataTableBytes);
  for (std::size_t done = 0; done < table.size(); done += kPageBytes) {
    BYGONE_ASSIGN(const auto page, pages_->read(regions_.metadata.offset + done, kPageBytes));
    std::ranges::copy(page, table.begin() + static_cast<std::ptrdiff_t>(done));
  }
  vhdx::MetadataTableHeader header;
  std::memcpy(&header, table.data(), sizeof header);
  std::uint64_t used_end = vhdx::kMetadataTableBytes;
  std::optional<std::size_t> place;
  for (std::size_t i = 0; i < header.entry_count; ++i) {
    vhdx::MetadataTableEntry entry;
    const std::size_t at = sizeof header + i * sizeof entry;
    std::memcpy(&entry, table.data() + at, sizeof entry);
    if (entry.item_id == vhdx::kParentLocatorItem) {
      place = at;
    } else {
      used_end = std::max(used_end, round_up(std::uint64_t{entry.offset} + entry.length, 8));
    }
  }
  if (!place) return fail(ErrorCode::kInvalidArgument, "{} has no parent to replace", file_.name());
  vhdx::MetadataTableEntry entry;
  std::memcpy(&entry, table.data() + *place, sizeof entry);
  if (used_end + locator.size() > regions_.metadata.length) {
    return fail(ErrorCode::kNoSpace, "the metadata region of {} has no room for the parent's paths", file_.name());
  }
  keeps_data_write_guid_ = true;  // the disk's content is what it was
  BYGONE_CHECK(begin_modification());
  entry.offset = static_cast<std::uint32_t>(used_end);
  entry.length = static_cast<std::uint32_t>(locator.size());
  BYGONE_CHECK(change_bytes(regions_.metadata.offset + used_end, locator));
  BYGONE_CHECK(change_bytes(regions_.metadata.offset + *place, bytes_of(entry)));
  BYGONE_CHECK(commit_now());
  metadata_.parent = parent;
  return {};
}

Result<void> VhdxLayout::set_data_write_guid(const Guid& guid) {
  keeps_data_write_guid_ = true;
  header_.data_write_guid = guid;
  BYGONE_CHECK(begin_modification());
  return file_.flush();
}

Result<void> VhdxLayout::adopt_regions(const VhdxLayout& source) {
  std::vector<std::byte> buffer(vhdx::kMebibyte);
  const auto copy = [&](const VhdxRegion& from, std::uint64_t to) -> Result<void> {
    for (std::uint64_t done = 0; done < from.length; done += buffer.size()) {
      const std::span<std::byte> part = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), from.length - done));
      BYGONE_CHECK(source.file_.read(from.offset + done, part));
      BYGONE_CHECK(file_.write(to + done, part));
    }
    return {};
  };
  VhdxRegions next = regions_;
  if (source.regions_.metadata.length > next.metadata.length) {
    next.metadata.length = source.regions_.metadata.length;
    BYGONE_ASSIGN(next.metadata.offset, append(next.metadata.length));
  }
  BYGONE_CHECK(copy(source.regions_.metadata, next.metadata.offset));
  for (VhdxRegion region : source.regions_.others) {
    const VhdxRegion from = region;
    BYGONE_ASSIGN(region.offset, append(round_up(region.length, vhdx::kMebibyte)));
    BYGONE_CHECK(copy(from, region.offset));
    next.others.push_back(region);
  }
  const std::vector<std::byte> table = make_vhdx_region_table(next);
  for (const std::uint64_t offset : vhdx::kRegionTableOffsets) BYGONE_CHECK(file_.write(offset, table));
  BYGONE_CHECK(file_.flush());
  regions_ = next;
  const MetadataReader read = [this](std::uint64_t offset, std::span<std::byte> into) { return file_.read(offset, into); };
  BYGONE_ASSIGN(metadata_, read_vhdx_metadata(regions_.metadata, read, file_.name()));
  return {};
}

Result<void> VhdxLayout::repair_headers() {
  if (header_.is_valid[0] && header_.is_valid[1] && regions_.is_valid[0] && regions_.is_valid[1]) return {};
  keeps_data_write_guid_ = true;
  BYGONE_CHECK(begin_modification());
  const std::vector<std::byte> table = make_vhdx_region_table(regions_);
  for (const std::uint64_t offset : vhdx::kRegionTableOffsets) BYGONE_CHECK(change_bytes(offset, table));
  BYGONE_CHECK(commit_now());
  regions_.is_valid = {true, true};
  return {};
}

}  // namespace bygone::disk
