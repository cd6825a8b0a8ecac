#include "disk/vhdx/vhdx_layout.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "disk/parent_path.h"

namespace bygone::disk {
namespace {

namespace vhdx = spec::vhdx;
using vhdx::BlockState;

/// Up to this size of the block allocation table, unused space inside the file is looked for before the file grows.
constexpr std::uint64_t kSearchedBatBytes = 4U << 20;
constexpr std::size_t kManyChangedPages = 1024;

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) { return (value + unit - 1) / unit * unit; }

bool holds_space(BlockState state) { return state == BlockState::kFullyPresent || state == BlockState::kPartiallyPresent; }

}  // namespace

class VhdxLayout::Commit final : public LayoutCommit {
 public:
  Commit(VhdxLogWriter& log, std::vector<PageImage> changed_pages, std::vector<std::uint64_t> freed_places)
      : pages(std::move(changed_pages)), freed(std::move(freed_places)), log_(log) {}
  Result<void> write() override { return log_.commit(pages); }

  std::vector<PageImage> pages;
  std::vector<std::uint64_t> freed;

 private:
  VhdxLogWriter& log_;
};

VhdxLayout::VhdxLayout(File& file) : file_(file) {}

Result<std::unique_ptr<VhdxLayout>> VhdxLayout::open(File& file) {
  std::unique_ptr<VhdxLayout> layout(new VhdxLayout(file));
  BYGONE_CHECK(layout->load());
  return layout;
}

Result<void> VhdxLayout::load() {
  BYGONE_ASSIGN(header_, read_vhdx_header(file_));
  if (!header_.log_guid.is_zero()) {
    BYGONE_ASSIGN(const LogContents contents, read_vhdx_log(file_, header_));
    was_replayed_ = !contents.updates.empty();
    if (file_.is_read_only()) {
      overlay_.emplace(contents);
    } else {
      header_.file_write_guid = Guid::random();  // 2.2.2: before anything changes, replay included
      BYGONE_CHECK(write_vhdx_header(file_, header_));
      BYGONE_CHECK(replay_vhdx_log(file_, contents));
      header_.log_guid = Guid{};
      BYGONE_CHECK(write_vhdx_header(file_, header_));
    }
  }
  const MetadataReader read = [this](std::uint64_t offset, std::span<std::byte> into) -> Result<void> {
    BYGONE_CHECK(file_.read(offset, into));
    if (overlay_) overlay_->apply(offset, into);
    return {};
  };
  BYGONE_ASSIGN(regions_, read_vhdx_regions(file_, read));
  BYGONE_ASSIGN(metadata_, read_vhdx_metadata(regions_.metadata, read, file_.name()));
  ratio_ = metadata_.chunk_ratio();
  BYGONE_CHECK(check_log_is_apart());
  if (metadata_.bat_entry_count() * sizeof(le64) > regions_.bat.length) {
    return fail(ErrorCode::kCorrupt, "{}: the block allocation table has no room for {} entries", file_.name(),
                metadata_.bat_entry_count());
  }
  pages_.emplace(read);
  BYGONE_ASSIGN(const std::uint64_t file_bytes, file_.size());
  end_ = round_up(file_bytes, vhdx::kAlignment);
  return {};
}

Result<void> VhdxLayout::check_log_is_apart() const {
  const auto overlaps = [this](const VhdxRegion& region) {
    return header_.log_offset < region.offset + region.length && region.offset < header_.log_offset + header_.log_length;
  };
  const auto check = [&](const VhdxRegion& region) -> Result<void> {
    if (!overlaps(region)) return {};
    return fail(ErrorCode::kCorrupt, "{}: the log and the region {} share bytes of the file", file_.name(), region.guid.text());
  };
  BYGONE_CHECK(check(regions_.bat));
  BYGONE_CHECK(check(regions_.metadata));
  for (const VhdxRegion& region : regions_.others) BYGONE_CHECK(check(region));
  return {};
}

