// Each way in which a VHDX file's log can be damaged. What breaks one of the rules for an entry (MS-VHDX 2.3.1) takes the entry out of
// the log, and a file that was not closed in order and has no entries left says so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "disk/vhdx/vhdx_corruption.h"

namespace bygone::disk {
namespace {

namespace vhdx = spec::vhdx;
using testing::HasSubstr;

/// A log with one entry that changes the block allocation table: what breaks an entry takes it out of the log.
class VhdxLogCorruption : public VhdxCorruption {
 protected:
  static constexpr std::uint64_t kLog = 1U << 20;

  VhdxLogCorruption() {
    auto header = get<vhdx::Header>(vhdx::kHeaderOffsets[0]);
    header.log_guid = make_guid(7, 7, 7, {7, 7, 7, 7, 7, 7, 7, 7});
    put_header(header);
    entry_.signature = vhdx::kLogEntrySignature;
    entry_.entry_length = 2 * vhdx::kLogSectorBytes;
    entry_.sequence_number = 5;
    entry_.descriptor_count = 1;
    entry_.log_guid = header.log_guid;
    entry_.flushed_file_offset = 4U << 20;
    entry_.last_file_offset = 4U << 20;
    descriptor_.signature = vhdx::kDataDescriptorSignature;
    descriptor_.file_offset = bat_offset();
    descriptor_.sequence_number = 5;
    sector_.signature = vhdx::kDataSectorSignature;
    sector_.sequence_low = 5;
  }
  /// Writes the entry as it stands, with a checksum that is right.
  void put_entry() {
    std::vector<std::byte> bytes(entry_.entry_length.value());
    entry_.checksum = 0;
    std::memcpy(bytes.data(), &entry_, sizeof entry_);
    std::memcpy(bytes.data() + sizeof entry_, &descriptor_, sizeof descriptor_);
    if (bytes.size() > vhdx::kLogSectorBytes) {
      std::memcpy(bytes.data() + vhdx::kLogSectorBytes, &sector_, std::min(sizeof sector_, bytes.size() - vhdx::kLogSectorBytes));
    }
    entry_.checksum = crc32c(bytes);
    std::memcpy(bytes.data(), &entry_, sizeof entry_);
    history_->now.write(kLog, bytes);
  }
  void expect_no_entries(const std::string& what) {
    put_entry();
    expect_still_no_entries(what);
  }
  void expect_still_no_entries(const std::string& what) {
    for (const bool is_read_only : {true, false}) {
      const Error error = open_error(is_read_only);
      EXPECT_EQ(error.code, ErrorCode::kCorrupt) << what;
      EXPECT_THAT(error.text(), testing::AllOf(HasSubstr("no valid entries"), HasSubstr("check --repair"))) << what;
    }
  }

