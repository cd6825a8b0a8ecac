#include "firmware/uefi/image.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

#include "firmware/uefi/config_blob.h"
#include "spec/uefi/handover.h"

namespace bygone::firmware {
namespace {

namespace uefi = spec::uefi;

void put(std::vector<std::byte>& image, std::size_t at, std::uint32_t value, unsigned size) {
  for (unsigned i = 0; i < size; ++i) image[at + i] = static_cast<std::byte>(value >> (8 * i));
}

// A security core as a TE image whose entry is 0x40 bytes after its (stripped) headers.
std::vector<std::byte> tiny_image() {
  std::vector<std::byte> image(uefi::kImageSize);
  std::size_t at = uefi::kSecVolumeOffset;
  put(image, at + 48, 0x48, 2);
  at += 0x48;
  put(image, at + 18, 3, 1);
  put(image, at + 20, 0x200, 3);
  at += 24;
  put(image, at, 0x100, 3);
  put(image, at + 3, 0x12, 1);
  at += 4;
  put(image, at, 0x5A56, 2);
  put(image, at + 6, 0x80, 2);
  put(image, at + 8, 0x80 + 0x40 - 40, 4);
  return image;
}

TEST(UefiImage, entry_is_found_in_the_security_core) {
  EXPECT_EQ(find_sec_entry(tiny_image()).value(), uefi::kSecVolumeOffset + 0x48 + 24 + 4 + 0x40);
}

TEST(UefiImage, foreign_images_are_refused) {
  EXPECT_EQ(find_sec_entry(std::vector<std::byte>(100)).error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(find_sec_entry(std::vector<std::byte>(uefi::kImageSize)).error().code, ErrorCode::kCorrupt);
  std::vector<std::byte> image(uefi::kImageSize, std::byte{0xFF});
  EXPECT_EQ(find_sec_entry(image).error().code, ErrorCode::kCorrupt);
}

TEST(UefiImage, registers_are_the_hand_overs) {
  memory::GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, 64 << 20));
  const auto place = [](std::span<std::byte> room) -> Result<void> {
    std::ranges::copy(tiny_image(), room.begin());
    return {};
  };
  const auto entry = load_uefi(memory, place, std::vector<std::byte>(64)).value();
  EXPECT_EQ(entry.system.cr3, uefi::kPageTables);
  EXPECT_EQ(entry.general[cpu::Gpr::kRbp], 0x6E0000U);
  EXPECT_EQ(entry.system.segments[1].selector, 8);
}

TEST(UefiImage, a_machine_without_memory_there_and_an_image_that_cannot_be_read_are_refused) {
  memory::GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, 4 << 20));
  const auto place = [](std::span<std::byte>) -> Result<void> { return fail(ErrorCode::kCorrupt, "half of it"); };
  EXPECT_EQ(load_uefi(memory, place, std::vector<std::byte>(64)).error().code, ErrorCode::kOutOfRange);
  memory::GuestMemory enough;
  ASSERT_TRUE(enough.add_ram({0}, 64 << 20));
  EXPECT_EQ(load_uefi(enough, place, std::vector<std::byte>(64)).error().code, ErrorCode::kCorrupt);
}

// What a processor makes of an address (Intel SDM volume 3, 12.11.4.1), above the fixed ranges.
std::uint64_t type_at(const std::vector<cpu::MsrValue>& msrs, std::uint64_t address, std::uint64_t address_mask) {
  std::map<std::uint32_t, std::uint64_t> values;
  for (const cpu::MsrValue& msr : msrs) values[msr.index] = msr.value;
  for (std::uint32_t base = 0x200; base < 0x210; base += 2) {
    const std::uint64_t mask = values.at(base + 1);
    if ((mask & 1 << 11) == 0) continue;
    if (((address ^ values.at(base)) & mask & address_mask & ~0xFFFULL) == 0) return values.at(base) & 0xFF;
  }
  return values.at(0x2FF) & 0xFF;
}

TEST(MemoryTypes, windows_are_uncached_and_memory_is_written_back) {
  constexpr std::uint64_t kGiB = 1ULL << 30, kAddressMask = (1ULL << 40) - 1;
  for (const std::uint64_t high : {4 * kGiB, 5 * kGiB, 12 * kGiB, 37 * kGiB}) {  // 5 and 37 take all eight ranges
    const std::array<AddressRange, 2> windows{AddressRange{0xF8000000, 0x8000000}, {high, 64 * kGiB}};
    const auto msrs = memory_types(windows, 40);
    for (const AddressRange& window : windows) {
      for (const std::uint64_t inside : {window.base, window.base + window.size / 3, window.base + window.size - 4096}) {
        EXPECT_EQ(type_at(msrs, inside, kAddressMask), 0U) << std::hex << inside;
      }
      if (window.base == 4 * kGiB) continue;  // the windows touch
      EXPECT_EQ(type_at(msrs, window.base - 4096, kAddressMask), 6U) << std::hex << window.base;
    }
    EXPECT_EQ(type_at(msrs, high + 64 * kGiB, kAddressMask), 6U);
    EXPECT_EQ(type_at(msrs, 0x100000, kAddressMask), 6U);
    for (const cpu::MsrValue& msr : msrs) {
      const bool is_range = msr.index >= 0x200 && msr.index < 0x210;
      EXPECT_TRUE(!is_range || (msr.value & ~kAddressMask) == 0) << std::hex << msr.index;
    }
  }
}

TEST(ConfigBlob, records_are_counted_aligned_and_complete) {
  UefiMachine machine;
  machine.acpi.ram = {{0, 0x10000000}};
  const std::vector<std::byte> blob = build_config_blob(machine);
  std::uint32_t count = 0;
  bool has_memory = false;
  for (std::size_t at = 0; at < blob.size(); ++count) {
    uefi::BlobRecordHeader header;
    std::memcpy(&header, blob.data() + at, sizeof header);
    EXPECT_EQ(header.length % 8, 0U);
    ASSERT_GE(header.length, sizeof header);
    has_memory |= header.type == static_cast<std::uint32_t>(uefi::BlobRecord::kMemoryMap);
    at += header.length;
    ASSERT_LE(at, blob.size());
  }
  le32 told[2];
  std::memcpy(told, blob.data() + 8, 8);
  EXPECT_EQ(told[0], count);
  EXPECT_EQ(told[1], blob.size());
  EXPECT_TRUE(has_memory);
}

}  // namespace
}  // namespace bygone::firmware