BlockDeviceInfo VhdxLayout::info() const {
  BlockDeviceInfo info;
  info.size_bytes = metadata_.size_bytes;
  info.logical_sector_bytes = metadata_.logical_sector_bytes;
  info.physical_sector_bytes = metadata_.physical_sector_bytes;
  info.is_read_only = file_.is_read_only();
  info.optimal_unmap_bytes = info.is_read_only ? 0 : metadata_.block_bytes;
  info.reads_zero_after_unmap = !metadata_.has_parent && !info.is_read_only;
  info.identity = metadata_.disk_id;
  return info;
}

std::string_view VhdxLayout::kind() const {
  return metadata_.has_parent ? "VHDX, differencing" : metadata_.leaves_blocks_allocated ? "VHDX, fixed" : "VHDX, dynamic";
}

std::optional<ParentReference> VhdxLayout::parent() const {
  if (!metadata_.has_parent) return {};
  ParentReference reference;
  const auto value = [this](const char* key) {
    const auto found = metadata_.parent.find(key);
    return found == metadata_.parent.end() ? std::string() : found->second;
  };
  for (const char* key : {"relative_path", "absolute_win32_path", "volume_path"}) {
    add_parent_paths(value(key), reference.paths);
  }
  for (const char* key : {"parent_linkage", "parent_linkage2"}) {
    const Result<Guid> guid = Guid::parse(value(key));
    if (guid && !guid->is_zero()) reference.identities.push_back(*guid);
  }
  return reference;
}

// The block allocation table

Result<VhdxLayout::Block> VhdxLayout::entry(std::uint64_t bat_index, std::uint64_t space_bytes) {
  BYGONE_ASSIGN(const auto bytes, pages_->read(regions_.bat.offset + bat_index * sizeof(le64), sizeof(le64)));
  le64 wire;
  std::memcpy(&wire, bytes.data(), sizeof wire);
  const Block block{static_cast<BlockState>(wire & vhdx::kBatStateMask), wire & vhdx::kBatOffsetMask, (wire & vhdx::kBatReservedMask) != 0};
  const auto state = static_cast<unsigned>(block.state);
  if (state == 4 || state == 5) {
    return fail(ErrorCode::kCorrupt, "{}: entry {} of the block allocation table has the unknown state {}", file_.name(),
                bat_index, state);
  }
  if (holds_space(block.state)) BYGONE_CHECK(check_space(bat_index, block.file_offset, space_bytes));
  return block;
}

Result<void> VhdxLayout::check_space(std::uint64_t bat_index, std::uint64_t offset, std::uint64_t length) const {
  const auto overlaps = [&](std::uint64_t start, std::uint64_t size) { return offset < start + size && start < offset + length; };
  const bool is_sound = offset >= vhdx::kHeaderSectionBytes && offset < end_ && length <= end_ - offset &&
                        !overlaps(header_.log_offset, header_.log_length) &&
                        !overlaps(regions_.bat.offset, regions_.bat.length) &&
                        !overlaps(regions_.metadata.offset, regions_.metadata.length) &&
                        std::ranges::none_of(regions_.others, [&](const VhdxRegion& region) { return overlaps(region.offset, region.length); });
  if (is_sound) return {};
  return fail(ErrorCode::kCorrupt, "{}: entry {} of the block allocation table points to {:#x}, where no block can be",
              file_.name(), bat_index, offset);
}

Result<void> VhdxLayout::set_entry(std::uint64_t bat_index, Block block) {
  BYGONE_ASSIGN(const auto bytes, pages_->change(regions_.bat.offset + bat_index * sizeof(le64), sizeof(le64)));
  const le64 wire = block.file_offset | static_cast<std::uint64_t>(block.state);
  std::memcpy(bytes.data(), &wire, sizeof wire);
  return {};
}

Result<VhdxLayout::Block> VhdxLayout::block(std::uint64_t index) { return entry(payload_index(index), metadata_.block_bytes); }