  vhdx::LogEntryHeader entry_ = {};
  vhdx::LogDescriptor descriptor_ = {};
  vhdx::LogDataSector sector_ = {};
};

TEST_F(VhdxLogCorruption, sound_entry_is_replayed_and_the_file_gets_a_new_identity_first) {
  put_entry();
  const Guid before = get<vhdx::Header>(vhdx::kHeaderOffsets[0]).file_write_guid;
  history_->changes.clear();
  FaultFile file(history_);
  const auto layout = VhdxLayout::open(file);
  ASSERT_TRUE(layout) << layout.error().text();
  EXPECT_TRUE((*layout)->was_replayed());
  EXPECT_NE((*layout)->header().file_write_guid, before);
  EXPECT_TRUE((*layout)->header().log_guid.is_zero());
  const auto first_write = std::ranges::find_if(history_->changes, [](const auto& change) { return std::holds_alternative<FaultFile::Write>(change); });
  ASSERT_NE(first_write, history_->changes.end());
  EXPECT_LT(std::get<FaultFile::Write>(*first_write).offset, vhdx::kRegionTableOffsets[0]) << "replayed before the headers changed";
}

TEST_F(VhdxLogCorruption, entry_signature) {
  entry_.signature = 1;
  expect_no_entries("signature");
}

TEST_F(VhdxLogCorruption, entry_checksum) {
  put_entry();
  put(kLog + vhdx::kLogSectorBytes + 100, be32(1));
  expect_still_no_entries("checksum");
}

TEST_F(VhdxLogCorruption, entry_length_that_is_no_whole_sectors) {
  entry_.entry_length = 2 * vhdx::kLogSectorBytes - 512;
  expect_no_entries("length");
}

TEST_F(VhdxLogCorruption, entry_longer_than_the_log) {
  put_entry();
  entry_.entry_length = 2U << 20;
  put(kLog, entry_);
  expect_still_no_entries("longer than the log");
  entry_.entry_length = 0;
  put(kLog, entry_);
  expect_still_no_entries("without length");
}

TEST_F(VhdxLogCorruption, tail_outside_the_sequence) {
  entry_.tail = 64U << 10;
  expect_no_entries("elsewhere in the log");
  entry_.tail = 2U << 20;
  expect_no_entries("outside the log");
  entry_.tail = 100;
  expect_no_entries("no sector");
}

TEST_F(VhdxLogCorruption, sequence_number_zero) {
  entry_.sequence_number = 0;
  expect_no_entries("sequence number");
}

TEST_F(VhdxLogCorruption, entry_of_another_log) {
  entry_.log_guid = Guid::random();
  expect_no_entries("log GUID");
}

TEST_F(VhdxLogCorruption, more_descriptors_than_the_entry_holds) {
  entry_.descriptor_count = 1000;
  expect_no_entries("descriptors");
  entry_.descriptor_count = 0xFFFFFFFF;
  expect_no_entries("very many descriptors");
}

TEST_F(VhdxLogCorruption, descriptors) {
  const auto sound = descriptor_;
  descriptor_.signature = 1;
  expect_no_entries("signature");
  descriptor_ = sound;
  descriptor_.sequence_number = 6;
  expect_no_entries("sequence number");
  descriptor_ = sound;
  descriptor_.file_offset = bat_offset() + 512;
  expect_no_entries("file offset that is no page");
  descriptor_ = sound;
  descriptor_.signature = vhdx::kZeroDescriptorSignature;
  const le64 length = 512;
  std::memcpy(descriptor_.leading_bytes.data(), &length, sizeof length);
  expect_no_entries("zeros that are no whole pages");
}

TEST_F(VhdxLogCorruption, data_sectors) {
  sector_.signature = 1;
  expect_no_entries("signature");
  sector_.signature = vhdx::kDataSectorSignature;
  sector_.sequence_low = 4;
  expect_no_entries("low half of the sequence number");
  sector_.sequence_low = 5;
  sector_.sequence_high = 1;
  expect_no_entries("high half of the sequence number");
  sector_.sequence_high = 0;
  entry_.entry_length = vhdx::kLogSectorBytes;
  expect_no_entries("missing");
}

TEST_F(VhdxLogCorruption, file_that_was_cut_off_since) {
  entry_.flushed_file_offset = 9U << 20;
  entry_.last_file_offset = 9U << 20;
  put_entry();
  EXPECT_THAT(open_error().message, HasSubstr("cut off"));
}

TEST_F(VhdxLogCorruption, changes_outside_the_files_tables) {
  for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{64} << 10, std::uint64_t{5} << 40}) {
    descriptor_.file_offset = offset;
    put_entry();
    EXPECT_THAT(open_error().message, HasSubstr("outside the file's tables")) << offset;
  }
}

TEST_F(VhdxLogCorruption, log_too_long_to_read) {
  auto header = get<vhdx::Header>(vhdx::kHeaderOffsets[0]);
  history_->now.resize(200U << 20);
  header.log_offset = 8U << 20;
  header.log_length = 128U << 20;
  put_header(header);
  EXPECT_EQ(open_error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(open_error().message, HasSubstr("log of 128 MiB"));
}

}  // namespace
}  // namespace bygone::disk
