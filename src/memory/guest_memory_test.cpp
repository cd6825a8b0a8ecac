#include "memory/guest_memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "memory/huge_pages.h"

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
  ASSERT_TRUE(memory.add_ram({0}, kBytes, PageSizeHint::kHuge));
  ASSERT_TRUE(memory.fill({0}, kBytes, std::byte{7}));
  EXPECT_EQ(memory.read_object<std::uint8_t>({kBytes - 1}).value(), 7);
  std::ifstream maps("/proc/self/smaps");
  std::string line, page_size;
  bool is_ours = false;
  while (std::getline(maps, line)) {
    if (line.find('-') < line.find(' ')) is_ours = line.starts_with(fmt::format("{:x}-", reinterpret_cast<std::uintptr_t>(memory.slots()[0].host)));
    if (is_ours && line.starts_with("KernelPageSize:")) page_size = line.substr(15);
  }
  const bool is_reserved = huge_pages_of(memory.slots()[0]) == HugePages::kReserved;
  EXPECT_EQ(is_reserved, page_size.find("2048 kB") != std::string::npos) << page_size;
  if (free_before >= kBytes >> 21) {
    EXPECT_TRUE(is_reserved);
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