Result<VhdxLayout::Block> VhdxLayout::bitmap_block(std::uint64_t chunk) {
  BYGONE_ASSIGN(const Block block, entry(bitmap_index(chunk), vhdx::kBitmapBlockBytes));
  if (block.state != BlockState::kFullyPresent && block.state != BlockState::kNotPresent) {
    return fail(ErrorCode::kCorrupt, "{}: sector bitmap block {} has the state {}", file_.name(), chunk,
                static_cast<unsigned>(block.state));
  }
  return block;
}

// Space

Result<std::uint64_t> VhdxLayout::append(std::uint64_t length) {
  const std::uint64_t place = end_;
  BYGONE_CHECK(file_.resize(place + length));
  end_ = place + length;
  return place;
}

Result<std::uint64_t> VhdxLayout::allocate_block() {
  if (!knows_free_space_) BYGONE_CHECK(find_free_space());
  if (free_.empty()) return append(metadata_.block_bytes);
  const std::uint64_t place = free_.back();
  BYGONE_CHECK(file_.discard(place, metadata_.block_bytes));
  free_.pop_back();
  return place;
}

/// Looks for places that no table refers to. Sessions that ended in a power cut leave such, and so do trimmed blocks.
Result<void> VhdxLayout::find_free_space() {
  knows_free_space_ = true;
  if (regions_.bat.length > kSearchedBatBytes) return {};
  struct Range {
    std::uint64_t start, end;
  };
  std::vector<Range> used = {{0, vhdx::kHeaderSectionBytes}, {header_.log_offset, header_.log_offset + header_.log_length}};
  const auto add_region = [&used](const VhdxRegion& region) { used.push_back({region.offset, region.offset + region.length}); };
  add_region(regions_.bat);
  add_region(regions_.metadata);
  for (const VhdxRegion& region : regions_.others) add_region(region);
  for (std::uint64_t index = 0; index < metadata_.bat_entry_count(); ++index) {
    const bool is_bitmap = index % (ratio_ + 1) == ratio_;
    const std::uint64_t length = is_bitmap ? vhdx::kBitmapBlockBytes : std::uint64_t{metadata_.block_bytes};
    BYGONE_ASSIGN(const Block block, entry(index, length));
    // Blocks without content may keep a place, which nothing has checked yet.
    const bool is_inside = block.file_offset < end_ && length <= end_ - block.file_offset;
    if (block.file_offset != 0 && is_inside) used.push_back({block.file_offset, block.file_offset + length});
  }
  for (const std::uint64_t place : pending_free_) used.push_back({place, place + metadata_.block_bytes});
  std::ranges::sort(used, {}, &Range::start);
  std::uint64_t reached = 0;
  for (const Range& range : used) {
    for (; range.start >= reached && range.start - reached >= metadata_.block_bytes; reached += metadata_.block_bytes) {
      free_.push_back(reached);
    }
    reached = std::max(reached, range.end);
  }
  for (; reached < end_ && end_ - reached >= metadata_.block_bytes; reached += metadata_.block_bytes) free_.push_back(reached);
  std::ranges::reverse(free_);  // the lowest first
  return {};
}

// Sector bitmaps: a bit a sector, the lowest bit first; set means that the sector is in this image

Result<std::uint64_t> VhdxLayout::ensure_bitmap(std::uint64_t block) {
  const std::uint64_t chunk = block / ratio_;
  BYGONE_ASSIGN(const Block bitmap, bitmap_block(chunk));
  if (bitmap.file_offset != 0 && bitmap.state == BlockState::kFullyPresent) return bitmap.file_offset;
  BYGONE_ASSIGN(const std::uint64_t place, append(vhdx::kBitmapBlockBytes));
  BYGONE_CHECK(set_entry(bitmap_index(chunk), {BlockState::kFullyPresent, place}));
  return place;
}

