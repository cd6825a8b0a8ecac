// The blocks of a VHD image: fixed, dynamic and differencing.
//
// A VHD file has no log. Its tables are changed in memory, and a commit writes them after a flush of what they speak of, so that a
// power cut leaves every 512-byte sector of a table either old or new, and both are right. While the file grows, the copy of the
// footer at its start stands in for the one at its end.
// Threading: as ImageLayout.
#pragma once

#include <memory>
#include <set>
#include <unordered_map>

#include "disk/image_layout.h"
#include "disk/vhd/vhd_format.h"

namespace bygone::disk {

class VhdLayout final : public ImageLayout {
 public:
  /// `file` outlives the layout. Errors: kCorrupt, kUnsupported.
  [[nodiscard]] static Result<std::unique_ptr<VhdLayout>> open(File& file);

  [[nodiscard]] BlockDeviceInfo info() const override;
  [[nodiscard]] std::string_view kind() const override;
  [[nodiscard]] std::optional<ParentReference> parent() const override;
  [[nodiscard]] Guid link_identity() const override { return footer_.wire.unique_id; }
  [[nodiscard]] Result<Extent> find(std::uint64_t offset, std::uint64_t length) override;
  [[nodiscard]] Result<WriteTarget> prepare_write(std::uint64_t offset, std::uint64_t length) override;
  Result<void> finish_write(std::uint64_t offset, std::uint64_t length) override;
  [[nodiscard]] Result<ZeroTarget> prepare_zero(std::uint64_t offset, std::uint64_t length, bool is_hint,
                                                bool is_in_use) override;
  [[nodiscard]] std::unique_ptr<LayoutCommit> begin_commit() override;
  void end_commit(LayoutCommit& commit, bool is_durable) override;

  [[nodiscard]] const VhdFooter& footer() const { return footer_; }
  [[nodiscard]] const spec::vhd::DynamicHeader& dynamic_header() const { return header_; }
  [[nodiscard]] bool is_fixed() const { return type() == spec::vhd::DiskType::kFixed; }
  [[nodiscard]] bool has_parent() const { return type() == spec::vhd::DiskType::kDifferencing; }
  [[nodiscard]] const VhdParent& parent_description() const { return parent_; }
  /// Bytes of a block's payload; 0 for a fixed disk.
  [[nodiscard]] std::uint64_t allocation_bytes() const { return block_bytes_; }
  [[nodiscard]] std::uint64_t bitmap_bytes() const { return bitmap_bytes_; }
  /// The sector number of each block's bitmap, or kUnusedBlock.
  [[nodiscard]] const std::vector<std::uint32_t>& table() const { return table_; }
  /// Whether a block's entry points to where a block can be.
  [[nodiscard]] Result<void> check_entry(std::uint64_t block) const;
  /// Changes the disk's size; shrinking gives up what lies behind it. Nothing may be in flight. Durable on return.
  [[nodiscard]] Result<void> resize(std::uint64_t size_bytes);
  /// Replaces the parent's identity and paths. Durable on return.
  [[nodiscard]] Result<void> set_parent(const VhdParent& parent);
  /// Writes the footer to where it belongs, and its copy.
  [[nodiscard]] Result<void> write_footers();

 private:
  class Commit;
  struct Bitmap {
    std::vector<std::byte> bits;  // the highest bit first
    bool is_changed = false;
  };
  struct BitRun {
    std::uint64_t sectors = 0;
    bool is_set = false;
  };

  explicit VhdLayout(File& file) : file_(file) {}
  Result<void> load();
  [[nodiscard]] spec::vhd::DiskType type() const { return static_cast<spec::vhd::DiskType>(footer_.wire.disk_type.value()); }
  [[nodiscard]] std::uint64_t size_bytes() const { return footer_.wire.current_size; }
  [[nodiscard]] std::uint64_t bitmap_offset(std::uint64_t block) const {
    return std::uint64_t{table_[block]} * spec::vhd::kSectorBytes;
  }
  Result<void> allocate(std::uint64_t block);
  Result<Bitmap*> bitmap(std::uint64_t block);
  Result<BitRun> bits_at(std::uint64_t block, std::uint64_t sector, std::uint64_t limit);
  Result<void> grow_dynamic(std::uint64_t size_bytes);
  Result<void> grow_fixed(std::uint64_t size_bytes);
  Result<void> shrink_dynamic(std::uint64_t size_bytes);
  Result<void> shrink_fixed(std::uint64_t size_bytes);
  void set_footer_size(std::uint64_t size_bytes);
  Result<void> commit_now();

  File& file_;
  VhdFooter footer_;
  spec::vhd::DynamicHeader header_ = {};
  VhdParent parent_;
  std::uint64_t block_bytes_ = 0;
  std::uint64_t bitmap_bytes_ = 0;
  std::vector<std::uint32_t> table_;
  std::vector<bool> is_full_;                         // blocks whose every sector is known to be present
  std::set<std::uint64_t> changed_table_sectors_;
  std::unordered_map<std::uint64_t, Bitmap> bitmaps_;  // by block; clean ones may be dropped
  std::set<std::uint64_t> changed_bitmaps_;
};

}  // namespace bygone::disk
