// Each way in which a VHDX file can break its format has its own error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "disk/image_device.h"
#include "disk/tools/transform.h"
#include "disk/vhdx/vhdx_corruption.h"

namespace bygone::disk {
namespace {

namespace vhdx = spec::vhdx;
using testing::HasSubstr;

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

TEST_F(VhdxCorruption, headers_that_differ_with_one_sequence_number_have_no_current_one) {
  auto header = get<vhdx::Header>(vhdx::kHeaderOffsets[0]);
  put_header(header);  // one header twice, as some of Microsoft's tools write it, is fine
  {
    FaultFile file(history_);
    EXPECT_TRUE(VhdxLayout::open(file));
  }
  put_header(header);
  header.data_write_guid = Guid::random();
  header.checksum = 0;
  header.checksum = crc32c(bytes_of(header));
  put(vhdx::kHeaderOffsets[1], header);
  EXPECT_THAT(open_error().message, HasSubstr("same sequence number"));
}

TEST_F(VhdxCorruption, later_versions_are_unsupported) {
  const auto header = get<vhdx::Header>(vhdx::kHeaderOffsets[0]);
  auto later = header;
  later.version = 2;
  put_header(later);
  EXPECT_EQ(open_error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(open_error().message, HasSubstr("version 2"));
  later = header;
  later.log_version = 1;
  put_header(later);
  EXPECT_EQ(open_error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(open_error().message, HasSubstr("log version 1"));
}

TEST_F(VhdxCorruption, log_where_none_can_be) {
  const auto header = get<vhdx::Header>(vhdx::kHeaderOffsets[0]);
  const auto expect_refused = [&](const char* what, std::uint64_t offset, std::uint32_t length) {
    auto changed = header;
    changed.log_offset = offset;
    changed.log_length = length;
    put_header(changed);
    EXPECT_THAT(open_error().message, HasSubstr("log at")) << what;
  };
  expect_refused("outside the file", std::uint64_t{1} << 40, 1U << 20);
  expect_refused("longer than the file", 1U << 20, 64U << 20);
  expect_refused("in the header section", 0, 1U << 20);
  expect_refused("no whole MiB", (1U << 20) + 4096, 1U << 20);
  expect_refused("of no whole MiB", 1U << 20, 4096);
  expect_refused("without length", 1U << 20, 0);
}

TEST_F(VhdxCorruption, log_over_a_region) {
  auto header = get<vhdx::Header>(vhdx::kHeaderOffsets[0]);
  for (const std::uint64_t offset : {metadata_offset(), bat_offset()}) {
    header.log_offset = offset;
    put_header(header);
    EXPECT_THAT(open_error().message, HasSubstr("the log and the region")) << offset;
  }
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

TEST_F(VhdxCorruption, region_table_signature_and_count) {
  const auto table = get<vhdx::RegionTableHeader>(vhdx::kRegionTableOffsets[0]);
  change_region(0, [](vhdx::RegionTableEntry&) {}, vhdx::kMaximumRegionEntries + 1);
  EXPECT_THAT(open_error().message, HasSubstr("2048 entries"));
  for (const std::uint64_t offset : vhdx::kRegionTableOffsets) {
    auto changed = table;
    changed.signature = 1;
    put(offset, changed);
  }
  EXPECT_THAT(open_error().message, HasSubstr("both region tables"));
}

TEST_F(VhdxCorruption, missing_and_doubled_regions) {
  change_region(0, [](vhdx::RegionTableEntry&) {}, 1);
  EXPECT_THAT(open_error().message, HasSubstr("no metadata region"));
  const auto bat = [](vhdx::RegionTableEntry& entry) { entry.guid = vhdx::kBatRegion; };
  change_region(1, bat);
  EXPECT_THAT(open_error().message, testing::AllOf(HasSubstr(vhdx::kBatRegion.text()), HasSubstr("twice")));
  const auto optional = [](vhdx::RegionTableEntry& entry) {
    entry.guid = make_guid(9, 9, 9, {1, 2, 3, 4, 5, 6, 7, 8});
    entry.flags = 0;
  };
  change_region(0, optional);
  change_region(1, [](vhdx::RegionTableEntry& entry) { entry.guid = vhdx::kMetadataRegion; });
  EXPECT_THAT(open_error().message, HasSubstr("no block allocation table"));
}

TEST_F(VhdxCorruption, overlapping_regions) {
  change_region(1, [](vhdx::RegionTableEntry& entry) { entry.file_offset = 3U << 20; });
  EXPECT_THAT(open_error().message, HasSubstr("overlap"));
}

TEST_F(VhdxCorruption, region_where_none_can_be) {
  struct Place {
    const char* what;
    std::uint64_t offset;
    std::uint32_t length;
  };
  for (const Place& place : {Place{"outside the file", 300U << 20, 1U << 20}, Place{"longer than the file", 2U << 20, 64U << 20},
                             Place{"in the header section", 0, 1U << 20}, Place{"no whole MiB", (2U << 20) + 4096, 1U << 20},
                             Place{"of no whole MiB", 2U << 20, 4096}, Place{"without length", 2U << 20, 0}}) {
    change_region(1, [&](vhdx::RegionTableEntry& entry) {
      entry.file_offset = place.offset;
      entry.length = place.length;
    });
    EXPECT_THAT(open_error().message, HasSubstr("where none can be")) << place.what;
  }
}

TEST_F(VhdxCorruption, metadata_table) {
  put(metadata_offset(), be32(1));
  EXPECT_THAT(open_error().message, HasSubstr("metadata table"));
}

TEST_F(VhdxCorruption, more_metadata_items_than_possible) {
  auto header = get<vhdx::MetadataTableHeader>(metadata_offset());
  header.entry_count = vhdx::kMaximumMetadataEntries + 1;
  put(metadata_offset(), header);
  EXPECT_THAT(open_error().message, HasSubstr("2048 entries"));
}

TEST_F(VhdxCorruption, unknown_required_metadata_item_is_named) {
  auto entry = get<vhdx::MetadataTableEntry>(metadata_offset() + 32);
  entry.item_id = Guid::random();
  put(metadata_offset() + 32, entry);
  EXPECT_EQ(open_error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(open_error().message, HasSubstr(entry.item_id.text()));
}

TEST_F(VhdxCorruption, missing_metadata_items) {
  const std::array names = {"file parameters", "disk size", "disk id", "logical sector size", "physical sector size"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto sound = get<vhdx::MetadataTableEntry>(metadata_offset() + 32 * (i + 1));
    auto entry = sound;
    entry.item_id = Guid::random();
    entry.flags = 0;
    put(metadata_offset() + 32 * (i + 1), entry);
    EXPECT_THAT(open_error().message, HasSubstr(std::string("lacks ") + names[i]));
    entry = sound;
    entry.length = 3;
    put(metadata_offset() + 32 * (i + 1), entry);
    EXPECT_THAT(open_error().message, HasSubstr(std::string(names[i]) + " has a wrong length"));
    put(metadata_offset() + 32 * (i + 1), sound);
  }
}

TEST_F(VhdxCorruption, metadata_item_where_none_can_be) {
  const auto sound = get<vhdx::MetadataTableEntry>(metadata_offset() + 32);
  const auto expect_refused = [&](const char* what, std::uint32_t offset, std::uint32_t length) {
    auto entry = sound;
    entry.offset = offset;
    entry.length = length;
    put(metadata_offset() + 32, entry);
    EXPECT_THAT(open_error().message, HasSubstr("outside its region")) << what;
  };
  expect_refused("past the end", 0xFFFFFFF0, 8);
  expect_refused("over the end", (1U << 20) - 4, 8);
  expect_refused("in the table", 64, 8);
  expect_refused("without length", 64U << 10, 0);
  expect_refused("longer than an item can be", 64U << 10, (1U << 20) + 1);
}

TEST_F(VhdxCorruption, metadata_item_twice) {
  const auto first = get<vhdx::MetadataTableEntry>(metadata_offset() + 32);
  put(metadata_offset() + 64, first);
  EXPECT_THAT(open_error().message, testing::AllOf(HasSubstr(first.item_id.text()), HasSubstr("twice")));
}

TEST_F(VhdxCorruption, metadata_items_over_one_another) {
  const auto first = get<vhdx::MetadataTableEntry>(metadata_offset() + 32);
  auto second = get<vhdx::MetadataTableEntry>(metadata_offset() + 64);
  second.offset = first.offset.value() + 4;
  put(metadata_offset() + 64, second);
  EXPECT_THAT(open_error().message, HasSubstr("share bytes"));
}

TEST_F(VhdxCorruption, metadata_values) {
  const auto place_of = [this](std::size_t index) {
    return metadata_offset() + get<vhdx::MetadataTableEntry>(metadata_offset() + 32 * (index + 1)).offset;
  };
  const auto expect_refused = [this](std::uint64_t place, auto value, const char* text) {
    const auto sound = get<decltype(value)>(place);
    put(place, value);
    EXPECT_EQ(open_error().code, ErrorCode::kCorrupt) << text;
    EXPECT_THAT(open_error().message, HasSubstr(text));
    put(place, sound);
  };
  for (const std::uint32_t bytes : {0U, 3U << 20, 512U << 10, 512U << 20}) expect_refused(place_of(0), le32(bytes), "blocks have a power of two");
  for (const std::uint64_t bytes : {std::uint64_t{0}, (std::uint64_t{64} << 40) + 512, (std::uint64_t{16} << 20) + 1}) {
    expect_refused(place_of(1), le64(bytes), "whole sectors up to 64 TiB");
  }
  for (const std::uint32_t bytes : {0U, 1024U, 520U}) expect_refused(place_of(3), le32(bytes), "logical sectors have");
  for (const std::uint32_t bytes : {0U, 2048U}) expect_refused(place_of(4), le32(bytes), "physical sectors have");
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

TEST_F(VhdxCorruption, blocks_over_one_another_are_found_by_a_check) {
  history_->now.resize(8U << 20);
  put(bat_offset(), le64((std::uint64_t{4} << 20) | 6));
  put(bat_offset() + 8, le64((std::uint64_t{4} << 20) | 6));
  EXPECT_THAT(findings(), testing::Contains(HasSubstr("block 0 and block 1 share")));
}

TEST_F(VhdxCorruption, a_sector_bitmap_without_a_parent_and_reserved_bits_are_found_by_a_check) {
  EXPECT_THAT(findings(), testing::IsEmpty());
  put(bat_offset() + 8, le64(std::uint64_t{1} << 5));
  EXPECT_THAT(findings(), testing::ElementsAre(HasSubstr("reserved bits")));
  put(bat_offset() + 8, le64(0));
  {  // so large that the table has entries for bitmaps
    FaultFile file(history_);
    auto layout = VhdxLayout::open(file);
    ASSERT_TRUE((*layout)->resize(std::uint64_t{5} << 30));
    ASSERT_TRUE((*layout)->close());
    history_->now.resize(8U << 20);
  }
  EXPECT_THAT(findings(), testing::IsEmpty());
  constexpr std::uint64_t kChunk = (std::uint64_t{1} << 23) * 512 >> 20;
  put(bat_offset() + kChunk * 8, le64((std::uint64_t{4} << 20) | 6));
  EXPECT_THAT(findings(), testing::ElementsAre(HasSubstr("sector bitmap 0")));
}

/// An image with a parent: sector bitmaps and the parent locator.
class VhdxChildCorruption : public VhdxCorruption {
 protected:
  VhdxChildCorruption() { make({{"parent_linkage", "{" + Guid::random().text() + "}"}, {"relative_path", ".\\base.vhdx"}}); }
  void make(const VhdxParentLocator& locator) {
    VhdxMetadata metadata;
    metadata.block_bytes = 1U << 20;
    metadata.size_bytes = 16U << 20;
    metadata.disk_id = Guid::random();
    metadata.logical_sector_bytes = 512;
    metadata.physical_sector_bytes = 4096;
    metadata.has_parent = true;
    metadata.parent = locator;
    history_ = FaultFile::history_of({});
    FaultFile file(history_);
    ASSERT_TRUE(create_vhdx(file, metadata));
    history_->now.resize(8U << 20);
  }
  Error find_error() {
    FaultFile file(history_);
    auto layout = VhdxLayout::open(file);
    if (!layout) return layout.error();
    const auto found = (*layout)->find(0, 512);
    if (found) return {ErrorCode::kInternal, "found all the same", {}};
    return found.error();
  }
  std::uint64_t locator_offset() { return metadata_offset() + get<vhdx::MetadataTableEntry>(metadata_offset() + 32 * 6).offset; }
  static constexpr std::uint64_t kBitmapEntry = 8 * (std::uint64_t{1} << 23) * 512 >> 20;
};

TEST_F(VhdxChildCorruption, partially_present_without_a_sector_bitmap) {
  put(bat_offset(), le64((std::uint64_t{4} << 20) | 7));
  EXPECT_THAT(find_error().message, HasSubstr("partially present and has no sector bitmap"));
  EXPECT_THAT(findings(), testing::Contains(HasSubstr("partially present without a sector bitmap")));
}

TEST_F(VhdxChildCorruption, sector_bitmap_in_a_state_that_is_a_payload_blocks) {
  put(bat_offset(), le64((std::uint64_t{4} << 20) | 7));
  for (const std::uint64_t state : {1U, 2U, 3U, 7U}) {
    put(bat_offset() + kBitmapEntry, le64((std::uint64_t{5} << 20) | state));
    EXPECT_THAT(find_error().message, HasSubstr("sector bitmap block 0 has the state")) << state;
  }
  put(bat_offset() + kBitmapEntry, le64((std::uint64_t{50} << 20) | 6));
  EXPECT_THAT(find_error().message, HasSubstr("where no block can be"));
}

TEST_F(VhdxChildCorruption, no_parent_locator) {
  auto entry = get<vhdx::MetadataTableEntry>(metadata_offset() + 32 * 6);
  entry.item_id = Guid::random();
  entry.flags = 0;
  put(metadata_offset() + 32 * 6, entry);
  EXPECT_THAT(open_error().message, HasSubstr("does not say which"));
}

TEST_F(VhdxChildCorruption, parent_locator_header) {
  const auto header = get<vhdx::ParentLocatorHeader>(locator_offset());
  auto changed = header;
  changed.locator_type = Guid::random();
  put(locator_offset(), changed);
  EXPECT_EQ(open_error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(open_error().message, HasSubstr(changed.locator_type.text()));
  changed = header;
  changed.key_value_count = 60000;
  put(locator_offset(), changed);
  EXPECT_EQ(open_error().code, ErrorCode::kCorrupt);
  auto item = get<vhdx::MetadataTableEntry>(metadata_offset() + 32 * 6);
  item.length = sizeof header + 10;
  put(metadata_offset() + 32 * 6, item);
  EXPECT_THAT(open_error().message, HasSubstr("table is cut off"));
  item.length = 10;
  put(metadata_offset() + 32 * 6, item);
  EXPECT_THAT(open_error().message, HasSubstr("too short"));
}

TEST_F(VhdxChildCorruption, parent_locator_entries) {
  const std::uint64_t place = locator_offset() + sizeof(vhdx::ParentLocatorHeader);
  const auto sound = get<vhdx::ParentLocatorEntry>(place);
  const auto expect_refused = [&](const char* text, const std::function<void(vhdx::ParentLocatorEntry&)>& change) {
    auto entry = sound;
    change(entry);
    put(place, entry);
    EXPECT_THAT(open_error().message, HasSubstr(text));
  };
  expect_refused("lies outside it", [](auto& entry) { entry.key_offset = 0xFFFFFFF0; });
  expect_refused("lies outside it", [](auto& entry) { entry.value_length = 0xFFFE; });
  expect_refused("lies outside it", [](auto& entry) { entry.key_length = 3; });
  expect_refused("empty text", [](auto& entry) { entry.key_offset = 0; });
  expect_refused("empty text", [](auto& entry) { entry.value_length = 0; });
  put(place, sound);
  put(place + sizeof sound, sound);
  EXPECT_THAT(open_error().message, HasSubstr("\"parent_linkage\" twice"));
}

TEST_F(VhdxChildCorruption, parent_linkage) {
  make({{"relative_path", ".\\base.vhdx"}});
  EXPECT_THAT(open_error().message, HasSubstr("lacks parent_linkage"));
  make({{"parent_linkage", "base"}, {"relative_path", ".\\base.vhdx"}});
  EXPECT_THAT(open_error().message, HasSubstr("\"base\" is no identity"));
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
