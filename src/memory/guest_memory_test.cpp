#include "memory/guest_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "memory/huge_pages.h"
#include "memory/touched_pages.h"

namespace bygone::memory {
namespace {

TEST(GuestMemory, copy_crosses_touching_slots) {
  GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0x1000}, 0x1000));
  ASSERT_TRUE(memory.add_ram({0x2000}, 0x1000));
  ASSERT_TRUE(memory.write_object<std::uint64_t>({0x1FFC}, 0x1122334455667788ULL));
  EXPECT_EQ(memory.read_object<std::uint64_t>({0x1FFC}).value(), 0x1122334455667788ULL);
  EXPECT_EQ(memory.read_object<std::uint32_t>({0x2000}).value(), 0x11223344U);
  EXPECT_TRUE(memory.host_span({0x1FFC}, 8).empty());
}

TEST(GuestMemory, write_past_the_end_changes_nothing) {
  GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, 0x1000));
  auto result = memory.write_object<std::uint64_t>({0xFFC}, ~0ULL);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(memory.read_object<std::uint32_t>({0xFFC}).value(), 0U);
}

TEST(GuestMemory, addresses_that_wrap_are_refused) {
  GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, 0x1000));
  std::byte byte[16];
  EXPECT_FALSE(memory.read({~0ULL - 3}, byte));
  EXPECT_FALSE(memory.add_ram({~0ULL - 0xFFF}, 0x2000));
}

TEST(GuestMemory, overlap_is_refused) {
  GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0x1000}, 0x2000));
  EXPECT_EQ(memory.add_ram({0x2000}, 0x1000).error().code, ErrorCode::kAlreadyExists);
}

TEST(GuestMemory, host_ranges_cover_the_guest_range) {
  GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, 0x1000));
  ASSERT_TRUE(memory.add_ram({0x1000}, 0x1000));
  std::vector<iovec> ranges;
  ASSERT_TRUE(memory.host_ranges({0x800}, 0x1000, ranges));
  std::size_t total = 0;
  for (const iovec& range : ranges) total += range.iov_len;
  EXPECT_EQ(total, 0x1000U);
}

TEST(GuestMemory, observer_hears_of_host_writes) {
  struct Observer : GuestMemory::WriteObserver {
    void host_wrote(Gpa address, std::uint64_t length) override { last = address, size = length; }
    Gpa last;
    std::uint64_t size = 0;
  } observer;
  GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, 0x1000));
  memory.add_write_observer(observer);
  ASSERT_TRUE(memory.write_object<std::uint16_t>({0x10}, 1));
  EXPECT_EQ(observer.last.value, 0x10U);
  EXPECT_EQ(observer.size, 2U);
}

/// What /proc/self/smaps says of the mapping at `host` behind `field`.
std::string smaps_of(const std::byte* host, std::string_view field) {
  std::ifstream maps("/proc/self/smaps");
  std::string line;
  bool is_ours = false;
  while (std::getline(maps, line)) {
    if (line.find('-') < line.find(' ')) is_ours = line.starts_with(fmt::format("{:x}-", reinterpret_cast<std::uintptr_t>(host)));
    if (is_ours && line.starts_with(field)) return line.substr(field.size());
  }
  return {};
}

// Which of the three it is depends on the host; it must be the truth, and the memory must work.
TEST(GuestMemory, huge_pages_are_what_the_host_gave) {
  constexpr std::uint64_t kBytes = 4 << 20;
  const auto reserved_and_free = [] {
    std::ifstream file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    std::uint64_t pages = 0;
    file >> pages;
    return pages;
  };
  const std::uint64_t free_before = reserved_and_free();
  GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, kBytes, RamKind::kReserved));
  ASSERT_TRUE(memory.fill({0}, kBytes, std::byte{7}));
  EXPECT_EQ(memory.read_object<std::uint8_t>({kBytes - 1}).value(), 7);
  const std::string page_size = smaps_of(memory.slots()[0].host, "KernelPageSize:");
  const bool is_reserved = huge_pages_of(memory.slots()[0]) == HugePages::kReserved;
  EXPECT_EQ(is_reserved, page_size.find("2048 kB") != std::string::npos) << page_size;
  if (free_before >= kBytes >> 21) {
    EXPECT_TRUE(is_reserved);
  }
}

