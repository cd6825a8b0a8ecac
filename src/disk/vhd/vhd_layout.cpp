#include "disk/vhd/vhd_layout.h"

#include <algorithm>
#include <cstring>

#include "disk/parent_path.h"

namespace bygone::disk {
namespace {

namespace vhd = spec::vhd;

constexpr std::uint64_t kSector = vhd::kSectorBytes;
constexpr std::uint64_t kEntriesPerSector = kSector / sizeof(be32);
/// 64 MiB of table in memory; a 2040 GiB disk with the usual blocks needs 4 MiB.
constexpr std::uint64_t kMaximumEntries = 16U << 20;
constexpr std::size_t kMaximumCachedBitmaps = 16384;
/// Payload starts where pages of the host do.
constexpr std::uint64_t kPayloadAlignment = 4096;

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

class VhdLayout::Commit final : public LayoutCommit {
 public:
  struct Change {
    std::uint64_t file_offset;
    std::vector<std::byte> bytes;
  };
  explicit Commit(File& file) : file_(file) {}
  Result<void> write() override {
    for (const Change& change : changes) BYGONE_CHECK(file_.write(change.file_offset, change.bytes));
    return file_.flush();
  }

  std::vector<Change> changes;
  std::set<std::uint64_t> table_sectors;
  std::set<std::uint64_t> bitmaps;

