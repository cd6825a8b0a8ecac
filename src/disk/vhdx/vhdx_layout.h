// The blocks of a VHDX image: fixed, dynamic and differencing ([MS-VHDX] 2.4 and 2.5).
//
// The block allocation table and the sector bitmaps are changed in memory; a commit makes the changes durable through the log.
// New blocks come from the end of the file, or from space that a durable change gave up.
// Threading: as ImageLayout.
#pragma once

#include <memory>
#include <optional>

#include "disk/image_layout.h"
#include "disk/vhdx/metadata_pages.h"
#include "disk/vhdx/vhdx_header.h"
#include "disk/vhdx/vhdx_log.h"
#include "disk/vhdx/vhdx_metadata.h"

namespace bygone::disk {

class VhdxLayout final : public ImageLayout {
 public:
  /// Replays the log: into the file, or beside it when the file is read-only. `file` outlives the layout.
  /// Errors: kCorrupt, kUnsupported.
  [[nodiscard]] static Result<std::unique_ptr<VhdxLayout>> open(File& file);

  [[nodiscard]] BlockDeviceInfo info() const override;
  [[nodiscard]] std::string_view kind() const override;
  [[nodiscard]] std::uint64_t block_bytes() const override { return metadata_.block_bytes; }
  [[nodiscard]] std::optional<ParentReference> parent() const override;
  [[nodiscard]] Guid link_identity() const override { return header_.data_write_guid; }
  [[nodiscard]] std::string stamp_content() override;
  [[nodiscard]] Result<Extent> find(std::uint64_t offset, std::uint64_t length) override;
  [[nodiscard]] Result<WriteTarget> prepare_write(std::uint64_t offset, std::uint64_t length) override;
  Result<void> finish_write(std::uint64_t offset, std::uint64_t length) override;
  [[nodiscard]] Result<ZeroTarget> prepare_zero(std::uint64_t offset, std::uint64_t length, bool is_hint,
                                                bool is_in_use) override;
  [[nodiscard]] std::unique_ptr<LayoutCommit> begin_commit() override;
  void end_commit(LayoutCommit& commit, bool is_durable) override;
  [[nodiscard]] bool wants_commit() const override;
  [[nodiscard]] Result<void> close() override;

  [[nodiscard]] const VhdxHeader& header() const { return header_; }
  [[nodiscard]] const VhdxRegions& regions() const { return regions_; }
  [[nodiscard]] const VhdxMetadata& metadata() const { return metadata_; }
  /// The log held changes when the file was opened.
  [[nodiscard]] bool was_replayed() const { return was_replayed_; }
  /// Children find their parent by the data-write GUID, so it changes with the first write. A compaction keeps it: what the
  /// children see stays the same.
  void keep_data_write_guid() { keeps_data_write_guid_ = true; }
  /// Changes the disk's size; shrinking gives up what lies behind it. Nothing may be in flight. Durable on return.
  [[nodiscard]] Result<void> resize(std::uint64_t size_bytes);
  /// Replaces the parent's locator. Durable on return.
  [[nodiscard]] Result<void> set_parent(const VhdxParentLocator& parent);
  /// Makes the metadata and the regions that we don't know those of `source`, to the byte. For a new image alone: done in place.
  [[nodiscard]] Result<void> adopt_regions(const VhdxLayout& source);
  /// What children find the image by from now on. To be called before any other change. Durable on return.
  [[nodiscard]] Result<void> set_data_write_guid(const Guid& guid);
  /// Writes the header and region table copies that were found damaged. Durable on return.
  [[nodiscard]] Result<void> repair_headers();

  struct Block {
    spec::vhdx::BlockState state = spec::vhdx::BlockState::kNotPresent;
    std::uint64_t file_offset = 0;  ///< 0: none
    bool has_reserved_bits = false;
  };
  /// The entry of a payload block, checked against the file.
  [[nodiscard]] Result<Block> block(std::uint64_t index);
  /// The entry of a sector bitmap block of a differencing image.
  [[nodiscard]] Result<Block> bitmap_block(std::uint64_t chunk);

 private:
  class Commit;
  explicit VhdxLayout(File& file);

  Result<void> load();
  [[nodiscard]] Result<void> check_log_is_apart() const;
  Result<void> begin_modification();
  Result<Block> entry(std::uint64_t bat_index, std::uint64_t space_bytes);
  Result<void> set_entry(std::uint64_t bat_index, Block block);
  Result<void> check_space(std::uint64_t bat_index, std::uint64_t offset, std::uint64_t length) const;
  std::uint64_t payload_index(std::uint64_t block) const { return block + block / ratio_; }
  std::uint64_t bitmap_index(std::uint64_t chunk) const { return chunk * (ratio_ + 1) + ratio_; }
  Result<std::uint64_t> allocate_block();
  Result<std::uint64_t> append(std::uint64_t length);
  Result<void> find_free_space();
  Result<void> allocate_partial(std::uint64_t block);
  Result<std::uint64_t> ensure_bitmap(std::uint64_t block);
  /// How far the bits from `sector` of the block on agree, and what they are.
  struct BitRun {
    std::uint64_t sectors = 0;
    bool is_set = false;
  };
  Result<BitRun> bits_at(std::uint64_t block, std::uint64_t sector, std::uint64_t limit);
  Result<void> set_bits(std::uint64_t block, std::uint64_t first, std::uint64_t count, bool value);
  Result<ZeroTarget> zero_whole_block(std::uint64_t block, const Block& entry);
  Result<void> change_bytes(std::uint64_t file_offset, std::span<const std::byte> bytes);
  Result<void> commit_now();
  Result<void> grow(const VhdxMetadata& next);
  Result<void> shrink(const VhdxMetadata& next);
  Result<void> set_size(const VhdxMetadata& next);
  Result<void> move_bat(std::uint64_t length, std::uint64_t entry_count);

  File& file_;
  VhdxHeader header_;
  VhdxRegions regions_;
  VhdxMetadata metadata_;
  std::optional<LogOverlay> overlay_;
  std::optional<MetadataPages> pages_;
  std::optional<VhdxLogWriter> log_;  // from the first change on
  bool was_replayed_ = false;
  bool keeps_data_write_guid_ = false;
  bool is_stamped_ = false;  ///< somebody remembers data_write_guid: the next write needs a new one
  std::uint64_t ratio_ = 1;
  std::uint64_t end_ = 0;  // of the file, rounded up to 1 MiB
  bool knows_free_space_ = false;
  std::vector<std::uint64_t> free_;          // block-sized places whose content is anything
  std::vector<std::uint64_t> pending_free_;  // free once the next commit is durable
};

}  // namespace bygone::disk
