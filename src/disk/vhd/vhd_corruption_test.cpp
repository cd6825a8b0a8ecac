// Each way in which a VHD file can break its format has its own error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <functional>

#include "disk/testing_corruption.h"
#include "disk/vhd/vhd_layout.h"

namespace bygone::disk {
namespace {

namespace vhd = spec::vhd;
using testing::HasSubstr;

/// A dynamic image of 16 MiB in blocks of 2 MiB: footer's copy, header, table of 8 entries in a sector, footer.
class VhdCorruption : public CorruptionTest<VhdLayout> {
 protected:
  static constexpr std::uint64_t kHeader = 512;
  static constexpr std::uint64_t kTable = 1536;
  static constexpr std::uint64_t kEnd = 2048;

  VhdCorruption() { make(vhd::DiskType::kDynamic); }

  void make(vhd::DiskType type) {
    VhdParameters parameters;
    parameters.size_bytes = 16U << 20;
    parameters.type = type;
    if (type == vhd::DiskType::kDifferencing) parameters.parent = VhdParent{Guid::random(), 0, "base.vhd", ".\\base.vhd", "C:\\base.vhd"};
    history_ = FaultFile::history_of({});
    FaultFile file(history_);
    ASSERT_TRUE(create_vhd(file, parameters));
  }
  std::uint64_t footer_offset() { return history_->now.size() - sizeof(vhd::Footer); }
  /// Changes the footer and its copy; the checksums are right.
  void change_footer(const std::function<void(vhd::Footer&)>& change) {
    auto footer = get<vhd::Footer>(footer_offset());
    change(footer);
    footer.checksum = vhd_checksum(footer);
    put(footer_offset(), footer);
    if (get<std::array<char, 8>>(0) == vhd::kFooterCookie) put(0, footer);
  }
  void change_header(const std::function<void(vhd::DynamicHeader&)>& change) {
    auto header = get<vhd::DynamicHeader>(kHeader);
    change(header);
    header.checksum = vhd_checksum(header);
    put(kHeader, header);
  }
  Error find_error() {
    FaultFile file(history_);
    auto layout = VhdLayout::open(file);
    if (!layout) return layout.error();
    const auto found = (*layout)->find(0, 512);
    if (found) return {ErrorCode::kInternal, "found all the same", {}};
    return found.error();
  }
};

TEST_F(VhdCorruption, untouched_files_open) {
  for (const auto type : {vhd::DiskType::kDynamic, vhd::DiskType::kFixed, vhd::DiskType::kDifferencing}) {
    make(type);
    EXPECT_THAT(findings(), testing::IsEmpty());
  }
}

TEST_F(VhdCorruption, short_file) {
  history_->now.resize(511);
  EXPECT_THAT(open_error().message, HasSubstr("too short"));
}

TEST_F(VhdCorruption, one_footer_is_enough_and_none_is_not) {
  put(footer_offset(), be64(0));
  EXPECT_THAT(findings(), testing::ElementsAre(HasSubstr("the footer at the end is damaged")));
  put(0, be64(0));
  EXPECT_THAT(open_error().message, HasSubstr("no intact VHD footer"));
  make(vhd::DiskType::kDynamic);
  put(100, be32(1));  // in the copy: its checksum is wrong now
  EXPECT_THAT(findings(), testing::ElementsAre(HasSubstr("copy at the start is damaged")));
  put(footer_offset() + 100, be32(1));
  EXPECT_THAT(open_error().message, HasSubstr("no intact VHD footer"));
}

TEST_F(VhdCorruption, a_copy_that_says_something_else_is_noticed) {
  auto copy = get<vhd::Footer>(0);
  copy.unique_id = Guid::random();
  copy.checksum = vhd_checksum(copy);
  put(0, copy);
  EXPECT_THAT(findings(), testing::ElementsAre(HasSubstr("copy at the start is damaged")));
}

TEST_F(VhdCorruption, a_fixed_image_has_no_copy_to_fall_back_to) {
  make(vhd::DiskType::kFixed);
  put(footer_offset(), be64(0));
  EXPECT_THAT(open_error().message, HasSubstr("no intact VHD footer"));
}

TEST_F(VhdCorruption, footers_of_511_bytes_are_read) {
  make(vhd::DiskType::kFixed);
  history_->now.resize(history_->now.size() - 1);
  EXPECT_THAT(findings(), testing::IsEmpty());
}

TEST_F(VhdCorruption, footer_version) {
  change_footer([](vhd::Footer& footer) { footer.file_format_version = 0x00020000; });
  EXPECT_EQ(open_error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(open_error().message, HasSubstr("version 0x20000"));
}

TEST_F(VhdCorruption, kinds_that_are_none) {
  for (const std::uint32_t kind : {0U, 1U, 5U, 6U, 0xFFFFFFFFU}) {
    change_footer([&](vhd::Footer& footer) { footer.disk_type = kind; });
    EXPECT_EQ(open_error().code, ErrorCode::kUnsupported);
    EXPECT_THAT(open_error().message, HasSubstr("unknown kind " + std::to_string(kind)));
  }
}

TEST_F(VhdCorruption, disk_sizes) {
  for (const std::uint64_t size : {std::uint64_t{0}, (std::uint64_t{2040} << 30) + 512, ~std::uint64_t{0}}) {
    change_footer([&](vhd::Footer& footer) { footer.current_size = size; });
    EXPECT_THAT(open_error().message, HasSubstr("up to 2040 GiB are possible")) << size;
  }
  change_footer([](vhd::Footer& footer) { footer.current_size = (16U << 20) + 1; });
  EXPECT_THAT(open_error().message, HasSubstr("not whole sectors"));
}

TEST_F(VhdCorruption, fixed_image_that_was_cut_off) {
  make(vhd::DiskType::kFixed);
  const auto footer = get<vhd::Footer>(footer_offset());
  history_->now.resize(8U << 20);
  put(footer_offset(), footer);
  EXPECT_THAT(open_error().message, HasSubstr("cut off"));
}

TEST_F(VhdCorruption, header_outside_the_file) {
  for (const std::uint64_t offset : {std::uint64_t{1} << 40, kEnd, vhd::kNoOffset}) {
    change_footer([&](vhd::Footer& footer) { footer.data_offset = offset; });
    EXPECT_THAT(open_error().message, HasSubstr("dynamic header at")) << offset;
  }
}

TEST_F(VhdCorruption, header_cookie_and_checksum) {
  put(kHeader + 100, be32(1));
  EXPECT_THAT(open_error().message, HasSubstr("dynamic header of fault-file is damaged"));
  make(vhd::DiskType::kDynamic);
  change_header([](vhd::DynamicHeader& header) { header.cookie[0] = 'x'; });
  EXPECT_THAT(open_error().message, HasSubstr("dynamic header of fault-file is damaged"));
}

TEST_F(VhdCorruption, header_version) {
  change_header([](vhd::DynamicHeader& header) { header.header_version = 0x00030000; });
  EXPECT_EQ(open_error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(open_error().message, HasSubstr("0x30000"));
}

TEST_F(VhdCorruption, block_sizes) {
  for (const std::uint32_t bytes : {0U, 512U, 3U << 20, 512U << 20}) {
    change_header([&](vhd::DynamicHeader& header) { header.block_size = bytes; });
    EXPECT_THAT(open_error().message, HasSubstr("has blocks of " + std::to_string(bytes)));
  }
}

TEST_F(VhdCorruption, table_with_too_few_entries) {
  change_header([](vhd::DynamicHeader& header) { header.max_table_entries = 7; });
  EXPECT_THAT(open_error().message, HasSubstr("7 entries for 8 blocks"));
}

TEST_F(VhdCorruption, table_where_none_can_be) {
  for (const std::uint64_t offset : {std::uint64_t{1} << 40, kEnd + 512 - 4, std::uint64_t{1537}, vhd::kNoOffset}) {
    change_header([&](vhd::DynamicHeader& header) { header.table_offset = offset; });
    EXPECT_THAT(open_error().message, HasSubstr("outside the file")) << offset;
  }
}

TEST_F(VhdCorruption, more_blocks_than_are_read) {
  change_footer([](vhd::Footer& footer) { footer.current_size = std::uint64_t{2040} << 30; });
  change_header([](vhd::DynamicHeader& header) {
    header.block_size = 4096;
    header.max_table_entries = 0xFFFFFFFF;
  });
  const auto footer = get<vhd::Footer>(footer_offset());
  history_->now.resize(std::uint64_t{4} << 30);
  put(footer_offset(), footer);
  EXPECT_EQ(open_error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(open_error().message, HasSubstr("blocks of 4096 bytes"));
}

TEST_F(VhdCorruption, blocks_in_impossible_places) {
  history_->now.resize(8U << 20);  // room for a block, if it were in the right place
  put(footer_offset(), get<vhd::Footer>(0));
  const std::uint32_t last = static_cast<std::uint32_t>(history_->now.size() / 512);
  for (const std::uint32_t sector : {0U, 1U, 2U, 3U, last - 1, last - 4000, 0xFFFFFFFEU}) {
    put(kTable, be32(sector));
    EXPECT_THAT(find_error().message, HasSubstr("where no block can be")) << sector;
    EXPECT_THAT(findings(), testing::Contains(HasSubstr("where no block can be"))) << sector;
  }
}

TEST_F(VhdCorruption, blocks_over_one_another_are_found_by_a_check) {
  history_->now.resize(8U << 20);
  put(footer_offset(), get<vhd::Footer>(0));
  put(kTable, be32(8));
  put(kTable + 4, be32(9));
  EXPECT_THAT(findings(), testing::ElementsAre(HasSubstr("block 0 and block 1 share")));
}

TEST_F(VhdCorruption, parent_locators_outside_the_file) {
  make(vhd::DiskType::kDifferencing);
  for (std::size_t slot = 0; slot < 2; ++slot) {
    const auto sound = get<vhd::DynamicHeader>(kHeader);
    change_header([&](vhd::DynamicHeader& header) { header.parent_locators[slot].platform_data_offset = std::uint64_t{1} << 40; });
    EXPECT_THAT(open_error().message, HasSubstr("a parent locator lies at")) << slot;
    put(kHeader, sound);
    change_header([&](vhd::DynamicHeader& header) { header.parent_locators[slot].platform_data_length = 1U << 20; });
    EXPECT_THAT(open_error().message, HasSubstr("a parent locator lies at")) << slot;
    put(kHeader, sound);
  }
}

TEST_F(VhdCorruption, child_that_does_not_say_whose) {
  make(vhd::DiskType::kDifferencing);
  change_header([](vhd::DynamicHeader& header) { header.parent_unique_id = Guid{}; });
  EXPECT_THAT(open_error().message, HasSubstr("does not say which"));
}

}  // namespace
}  // namespace bygone::disk