 private:
  File& file_;
};

Result<std::unique_ptr<VhdLayout>> VhdLayout::open(File& file) {
  std::unique_ptr<VhdLayout> layout(new VhdLayout(file));
  BYGONE_CHECK(layout->load());
  return layout;
}

Result<void> VhdLayout::load() {
  BYGONE_ASSIGN(footer_, read_vhd_footer(file_));
  if (size_bytes() % kSector != 0) {
    return fail(ErrorCode::kCorrupt, "{}: the disk's {} bytes are not whole sectors", file_.name(), size_bytes());
  }
  if (is_fixed()) {
    if (size_bytes() > footer_.offset) {
      return fail(ErrorCode::kCorrupt, "{} has been cut off: {} bytes are left of {}", file_.name(), footer_.offset, size_bytes());
    }
    return {};
  }
  BYGONE_ASSIGN(header_, read_vhd_dynamic_header(file_, footer_.wire));
  block_bytes_ = header_.block_size;
  bitmap_bytes_ = round_up((block_bytes_ / kSector + 7) / 8, kSector);
  const std::uint64_t blocks = (size_bytes() + block_bytes_ - 1) / block_bytes_;
  if (blocks > kMaximumEntries) {
    return fail(ErrorCode::kUnsupported, "{} has {} blocks of {} bytes; over {} are not read", file_.name(), blocks, block_bytes_,
                kMaximumEntries);
  }
  std::vector<be32> wire(blocks);
  BYGONE_CHECK(file_.read(header_.table_offset, std::as_writable_bytes(std::span(wire))));
  table_.assign(wire.begin(), wire.end());
  is_full_.resize(blocks);
  if (!has_parent()) return {};
  BYGONE_ASSIGN(parent_, read_vhd_parent(file_, header_));
  if (parent_.unique_id.is_zero()) return fail(ErrorCode::kCorrupt, "{} has a parent and does not say which", file_.name());
  return {};
}

BlockDeviceInfo VhdLayout::info() const {
  BlockDeviceInfo info;
  info.size_bytes = size_bytes();
  info.logical_sector_bytes = kSector;
  info.physical_sector_bytes = 512;
  info.is_read_only = file_.is_read_only();
  info.optimal_unmap_bytes = is_fixed() || info.is_read_only ? 0 : static_cast<std::uint32_t>(kPayloadAlignment);
  info.reads_zero_after_unmap = !has_parent() && !info.is_read_only;
  info.identity = footer_.wire.unique_id;
  return info;
}

std::string_view VhdLayout::kind() const {
  return is_fixed() ? "VHD, fixed" : has_parent() ? "VHD, differencing" : "VHD, dynamic";
}

std::optional<ParentReference> VhdLayout::parent() const {
  if (!has_parent()) return {};
  ParentReference reference;
  add_parent_paths(parent_.relative_path, reference.paths);
  add_parent_paths(parent_.absolute_path, reference.paths);
  add_parent_paths(parent_.name, reference.paths);
  reference.identities.push_back(parent_.unique_id);
  if (parent_.time_stamp != 0) reference.written_at = std::int64_t{parent_.time_stamp} + vhd::kEpochUnixSeconds;
  return reference;
}

Result<void> VhdLayout::check_entry(std::uint64_t block) const {
  const std::uint64_t offset = bitmap_offset(block);
  const std::uint64_t length = bitmap_bytes_ + block_bytes_;
  const std::uint64_t table = header_.table_offset;
  const std::uint64_t table_end = table + round_up(std::uint64_t{header_.max_table_entries} * sizeof(be32), kSector);
  const bool is_sound = offset >= sizeof(vhd::Footer) + sizeof(vhd::DynamicHeader) && offset <= footer_.offset &&
                        length <= footer_.offset - offset && (offset >= table_end || offset + length <= table);
  if (is_sound) return {};
  return fail(ErrorCode::kCorrupt, "{}: entry {} of the block allocation table points to {:#x}, where no block can be",
              file_.name(), block, offset);
}

// Space

Result<void> VhdLayout::allocate(std::uint64_t block) {
  // The bitmap covers the old footer; the payload starts behind it and is new, therefore zero.
  const std::uint64_t payload = round_up(footer_.offset + bitmap_bytes_, kPayloadAlignment);
  const std::uint64_t place = payload - bitmap_bytes_;
  if (payload / kSector >= vhd::kUnusedBlock) return fail(ErrorCode::kNoSpace, "{} can't grow any further", file_.name());
  const std::uint64_t old_footer = footer_.offset;
  BYGONE_CHECK(write_object(file_, payload + block_bytes_, footer_.wire));
  Bitmap bitmap;
  // Without a parent what was never written is zero, and the new payload is: the whole block may count as present.
  bitmap.bits.assign(bitmap_bytes_, has_parent() ? std::byte{0} : std::byte{0xFF});
  BYGONE_CHECK(file_.write(place, bitmap.bits));
  if (place > old_footer) {
    BYGONE_CHECK(file_.write(old_footer, std::vector<std::byte>(std::min(place - old_footer, kSector))));
  }
  footer_.offset = payload + block_bytes_;
  footer_.is_end_damaged = false;
  table_[block] = static_cast<std::uint32_t>(place / kSector);
  is_full_[block] = !has_parent();
  changed_table_sectors_.insert(block / kEntriesPerSector);
  if (has_parent()) bitmaps_.insert_or_assign(block, std::move(bitmap));
  return {};
}

Result<VhdLayout::Bitmap*> VhdLayout::bitmap(std::uint64_t block) {
  const auto found = bitmaps_.find(block);
  if (found != bitmaps_.end()) return &found->second;
  if (bitmaps_.size() >= kMaximumCachedBitmaps) {
    std::erase_if(bitmaps_, [](const auto& item) { return !item.second.is_changed; });
  }
  BYGONE_CHECK(check_entry(block));
  Bitmap bitmap;
  bitmap.bits.resize(bitmap_bytes_);
  BYGONE_CHECK(file_.read(bitmap_offset(block), bitmap.bits));
  return &bitmaps_.emplace(block, std::move(bitmap)).first->second;
}

Result<VhdLayout::BitRun> VhdLayout::bits_at(std::uint64_t block, std::uint64_t sector, std::uint64_t limit) {
  if (is_full_[block]) return BitRun{limit, true};
  BYGONE_ASSIGN(const Bitmap* map, bitmap(block));
  const auto bit = [map](std::uint64_t index) { return (std::to_integer<unsigned>(map->bits[index / 8]) >> (7 - index % 8) & 1) != 0; };
  BitRun run{0, bit(sector)};
  const std::byte uniform = run.is_set ? std::byte{0xFF} : std::byte{0};
  while (run.sectors < limit) {
    const std::uint64_t index = sector + run.sectors;
    if (index % 8 == 0 && limit - run.sectors >= 8 && map->bits[index / 8] == uniform) {
      run.sectors += 8;
    } else if (bit(index) == run.is_set) {
      ++run.sectors;
    } else {
      break;
    }
  }
  if (run.is_set && run.sectors == block_bytes_ / kSector) is_full_[block] = true;
  return run;
}

// Requests

Result<Extent> VhdLayout::find(std::uint64_t offset, std::uint64_t length) {
  if (is_fixed()) return Extent{Extent::Kind::kFile, length, offset};
  const std::uint64_t block = offset / block_bytes_;
  const std::uint64_t inside = offset % block_bytes_;
  length = std::min(length, block_bytes_ - inside);
  const Extent::Kind absent = has_parent() ? Extent::Kind::kParent : Extent::Kind::kZero;
  if (table_[block] == vhd::kUnusedBlock) return Extent{absent, length, 0};
  BYGONE_CHECK(check_entry(block));
  BYGONE_ASSIGN(const BitRun run, bits_at(block, inside / kSector, (length + kSector - 1) / kSector));
  length = std::min(length, run.sectors * kSector);
  return run.is_set ? Extent{Extent::Kind::kFile, length, bitmap_offset(block) + bitmap_bytes_ + inside} : Extent{absent, length, 0};
}

Result<WriteTarget> VhdLayout::prepare_write(std::uint64_t offset, std::uint64_t length) {
  if (is_fixed()) return WriteTarget{length, offset, false};
  const std::uint64_t block = offset / block_bytes_;
  const std::uint64_t inside = offset % block_bytes_;
  length = std::min(length, block_bytes_ - inside);
  if (table_[block] == vhd::kUnusedBlock) BYGONE_CHECK(allocate(block));
  BYGONE_CHECK(check_entry(block));
  return WriteTarget{length, bitmap_offset(block) + bitmap_bytes_ + inside, !is_full_[block]};
}

Result<void> VhdLayout::finish_write(std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t block = offset / block_bytes_;
  const std::uint64_t first = offset % block_bytes_ / kSector;
  const std::uint64_t count = length / kSector;
  BYGONE_ASSIGN(const BitRun run, bits_at(block, first, count));
  if (run.is_set && run.sectors >= count) return {};
  BYGONE_ASSIGN(Bitmap * map, bitmap(block));
  for (std::uint64_t index = first; index < first + count; ++index) {
    map->bits[index / 8] |= static_cast<std::byte>(0x80U >> (index % 8));
  }
  map->is_changed = true;
  changed_bitmaps_.insert(block);
  return {};
}

Result<ZeroTarget> VhdLayout::prepare_zero(std::uint64_t offset, std::uint64_t length, bool is_hint, bool /*is_in_use*/) {
  const ZeroTarget::Action action = is_fixed() ? ZeroTarget::Action::kZeroFile : ZeroTarget::Action::kDiscardFile;
  BYGONE_ASSIGN(const Extent extent, find(offset, length));
  if (extent.kind == Extent::Kind::kFile) return ZeroTarget{action, extent.length, extent.file_offset, false};
  if (extent.kind == Extent::Kind::kZero || is_hint) {
    return ZeroTarget{ZeroTarget::Action::kNothing, extent.length, 0, false};
  }
  // The parent's bytes show through: zeros of our own take their place.
  BYGONE_ASSIGN(const WriteTarget target, prepare_write(offset, extent.length));
  return ZeroTarget{action, target.length, target.file_offset, target.is_reported};
}

// Commits

std::unique_ptr<LayoutCommit> VhdLayout::begin_commit() {
  if (changed_table_sectors_.empty() && changed_bitmaps_.empty()) return nullptr;
  auto commit = std::make_unique<Commit>(file_);
  for (const std::uint64_t block : changed_bitmaps_) {
    Bitmap& map = bitmaps_.at(block);
    commit->changes.push_back({bitmap_offset(block), map.bits});
  }
  for (const std::uint64_t sector : changed_table_sectors_) {
    std::vector<std::byte> bytes(kSector, std::byte{0xFF});
    const std::uint64_t first = sector * kEntriesPerSector;
    for (std::uint64_t i = 0; i < kEntriesPerSector && first + i < table_.size(); ++i) {
      const be32 wire = table_[first + i];
      std::memcpy(bytes.data() + i * sizeof wire, &wire, sizeof wire);
    }
    commit->changes.push_back({header_.table_offset + sector * kSector, std::move(bytes)});
  }
  commit->bitmaps = std::exchange(changed_bitmaps_, {});
  commit->table_sectors = std::exchange(changed_table_sectors_, {});
  return commit;
}

void VhdLayout::end_commit(LayoutCommit& commit, bool is_durable) {
  auto& ended = static_cast<Commit&>(commit);
  if (!is_durable) {
    changed_table_sectors_.merge(ended.table_sectors);
    changed_bitmaps_.merge(ended.bitmaps);
    return;
  }
  for (const std::uint64_t block : ended.bitmaps) {
    if (!changed_bitmaps_.contains(block)) bitmaps_.at(block).is_changed = false;
  }
}

// Changes of the whole

Result<void> VhdLayout::write_footers() {
  BYGONE_CHECK(write_object(file_, footer_.offset, footer_.wire));
  if (!is_fixed()) BYGONE_CHECK(write_object(file_, 0, footer_.wire));
  footer_.is_end_damaged = footer_.is_start_damaged = false;
  return file_.flush();
}

Result<void> VhdLayout::resize(std::uint64_t size) {
  if (size == 0 || size % kSector != 0 || size > vhd::kMaximumDiskBytes) {
    return fail(ErrorCode::kInvalidArgument, "a VHD disk has whole 512-byte sectors up to 2040 GiB, not {} bytes", size);
  }
  if (size == size_bytes()) return {};
  if (size < size_bytes()) return is_fixed() ? shrink_fixed(size) : shrink_dynamic(size);
  return is_fixed() ? grow_fixed(size) : grow_dynamic(size);
}

void VhdLayout::set_footer_size(std::uint64_t size) {
  footer_.wire.current_size = size;
  footer_.wire.geometry = vhd_geometry(size / kSector);
  footer_.wire.checksum = vhd_checksum(footer_.wire);
}

Result<void> VhdLayout::commit_now() {
  const std::unique_ptr<LayoutCommit> commit = begin_commit();
  if (!commit) return {};
  BYGONE_CHECK(file_.flush());
  Result<void> result = commit->write();
  end_commit(*commit, result.has_value());
  return result;
}

Result<void> VhdLayout::shrink_fixed(std::uint64_t size) {
  // A footer at the new end first: the cut that follows makes it the last sector at one stroke.
  set_footer_size(size);
  footer_.offset = size;
  BYGONE_CHECK(write_footers());
  BYGONE_CHECK(file_.resize(size + sizeof(vhd::Footer)));
  return file_.flush();
}

Result<void> VhdLayout::shrink_dynamic(std::uint64_t size) {
  const std::uint64_t old_blocks = table_.size();
  const std::uint64_t blocks = (size + block_bytes_ - 1) / block_bytes_;
  set_footer_size(size);
  BYGONE_CHECK(write_footers());
  // What the last block holds past the new end must not come back when the disk grows again.
  const std::uint64_t inside = size % block_bytes_;
  if (inside != 0 && table_[blocks - 1] != vhd::kUnusedBlock) {
    BYGONE_CHECK(check_entry(blocks - 1));
    BYGONE_CHECK(file_.discard(bitmap_offset(blocks - 1) + bitmap_bytes_ + inside, block_bytes_ - inside));
  }
  for (std::uint64_t block = blocks; block < old_blocks; ++block) {
    changed_table_sectors_.insert(block / kEntriesPerSector);
    bitmaps_.erase(block);
    changed_bitmaps_.erase(block);
  }
  table_.resize(blocks);
  is_full_.resize(blocks);
  return commit_now();
}

Result<void> VhdLayout::grow_fixed(std::uint64_t size) {
  const std::uint64_t old_footer = footer_.offset;
  const vhd::Footer old_wire = footer_.wire;
  set_footer_size(size);
  footer_.offset = size;
  // The footer first, by which the file grows at one stroke: at any moment the file ends with one.
  Result<void> grown = write_footers();
  if (grown) grown = file_.allocate(old_footer, size - old_footer);
  if (!grown) {
    footer_.wire = old_wire;
    footer_.offset = old_footer;
    BYGONE_CHECK(file_.resize(old_footer + sizeof(vhd::Footer)));
    return grown;
  }
  // The old footer is part of the larger disk now.
  BYGONE_CHECK(file_.write(old_footer, std::vector<std::byte>(std::min<std::uint64_t>(kSector, size - old_footer))));
  return file_.flush();
}

Result<void> VhdLayout::grow_dynamic(std::uint64_t size) {
  const std::uint64_t blocks = (size + block_bytes_ - 1) / block_bytes_;
  if (blocks > kMaximumEntries) return fail(ErrorCode::kUnsupported, "{} would have too many blocks", file_.name());
  std::vector<std::uint32_t> table = table_;
  table.resize(blocks, vhd::kUnusedBlock);
  if (blocks > header_.max_table_entries) {
    // A longer table at the end of the file; the header's sector that names it changes at one stroke.
    std::vector<be32> wire(round_up(blocks, kEntriesPerSector), be32(vhd::kUnusedBlock));
    std::ranges::copy(table, wire.begin());
    const std::uint64_t place = round_up(footer_.offset, kSector) + kSector;  // the old footer stays until then
    const std::uint64_t new_footer = place + wire.size() * sizeof(be32);
    BYGONE_CHECK(file_.write(place, std::as_bytes(std::span(wire))));
    BYGONE_CHECK(write_object(file_, new_footer, footer_.wire));
    BYGONE_CHECK(file_.flush());
    header_.table_offset = place;
    header_.max_table_entries = static_cast<std::uint32_t>(blocks);
    header_.checksum = vhd_checksum(header_);
    BYGONE_CHECK(write_object(file_, footer_.wire.data_offset, header_));
    BYGONE_CHECK(file_.flush());
    footer_.offset = new_footer;
  } else {  // a shrink that was cut short may have left entries there
    for (std::uint64_t block = table_.size(); block < blocks; ++block) changed_table_sectors_.insert(block / kEntriesPerSector);
    BYGONE_CHECK(commit_now());
  }
  table_ = std::move(table);
  is_full_.resize(blocks);
  set_footer_size(size);
  return write_footers();
}

Result<void> VhdLayout::set_parent(const VhdParent& parent) {
  // New locators and a new header at the end of the file, then the footers that name it: each is one sector and right by itself.
  const std::uint64_t place = round_up(footer_.offset, kSector) + kSector;
  vhd::DynamicHeader header = header_;
  std::vector<std::byte> locators;
  set_vhd_parent(header, parent, place, locators);
  const std::uint64_t header_place = place + locators.size();
  BYGONE_CHECK(file_.write(place, locators));
  BYGONE_CHECK(write_object(file_, header_place, header));
  BYGONE_CHECK(write_object(file_, header_place + sizeof header, footer_.wire));
  BYGONE_CHECK(file_.flush());
  header_ = header;
  parent_ = parent;
  footer_.offset = header_place + sizeof header;
  footer_.wire.data_offset = header_place;
  footer_.wire.checksum = vhd_checksum(footer_.wire);
  return write_footers();
}

}  // namespace bygone::disk