Result<VhdxLayout::BitRun> VhdxLayout::bits_at(std::uint64_t block, std::uint64_t sector, std::uint64_t limit) {
  BYGONE_ASSIGN(const Block bitmap, bitmap_block(block / ratio_));
  if (bitmap.state != BlockState::kFullyPresent) {
    return fail(ErrorCode::kCorrupt, "{}: block {} is partially present and has no sector bitmap", file_.name(), block);
  }
  const std::uint64_t sectors_per_block = metadata_.block_bytes / metadata_.logical_sector_bytes;
  const std::uint64_t first = block % ratio_ * sectors_per_block + sector;
  BitRun run;
  // One page of bits at most: the caller comes back for the rest.
  limit = std::min(limit, kPageBytes * 8 - first % (kPageBytes * 8));
  const std::uint64_t first_byte = first / 8;
  const std::uint64_t last_byte = (first + limit - 1) / 8;
  BYGONE_ASSIGN(const auto bytes, pages_->read(bitmap.file_offset + first_byte, last_byte - first_byte + 1));
  const auto bit = [&](std::uint64_t index) {
    return (std::to_integer<unsigned>(bytes[index / 8 - first_byte]) >> (index % 8) & 1) != 0;
  };
  run.is_set = bit(first);
  const std::byte uniform = run.is_set ? std::byte{0xFF} : std::byte{0};
  while (run.sectors < limit) {
    const std::uint64_t index = first + run.sectors;
    if (index % 8 == 0 && limit - run.sectors >= 8 && bytes[index / 8 - first_byte] == uniform) {
      run.sectors += 8;
    } else if (bit(index) == run.is_set) {
      ++run.sectors;
    } else {
      break;
    }
  }
  return run;
}

Result<void> VhdxLayout::set_bits(std::uint64_t block, std::uint64_t first, std::uint64_t count, bool value) {
  BYGONE_ASSIGN(const Block bitmap, bitmap_block(block / ratio_));
  const std::uint64_t sectors_per_block = metadata_.block_bytes / metadata_.logical_sector_bytes;
  std::uint64_t index = block % ratio_ * sectors_per_block + first;
  const std::uint64_t end = index + count;
  while (index < end) {
    BYGONE_ASSIGN(const auto bytes, pages_->change(bitmap.file_offset + index / 8, 1));
    if (index % 8 == 0 && end - index >= 8) {
      // Whole bytes to the end of this page.
      const std::uint64_t count_in_page = std::min((end - index) / 8, kPageBytes - index / 8 % kPageBytes);
      BYGONE_ASSIGN(const auto run, pages_->change(bitmap.file_offset + index / 8, count_in_page));
      std::ranges::fill(run, value ? std::byte{0xFF} : std::byte{0});
      index += 8 * count_in_page;
      continue;
    }
    const auto mask = static_cast<std::byte>(1U << (index % 8));
    bytes[0] = value ? bytes[0] | mask : bytes[0] & ~mask;
    ++index;
  }
  return {};
}

// Requests

Result<Extent> VhdxLayout::find(std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t index = offset / metadata_.block_bytes;
  const std::uint64_t inside = offset % metadata_.block_bytes;
  length = std::min(length, metadata_.block_bytes - inside);
  BYGONE_ASSIGN(const Block found, block(index));
  switch (found.state) {
    case BlockState::kFullyPresent: return Extent{Extent::Kind::kFile, length, found.file_offset + inside};
    case BlockState::kNotPresent:
      return Extent{metadata_.has_parent ? Extent::Kind::kParent : Extent::Kind::kZero, length, 0};
    case BlockState::kPartiallyPresent: break;
    default: return Extent{Extent::Kind::kZero, length, 0};
  }
  if (!metadata_.has_parent) {
    return fail(ErrorCode::kCorrupt, "{}: block {} is partially present in an image without a parent", file_.name(), index);
  }
  const std::uint32_t sector_bytes = metadata_.logical_sector_bytes;
  BYGONE_ASSIGN(const BitRun run, bits_at(index, inside / sector_bytes, (length + sector_bytes - 1) / sector_bytes));
  length = std::min(length, run.sectors * sector_bytes);
  return run.is_set ? Extent{Extent::Kind::kFile, length, found.file_offset + inside} : Extent{Extent::Kind::kParent, length, 0};
}

