// Each way in which a VHDX file can break its format has its own error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "disk/fault_file.h"
#include "disk/image_device.h"
#include "disk/tools/transform.h"
#include "disk/vhdx/vhdx_create.h"
#include "disk/vhdx/vhdx_layout.h"
#include "support/crc32c.h"

namespace bygone::disk {
namespace {

namespace vhdx = spec::vhdx;
using testing::HasSubstr;

class VhdxCorruption : public testing::Test {
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

  template <typename T>
  T get(std::uint64_t offset) {
    T value;
    history_->now.read(offset, writable_bytes_of(value));
    return value;
  }
  template <typename T>
  void put(std::uint64_t offset, const T& value) {
    history_->now.write(offset, bytes_of(value));
  }
  void put_header(const vhdx::Header& changed) {
    for (const std::uint64_t offset : vhdx::kHeaderOffsets) {
      vhdx::Header header = changed;
      header.checksum = 0;
      header.checksum = crc32c(bytes_of(header));
      put(offset, header);
    }
  }
  /// Changes the region table's entry `index` in both copies.
  void change_region(std::size_t index, const std::function<void(vhdx::RegionTableEntry&)>& change, std::uint32_t count = 2) {
    std::vector<std::byte> table(vhdx::kRegionTableBytes);
    history_->now.read(vhdx::kRegionTableOffsets[0], table);
    const std::size_t place = sizeof(vhdx::RegionTableHeader) + index * sizeof(vhdx::RegionTableEntry);
    vhdx::RegionTableEntry entry;
    std::memcpy(&entry, table.data() + place, sizeof entry);
    change(entry);
    std::memcpy(table.data() + place, &entry, sizeof entry);
    vhdx::RegionTableHeader header = {};
    header.signature = vhdx::kRegionTableSignature;
    header.entry_count = count;
    std::memcpy(table.data(), &header, sizeof header);
    header.checksum = crc32c(table);
    std::memcpy(table.data(), &header, sizeof header);
    for (const std::uint64_t offset : vhdx::kRegionTableOffsets) history_->now.write(offset, table);
  }
  std::uint64_t metadata_offset() { return 2U << 20; }
  std::uint64_t bat_offset() { return 3U << 20; }

  Error open_error(bool is_read_only = false) {
    FaultFile file(history_, is_read_only);
    auto layout = VhdxLayout::open(file);
    if (layout) return {ErrorCode::kInternal, "opened all the same", {}};
    return layout.error();
  }

