#include "firmware/uefi/image.h"

#include <gtest/gtest.h>

#include <cstring>

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
  const auto entry = load_uefi(memory, tiny_image(), std::vector<std::byte>(64)).value();
  EXPECT_EQ(entry.system.cr3, uefi::kPageTables);
  EXPECT_EQ(entry.general[cpu::Gpr::kRbp], 0x6E0000U);
  EXPECT_EQ(entry.system.segments[1].selector, 8);
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
