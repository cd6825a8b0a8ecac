// The firmware's view of the configuration blob, on blobs made here.
#include "Include/BygoneBlob.h"

#include <gtest/gtest.h>

#include <cstring>
#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

#include "spec/uefi/handover.h"

namespace bygone::blob {
namespace {

// The firmware is built without the host's headers; what the two sides say of the same bytes is compared here.
constexpr bool is_same(Type firmware, spec::uefi::BlobRecord host) { return static_cast<std::uint32_t>(firmware) == static_cast<std::uint32_t>(host); }
static_assert(kAddress == spec::uefi::kConfigurationBlob && sizeof(Header) == sizeof(spec::uefi::BlobRecordHeader) &&
              sizeof(MemoryRange) == sizeof(spec::uefi::BlobMemoryRange));
static_assert(is_same(Type::kCount, spec::uefi::BlobRecord::kStructureCount) && is_same(Type::kMemoryMap, spec::uefi::BlobRecord::kMemoryMap) &&
              is_same(Type::kEntropy, spec::uefi::BlobRecord::kEntropy) && is_same(Type::kBiosGuid, spec::uefi::BlobRecord::kBiosGuid) &&
              is_same(Type::kFlags, spec::uefi::BlobRecord::kFlags) && is_same(Type::kMmioRanges, spec::uefi::BlobRecord::kMmioRanges) &&
              is_same(Type::kProcessorInformation, spec::uefi::BlobRecord::kProcessorInformation) &&
              is_same(Type::kAcpiTable, spec::uefi::BlobRecord::kAcpiTable) && is_same(Type::kMadt, spec::uefi::BlobRecord::kMadt));
static_assert(Flags{spec::uefi::kFlagNoFrontPage}.has_no_front_page() && Flags{spec::uefi::kFlagMtrrsSet}.are_mtrrs_set());

/// A blob in 8-aligned memory, with nothing behind it that the walk may look at.
class Made {
 public:
  Made() : words_(2) { set_first(Type::kCount, sizeof(Count), sizeof(Count)); }

  /// What it holds is padded with zeros.
  Made& add(Type type, const void* payload, std::size_t bytes) {
    const std::size_t at = words_.size();
    words_.resize(at + 1 + (bytes + 7) / 8);
    set_header(at, type, static_cast<std::uint32_t>((words_.size() - at) * 8));
    if (bytes != 0) std::memcpy(&words_[at + 1], payload, bytes);
    set_first(Type::kCount, sizeof(Count), static_cast<std::uint32_t>(words_.size() * 8));
    return *this;
  }
  Made& add(Type type, std::string_view text) { return add(type, text.data(), text.size()); }
  void set_header(std::size_t word, Type type, std::uint32_t length) {
    const Header header = {type, length};
    std::memcpy(&words_[word], &header, sizeof header);
  }
  void set_first(Type type, std::uint32_t length, std::uint32_t bytes) {
    const Count count = {{type, length}, 0, bytes};
    std::memcpy(words_.data(), &count, sizeof count);
  }
  std::size_t words() const { return words_.size(); }
  Blob blob() { return Blob(reinterpret_cast<std::uint8_t*>(words_.data())); }
  std::size_t records() {
    std::size_t count = 0;
    for ([[maybe_unused]] const Record record : blob()) ++count;
    return count;
  }

 private:
  std::vector<std::uint64_t> words_;
};

TEST(Blob, without_records_has_none) {
  Made made;
  EXPECT_EQ(made.records(), 0U);
  EXPECT_EQ(made.blob().find<MmioRange>(), nullptr);
  EXPECT_EQ(made.blob().all<MemoryRange>().size(), 0U);
  EXPECT_EQ(made.blob().flags().value, 0U);
}

TEST(Blob, records_are_found_by_type_the_first_of_it) {
  const MmioRange gaps[] = {{0xF8000, 0x8000}, {0x1000000, 0x2000}};
  const Flags flags = {1U << 28 | 1U << 14};
  Made made;
  made.add(static_cast<Type>(0x7777), "unknown").add(Type::kMmioRanges, gaps, sizeof gaps).add(Type::kFlags, &flags, sizeof flags);
  made.add(Type::kMmioRanges, gaps, 16);
  EXPECT_EQ(made.records(), 4U);
  const auto all = made.blob().all<MmioRange>();
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].base(), 0xF8000000U);
  EXPECT_EQ(all[1].end(), 0x1002000000U);
  EXPECT_TRUE(made.blob().flags().are_mtrrs_set());
  EXPECT_TRUE(made.blob().flags().has_no_front_page());
}

TEST(Blob, record_that_is_too_short_for_its_type_is_none) {
  const std::uint64_t half_a_gap = 0xF8000;
  Made made;
  made.add(Type::kMmioRanges, &half_a_gap, sizeof half_a_gap).add(Type::kFlags, "");
  EXPECT_EQ(made.blob().find<MmioRange>(), nullptr);
  EXPECT_EQ(made.blob().all<MmioRange>().size(), 0U);
  EXPECT_EQ(made.blob().flags().value, 0U);
}

TEST(Blob, text_is_what_ends_and_is_not_empty) {
  using namespace std::string_view_literals;
  Made made;
  made.add(Type::kSystemSerial, "1234\0"sv).add(Type::kBaseSerial, "\0"sv).add(Type::kSystemSku, "eight888"sv);
  const auto text = [&made](Type type) { return std::string_view(made.blob().find(type).text("none")); };
  EXPECT_EQ(text(Type::kSystemSerial), "1234");
  EXPECT_EQ(text(Type::kBaseSerial), "none");
  EXPECT_EQ(text(Type::kSystemSku), "none");
  EXPECT_EQ(text(Type::kSystemFamily), "none");
  EXPECT_EQ(made.blob().find(Type::kSystemFamily).text(nullptr), nullptr);
}

TEST(Blob, walk_ends_at_a_record_that_does_not_fit) {
  for (const std::uint32_t length : {0U, 4U, 7U, 12U, 24U, 0xFFFFFFF8U}) {
    Made made;
    made.add(Type::kBaseSerial, "ok");
    const std::size_t bad = made.words();
    made.add(Type::kSystemSku, "x");  // 16 bytes
    made.set_header(bad, Type::kSystemSku, length);
    EXPECT_EQ(made.records(), 1U) << length;
  }
}

TEST(Blob, walk_ends_where_the_first_record_says) {
  Made made;
  made.add(Type::kBaseSerial, "one").add(Type::kSystemSku, "two");
  for (const auto& [bytes, records] : {std::pair{48U, 2U}, {47U, 1U}, {32U, 1U}, {24U, 0U}, {16U, 0U}, {15U, 0U}, {0U, 0U}}) {
    made.set_first(Type::kCount, sizeof(Count), bytes);
    EXPECT_EQ(made.records(), records) << bytes;
  }
}

TEST(Blob, what_does_not_begin_like_one_is_empty) {
  Made made;
  made.add(Type::kBaseSerial, "one");
  made.set_first(Type::kFlags, sizeof(Count), 32);
  EXPECT_EQ(made.records(), 0U);
  made.set_first(Type::kCount, 24, 32);
  EXPECT_EQ(made.records(), 0U);
}

}  // namespace
}  // namespace bygone::blob