// Whether it gets them is up to the host, whose memory may be in pieces; that they are asked for shows.
TEST(GuestMemory, huge_pages_are_asked_for_where_memory_is_private) {
  if (!std::filesystem::exists("/sys/kernel/mm/transparent_hugepage")) GTEST_SKIP() << "a kernel without huge pages of its own making";
  GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, 64 << 20));
  ASSERT_TRUE(memory.add_ram({1 << 30}, 64 << 20, RamKind::kShared));
  EXPECT_THAT(smaps_of(memory.slots()[0].host, "VmFlags:"), ::testing::HasSubstr(" hg"));
  EXPECT_THAT(smaps_of(memory.slots()[1].host, "VmFlags:"), ::testing::Not(::testing::HasSubstr(" hg")));
}

TEST(GuestMemory, only_shared_memory_can_be_mapped_by_others) {
  GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, 4 << 20));
  ASSERT_TRUE(memory.add_ram({8 << 20}, 4 << 20, RamKind::kShared));
  EXPECT_EQ(memory.slots()[0].memfd, -1);
  ASSERT_GE(memory.slots()[1].memfd, 0);
  ASSERT_TRUE(memory.write_object<std::uint64_t>({9 << 20}, 0x1234'5678'9abcULL));
  std::uint64_t there = 0;
  ASSERT_EQ(::pread(memory.slots()[1].memfd, &there, sizeof there, 1 << 20), 8);
  EXPECT_EQ(there, 0x1234'5678'9abcULL);
}

TEST(GuestMemory, what_was_touched_is_known) {
  constexpr std::uint64_t kChunk = 1 << 20;
  for (const RamKind kind : {RamKind::kPrivate, RamKind::kShared}) {
    GuestMemory memory;
    ASSERT_TRUE(memory.add_ram({0x3000}, 65 * kChunk + 0x5000, kind));
    const Slot& slot = memory.slots()[0];
    EXPECT_THAT(touched_chunks(slot, kChunk).value(), ::testing::IsEmpty());
    ASSERT_TRUE(memory.write_object<std::uint8_t>({0x3000 + 10 * kChunk + 77}, 1));
    ASSERT_TRUE(memory.write_object<std::uint8_t>({0x3000 + 40 * kChunk - 1}, 1));
    ASSERT_TRUE(memory.write_object<std::uint8_t>({0x3000 + slot.size - 1}, 1));
    const auto chunks = touched_chunks(slot, kChunk).value();
    EXPECT_TRUE(std::ranges::is_sorted(chunks));
    for (const std::uint64_t number : {10, 39, 65}) EXPECT_THAT(chunks, ::testing::Contains(number * kChunk)) << number;
    EXPECT_LE(chunks.size(), 9U) << "a huge page may lie across three of them";
  }
}

// So that a huge page of the host's can be one for the guest.
TEST(GuestMemory, large_ram_is_as_far_from_a_huge_page_here_as_in_the_guest) {
  constexpr std::uint64_t kHugePage = 2 << 20;
  GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, 8 << 20));
  ASSERT_TRUE(memory.add_ram({0x10003000}, 5 << 20));
  for (const Slot& slot : memory.slots()) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(slot.host) % kHugePage, slot.base.value % kHugePage);
    EXPECT_TRUE(memory.fill(slot.base, slot.size, std::byte{3}));  // all of it is there
  }
}

TEST(GuestMemory, taking_pages_at_once_changes_nothing_that_can_be_read) {
  constexpr std::uint64_t kBytes = 9 << 20, kOdd = 0x1000;
  GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({kOdd}, kBytes));
  ASSERT_TRUE(memory.add_ram({0x40000000}, 4 << 20));
  for (std::uint64_t at = 0; at < kBytes; at += 0x43000) ASSERT_TRUE(memory.write_object({kOdd + at}, at + 1));
  memory.take_now({0}, 0x40000000 + (2 << 20));  // across what is not RAM
  memory.take_now({3 << 20}, 100);               // no whole page in it
  memory.take_now({~0ULL - 5}, 3);
  for (std::uint64_t at = 0; at < kBytes; at += 0x43000) EXPECT_EQ(memory.read_object<std::uint64_t>({kOdd + at}).value(), at + 1);
  EXPECT_EQ(memory.read_object<std::uint64_t>({0x40000000}).value(), 0U);
  EXPECT_EQ(memory.read_object<std::uint64_t>({kOdd + (8 << 20) + 0x800}).value(), 0U);
}

}  // namespace
}  // namespace bygone::memory