std::string VhdxLayout::stamp_content() {
  if (keeps_data_write_guid_) return {};
  is_stamped_ = true;
  return header_.data_write_guid.text();
}

Result<void> VhdxLayout::begin_modification() {
  if (log_ && is_stamped_) {
    VhdxHeader next = header_;
    next.data_write_guid = Guid::random();
    BYGONE_CHECK(write_vhdx_header(file_, next));
    header_ = next;
    is_stamped_ = false;
  }
  if (log_) return {};
  const Guid guid = Guid::random();
  BYGONE_ASSIGN(const VhdxLogWriter log, VhdxLogWriter::create(file_, header_.log_offset, header_.log_length, guid));
  VhdxHeader next = header_;
  next.log_guid = guid;
  next.file_write_guid = Guid::random();
  if (!keeps_data_write_guid_) next.data_write_guid = Guid::random();
  BYGONE_CHECK(write_vhdx_header(file_, next));
  header_ = next;
  is_stamped_ = false;
  log_.emplace(log);
  return {};
}

Result<void> VhdxLayout::allocate_partial(std::uint64_t index) {
  BYGONE_CHECK(ensure_bitmap(index));
  BYGONE_ASSIGN(const std::uint64_t place, allocate_block());
  const std::uint64_t sectors = metadata_.block_bytes / metadata_.logical_sector_bytes;
  for (std::uint64_t sector = 0; sector < sectors;) {  // bits of an earlier life of the block
    BYGONE_ASSIGN(const BitRun run, bits_at(index, sector, sectors - sector));
    if (run.is_set) BYGONE_CHECK(set_bits(index, sector, run.sectors, false));
    sector += run.sectors;
  }
  return set_entry(payload_index(index), {BlockState::kPartiallyPresent, place});
}

Result<WriteTarget> VhdxLayout::prepare_write(std::uint64_t offset, std::uint64_t length) {
  BYGONE_CHECK(begin_modification());
  const std::uint64_t index = offset / metadata_.block_bytes;
  const std::uint64_t inside = offset % metadata_.block_bytes;
  length = std::min(length, metadata_.block_bytes - inside);
  BYGONE_ASSIGN(Block found, block(index));
  if (!holds_space(found.state)) {
    if (metadata_.has_parent && found.state == BlockState::kNotPresent) {
      // Present sector by sector, as their payload arrives: until then the parent's bytes are what is there.
      BYGONE_CHECK(allocate_partial(index));
    } else {
      BYGONE_ASSIGN(const std::uint64_t place, allocate_block());
      BYGONE_CHECK(set_entry(payload_index(index), {BlockState::kFullyPresent, place}));
    }
    BYGONE_ASSIGN(found, block(index));
  }
  return WriteTarget{length, found.file_offset + inside, found.state == BlockState::kPartiallyPresent};
}

Result<void> VhdxLayout::finish_write(std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t index = offset / metadata_.block_bytes;
  BYGONE_ASSIGN(const Block found, block(index));
  if (found.state != BlockState::kPartiallyPresent) return {};
  if (length == metadata_.block_bytes) {
    return set_entry(payload_index(index), {BlockState::kFullyPresent, found.file_offset});
  }
  const std::uint32_t sector_bytes = metadata_.logical_sector_bytes;
  const std::uint64_t first = offset % metadata_.block_bytes / sector_bytes;
  const std::uint64_t count = length / sector_bytes;
  for (std::uint64_t done = 0; done < count;) {  // bits that are set already make no change to commit
    BYGONE_ASSIGN(const BitRun run, bits_at(index, first + done, count - done));
    if (!run.is_set) BYGONE_CHECK(set_bits(index, first + done, run.sectors, true));
    done += run.sectors;
  }
  return {};
}

Result<ZeroTarget> VhdxLayout::zero_whole_block(std::uint64_t index, const Block& found) {
  const std::uint64_t length = std::min<std::uint64_t>(metadata_.block_bytes, metadata_.size_bytes - index * metadata_.block_bytes);
  BYGONE_CHECK(begin_modification());
  if (holds_space(found.state)) pending_free_.push_back(found.file_offset);
  BYGONE_CHECK(set_entry(payload_index(index), {BlockState::kZero, 0}));
  return ZeroTarget{ZeroTarget::Action::kNothing, length, 0, false};
}