  std::shared_ptr<FaultFile::History> history_ = FaultFile::history_of({});
};

TEST_F(VhdxCorruption, untouched_file_opens) {
  FaultFile file(history_);
  EXPECT_TRUE(VhdxLayout::open(file));
}

TEST_F(VhdxCorruption, signature) {
  put(0, be32(0));
  EXPECT_THAT(open_error().message, HasSubstr("vhdxfile"));
}

TEST_F(VhdxCorruption, short_file) {
  history_->now.resize(100000);
  EXPECT_THAT(open_error().message, HasSubstr("too short"));
}

TEST_F(VhdxCorruption, one_header_is_enough_and_two_damaged_ones_are_not) {
  put(vhdx::kHeaderOffsets[0] + 100, be32(1));
  {
    FaultFile file(history_);
    const auto layout = VhdxLayout::open(file);
    ASSERT_TRUE(layout);
    EXPECT_FALSE((*layout)->header().is_valid[0]);
  }
  put(vhdx::kHeaderOffsets[1] + 100, be32(1));
  EXPECT_THAT(open_error().message, HasSubstr("both headers"));
}

TEST_F(VhdxCorruption, later_version_is_unsupported) {
  auto header = get<vhdx::Header>(vhdx::kHeaderOffsets[0]);
  header.version = 2;
  put_header(header);
  EXPECT_EQ(open_error().code, ErrorCode::kUnsupported);
}

TEST_F(VhdxCorruption, log_outside_the_file) {
  auto header = get<vhdx::Header>(vhdx::kHeaderOffsets[0]);
  header.log_offset = std::uint64_t{1} << 40;
  put_header(header);
  EXPECT_THAT(open_error().message, HasSubstr("log at"));
}

TEST_F(VhdxCorruption, log_without_valid_entries) {
  auto header = get<vhdx::Header>(vhdx::kHeaderOffsets[0]);
  header.log_guid = Guid::random();
  put_header(header);
  EXPECT_THAT(open_error().text(), HasSubstr("check --repair"));
}

TEST_F(VhdxCorruption, both_region_tables) {
  put(vhdx::kRegionTableOffsets[0] + 20, be32(1));
  put(vhdx::kRegionTableOffsets[1] + 20, be32(1));
  EXPECT_THAT(open_error().message, HasSubstr("both region tables"));
}

TEST_F(VhdxCorruption, unknown_required_region_is_named_and_an_optional_one_passed_over) {
  const Guid unknown = Guid::random();
  const auto add = [&](bool is_required) {
    history_->now.resize(8U << 20);
    change_region(2, [&](vhdx::RegionTableEntry& entry) {
      entry.guid = unknown;
      entry.file_offset = 6U << 20;
      entry.length = 1U << 20;
      entry.flags = is_required ? 1U : 0U;
    }, 3);
  };
  add(true);
  EXPECT_EQ(open_error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(open_error().message, HasSubstr(unknown.text()));
  add(false);
  FaultFile file(history_);
  const auto layout = VhdxLayout::open(file);
  ASSERT_TRUE(layout) << layout.error().text();
  EXPECT_EQ((*layout)->regions().others.size(), 1U);
}

TEST_F(VhdxCorruption, unknown_optional_region_is_kept_when_the_image_changes) {
  const Guid unknown = make_guid(9, 9, 9, {1, 2, 3, 4, 5, 6, 7, 8});
  constexpr std::uint64_t kPlace = 6U << 20;
  history_->now.resize(8U << 20);
  change_region(2, [&](vhdx::RegionTableEntry& entry) {
    entry.guid = unknown;
    entry.file_offset = kPlace;
    entry.length = 1U << 20;
    entry.flags = 0;
  }, 3);
  const std::string text = "somebody else's";
  history_->now.write(kPlace + 1000, std::as_bytes(std::span(text)));
  const auto expect_kept = [&](const std::shared_ptr<FaultFile::History>& history, const char* when) {
    FaultFile file(history);
    const auto layout = VhdxLayout::open(file);
    ASSERT_TRUE(layout) << when << ": " << layout.error().text();
    ASSERT_EQ((*layout)->regions().others.size(), 1U) << when;
    const VhdxRegion& region = (*layout)->regions().others[0];
    EXPECT_EQ(region.guid, unknown);
    std::string read(text.size(), ' ');
    ASSERT_TRUE(file.read(region.offset + 1000, std::as_writable_bytes(std::span(read))));
    EXPECT_EQ(read, text) << when;
  };
  {
    auto file = std::make_unique<FaultFile>(history_);
    auto layout = VhdxLayout::open(*file);
    ASSERT_TRUE(layout);
    ImageDevice device(std::move(file), *std::move(layout), nullptr);
    ASSERT_TRUE(write_blocks(device, 0, std::vector<std::byte>(16U << 20, std::byte{7})));  // every block there is
    ASSERT_TRUE(device.close());
  }
  expect_kept(history_, "after writing everywhere");
  {
    FaultFile file(history_);
    auto layout = VhdxLayout::open(file);
    ASSERT_TRUE((*layout)->resize(std::uint64_t{300} << 30));  // moves the table, writes the region tables
    ASSERT_TRUE((*layout)->close());
  }
  expect_kept(history_, "after resizing");
  const auto target = FaultFile::history_of({});
  {
    VhdxMetadata metadata;
    metadata.block_bytes = 1U << 20;
    metadata.size_bytes = std::uint64_t{300} << 30;
    metadata.disk_id = Guid::random();
    metadata.logical_sector_bytes = 512;
    metadata.physical_sector_bytes = 4096;
    auto source_file = std::make_unique<FaultFile>(history_);
    auto source_layout = VhdxLayout::open(*source_file);
    ImageDevice source(std::move(source_file), *std::move(source_layout), nullptr);
    auto file = std::make_unique<FaultFile>(target);
    ASSERT_TRUE(create_vhdx(*file, metadata));
    auto layout = VhdxLayout::open(*file);
    ImageDevice copy(std::move(file), *std::move(layout), nullptr);
    const Result<void> compacted = fill_compacted(source, copy, {});
    ASSERT_TRUE(compacted) << compacted.error().text();
  }
  expect_kept(target, "after compacting");
}

TEST_F(VhdxCorruption, overlapping_regions) {
  change_region(1, [](vhdx::RegionTableEntry& entry) { entry.file_offset = 3U << 20; });
  EXPECT_THAT(open_error().message, HasSubstr("overlap"));
}

TEST_F(VhdxCorruption, region_outside_the_file) {
  change_region(1, [](vhdx::RegionTableEntry& entry) { entry.file_offset = 300U << 20; });
  EXPECT_THAT(open_error().message, HasSubstr("where none can be"));
}

TEST_F(VhdxCorruption, metadata_table) {
  put(metadata_offset(), be32(1));
  EXPECT_THAT(open_error().message, HasSubstr("metadata table"));
}

TEST_F(VhdxCorruption, unknown_required_metadata_item_is_named) {
  auto entry = get<vhdx::MetadataTableEntry>(metadata_offset() + 32);
  entry.item_id = Guid::random();
  put(metadata_offset() + 32, entry);
  EXPECT_EQ(open_error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(open_error().message, HasSubstr(entry.item_id.text()));
}

TEST_F(VhdxCorruption, missing_metadata_item) {
  auto entry = get<vhdx::MetadataTableEntry>(metadata_offset() + 32);
  entry.item_id = Guid::random();
  entry.flags = 0;
  put(metadata_offset() + 32, entry);
  EXPECT_THAT(open_error().message, HasSubstr("lacks file parameters"));
}

TEST_F(VhdxCorruption, metadata_item_outside_its_region) {
  auto entry = get<vhdx::MetadataTableEntry>(metadata_offset() + 32);
  entry.offset = 0xFFFFFFF0;
  put(metadata_offset() + 32, entry);
  EXPECT_THAT(open_error().message, HasSubstr("outside its region"));
}

TEST_F(VhdxCorruption, block_size_that_is_no_power_of_two) {
  const auto entry = get<vhdx::MetadataTableEntry>(metadata_offset() + 32);
  put(metadata_offset() + entry.offset, le32(3U << 20));
  EXPECT_EQ(open_error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(open_error().message, HasSubstr("power of two"));
}

TEST_F(VhdxCorruption, disk_larger_than_its_table) {
  const auto entry = get<vhdx::MetadataTableEntry>(metadata_offset() + 64);
  put(metadata_offset() + entry.offset, le64(std::uint64_t{60} << 40));
  EXPECT_THAT(open_error().message, HasSubstr("no room"));
}

TEST_F(VhdxCorruption, blocks_in_impossible_places) {
  for (const std::uint64_t entry : {std::uint64_t{6}, (std::uint64_t{1} << 20) | 6, (std::uint64_t{3} << 20) | 6,
                                    (std::uint64_t{1} << 50) | 6, std::uint64_t{4}, (std::uint64_t{4} << 20) | 7}) {
    put(bat_offset(), le64(entry));
    FaultFile file(history_);
    auto layout = VhdxLayout::open(file);
    ASSERT_TRUE(layout);
    const auto found = (*layout)->find(0, 512);
    ASSERT_FALSE(found) << std::hex << entry;
    EXPECT_EQ(found.error().code, ErrorCode::kCorrupt);
  }
}

TEST_F(VhdxCorruption, an_empty_block_that_claims_a_far_place_costs_nothing) {
  put(bat_offset(), le64((std::uint64_t{1} << 60) | static_cast<std::uint64_t>(vhdx::BlockState::kUnmapped)));
  FaultFile file(history_);
  auto layout = VhdxLayout::open(file);
  ASSERT_TRUE(layout);
  EXPECT_TRUE((*layout)->prepare_write(1U << 20, 512));
  EXPECT_EQ(file.size().value(), 5U << 20);
}

}  // namespace
}  // namespace bygone::disk
