#include "firmware/linux/loader.h"

#include <gtest/gtest.h>

#include <cstring>

#include "firmware/linux/testing_kernel.h"
#include "spec/linux/boot_protocol.h"
#include "spec/uefi/system_table.h"

namespace bygone::firmware {
namespace {

namespace protocol = spec::linux_boot;

class LoadLinux : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(memory_.add_ram({0}, 64 << 20)); }
  Result<EntryState> load(std::span<const std::byte> kernel, std::span<const std::byte> initrd = {}, std::string_view line = "quiet") {
    return load_linux(memory_, {kernel, initrd, line, {{0, 64 << 20}}});
  }
  memory::GuestMemory memory_;
};

TEST_F(LoadLinux, enters_at_the_64_bit_entry_with_the_zero_page) {
  const auto kernel = testing_kernel();
  const auto entry = load(kernel);
  ASSERT_TRUE(entry) << entry.error().text();
  EXPECT_EQ(entry->general.rip, 0x1000200U);
  const std::uint64_t zero_page = entry->general[cpu::Gpr::kRsi];
  const auto header = memory_.read_object<protocol::SetupHeader>({zero_page + protocol::kSetupHeaderOffset}).value();
  char line[6] = {};
  ASSERT_TRUE(memory_.read({header.command_line}, std::as_writable_bytes(std::span(line))));
  EXPECT_STREQ(line, "quiet");
  EXPECT_EQ(memory_.read_object<std::uint8_t>({zero_page + protocol::kZeroPageE820Count}).value(), 3);
}

TEST_F(LoadLinux, says_that_this_is_a_uefi_machine) {
  const auto kernel = testing_kernel();
  const auto entry = load(kernel);
  ASSERT_TRUE(entry) << entry.error().text();
  const auto info =
      memory_.read_object<protocol::EfiInfo>({entry->general[cpu::Gpr::kRsi] + protocol::kZeroPageEfiInfo}).value();
  EXPECT_EQ(std::string_view(info.signature, 4), "EL64");
  const auto system = memory_.read_object<spec::uefi::SystemTable>({info.system_table}).value();
  EXPECT_EQ(system.header.signature, spec::uefi::kSystemTableSignature);
  const auto acpi = memory_.read_object<spec::uefi::ConfigurationTable>({system.configuration_table}).value();
  EXPECT_EQ(acpi.guid, spec::uefi::kAcpi20Table);
  EXPECT_EQ(acpi.table, kDirectBootAcpi.base);

  // The map has no gaps and no overlaps below the end of memory, and what runs is kept.
  std::uint64_t expected = 0;
  bool tables_are_kept = false;
  ASSERT_EQ(info.memory_map_size % info.descriptor_size, 0U);
  for (std::uint32_t at = 0; at < info.memory_map_size; at += info.descriptor_size) {
    const auto range = memory_.read_object<spec::uefi::MemoryDescriptor>({info.memory_map + at}).value();
    EXPECT_EQ(range.physical_start, expected);
    expected = range.physical_start + range.page_count * 4096;
    if (range.type == spec::uefi::kRuntimeServicesCode) {
      tables_are_kept = range.physical_start <= info.system_table && system.runtime_services + sizeof(spec::uefi::RuntimeServices) <= expected;
    }
  }
  EXPECT_EQ(expected, 64U << 20);
  EXPECT_TRUE(tables_are_kept);
}

TEST_F(LoadLinux, initrd_lies_at_the_top_of_memory) {
  const auto kernel = testing_kernel();
  const std::vector<std::byte> initrd(10000, std::byte{7});
  const auto entry = load(kernel, initrd);
  ASSERT_TRUE(entry);
  const auto header = memory_.read_object<protocol::SetupHeader>({entry->general[cpu::Gpr::kRsi] + protocol::kSetupHeaderOffset}).value();
  EXPECT_EQ(header.ramdisk_size, 10000U);
  EXPECT_EQ(memory_.read_object<std::uint8_t>({header.ramdisk_image + 9999U}).value(), 7);
}

TEST_F(LoadLinux, oversized_initrd_is_refused) {
  const auto kernel = testing_kernel();
  const std::vector<std::byte> initrd(60 << 20);
  EXPECT_EQ(load(kernel, initrd).error().code, ErrorCode::kExhausted);
}

TEST_F(LoadLinux, bad_kernels_are_refused_by_name) {
  EXPECT_EQ(load({}).error().code, ErrorCode::kCorrupt);
  const std::vector<std::byte> zeroes(10000);
  EXPECT_EQ(load(zeroes).error().code, ErrorCode::kUnsupported);
  auto kernel = testing_kernel();
  kernel.resize(1100);
  EXPECT_EQ(load(kernel).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(load(testing_kernel(), {}, std::string(3000, 'a')).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace bygone::firmware