Result<ZeroTarget> VhdxLayout::prepare_zero(std::uint64_t offset, std::uint64_t length, bool is_hint, bool is_in_use) {
  const std::uint64_t index = offset / metadata_.block_bytes;
  const std::uint64_t inside = offset % metadata_.block_bytes;
  const std::uint64_t whole = std::min<std::uint64_t>(metadata_.block_bytes, metadata_.size_bytes - index * metadata_.block_bytes);
  BYGONE_ASSIGN(const Block found, block(index));
  const bool reads_parent = metadata_.has_parent && found.state == BlockState::kNotPresent;
  if (!holds_space(found.state) && !reads_parent) {
    return ZeroTarget{ZeroTarget::Action::kNothing, std::min(length, metadata_.block_bytes - inside), 0, false};
  }
  if (inside == 0 && length >= whole && !is_in_use && !metadata_.leaves_blocks_allocated) return zero_whole_block(index, found);
  BYGONE_CHECK(begin_modification());
  const ZeroTarget::Action action =
      metadata_.leaves_blocks_allocated ? ZeroTarget::Action::kZeroFile : ZeroTarget::Action::kDiscardFile;
  BYGONE_ASSIGN(const Extent extent, find(offset, length));
  if (extent.kind == Extent::Kind::kFile) return ZeroTarget{action, extent.length, extent.file_offset, false};
  if (is_hint) return ZeroTarget{ZeroTarget::Action::kNothing, extent.length, 0, false};
  // The parent's bytes show through: zeros of our own take their place.
  BYGONE_ASSIGN(const WriteTarget target, prepare_write(offset, extent.length));
  return ZeroTarget{action, target.length, target.file_offset, target.is_reported};
}

// Commits

std::unique_ptr<LayoutCommit> VhdxLayout::begin_commit() {
  if (!log_ || pages_->changed_count() == 0) return nullptr;
  return std::make_unique<Commit>(*log_, pages_->begin_commit(), std::exchange(pending_free_, {}));
}

void VhdxLayout::end_commit(LayoutCommit& commit, bool is_durable) {
  auto& ended = static_cast<Commit&>(commit);
  pages_->end_commit(ended.pages, is_durable);
  if (is_durable) {
    for (const std::uint64_t place : ended.freed) {
      // Only the host's space is at stake here: the place is emptied again before it is used.
      [[maybe_unused]] const Result<void> ignored = file_.discard(place, metadata_.block_bytes);
    }
    if (knows_free_space_) free_.insert(free_.end(), ended.freed.begin(), ended.freed.end());
  } else {
    pending_free_.insert(pending_free_.end(), ended.freed.begin(), ended.freed.end());
  }
}

bool VhdxLayout::wants_commit() const { return pages_->changed_count() >= kManyChangedPages; }

Result<void> VhdxLayout::close() {
  if (!log_) return {};
  BYGONE_CHECK(file_.flush());  // what the log holds is in its places
  header_.log_guid = Guid{};
  BYGONE_CHECK(write_vhdx_header(file_, header_));
  log_.reset();
  return {};
}

Result<void> VhdxLayout::commit_now() {
  BYGONE_CHECK(file_.flush());
  const std::unique_ptr<LayoutCommit> commit = begin_commit();
  if (!commit) return {};
  Result<void> result = commit->write();
  end_commit(*commit, result.has_value());
  return result;
}

Result<void> VhdxLayout::change_bytes(std::uint64_t file_offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t part = std::min<std::size_t>(bytes.size(), kPageBytes - file_offset % kPageBytes);
    BYGONE_ASSIGN(const auto place, pages_->change(file_offset, part));
    std::ranges::copy(bytes.first(part), place.begin());
    file_offset += part;
    bytes = bytes.subspan(part);
  }
  return {};
}

}  // namespace bygone::disk
