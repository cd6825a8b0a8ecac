#include "firmware/uefi/helper_ports.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace bygone::firmware {
namespace {

namespace uefi = spec::uefi;
using uefi::NvramCommand;
using uefi::NvramDescriptor;
using uefi::Status;

constexpr std::uint64_t kDescriptor = 0x1000, kName = 0x2000, kData = 0x3000;
constexpr std::uint32_t kUsual = uefi::kVariableNonVolatile | uefi::kVariableBootService | uefi::kVariableRuntime;

class HelperPortsTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(memory_.add_ram({0}, 0x100000)); }

  Status command(NvramCommand command, NvramDescriptor descriptor) {
    descriptor.command = static_cast<std::uint32_t>(command);
    descriptor.status = 99ULL;
    EXPECT_TRUE(memory_.write_object({kDescriptor}, descriptor));
    ports_.write(uefi::kSelectorPort, 4, static_cast<std::uint32_t>(uefi::Selector::kNvram));
    ports_.write(uefi::kDataPort, 4, kDescriptor);
    answer_ = memory_.read_object<NvramDescriptor>({kDescriptor}).value();
    return static_cast<Status>(answer_.status.value());
  }
  NvramDescriptor about(const std::u16string& name, std::uint32_t attributes = 0, std::string_view data = {}) {
    EXPECT_TRUE(memory_.write({kName}, std::as_bytes(std::span(name.c_str(), name.size() + 1))));
    EXPECT_TRUE(memory_.write({kData}, std::as_bytes(std::span(data))));
    NvramDescriptor descriptor;
    descriptor.attributes = attributes;
    descriptor.name_address = kName;
    descriptor.name_bytes = static_cast<std::uint32_t>((name.size() + 1) * 2);
    descriptor.vendor = uefi::kGlobalVariable;
    descriptor.data_address = kData;
    descriptor.data_bytes = static_cast<std::uint32_t>(data.size());
    return descriptor;
  }
  Status set(const std::u16string& name, std::uint32_t attributes, std::string_view data) {
    return command(NvramCommand::kSet, about(name, attributes, data));
  }
  Status get(const std::u16string& name, std::uint32_t capacity = 100) {
    NvramDescriptor descriptor = about(name);
    descriptor.data_bytes = capacity;
    return command(NvramCommand::kGet, descriptor);
  }

  memory::GuestMemory memory_;
  VariableStore store_;
  HelperPorts ports_{memory_, store_, {}, Log()};
  NvramDescriptor answer_;
};

TEST_F(HelperPortsTest, variable_is_read_back) {
  ASSERT_EQ(set(u"Lang", kUsual, "en"), Status::kSuccess);
  ASSERT_TRUE(memory_.fill({kData}, 16, std::byte{0}));
  ASSERT_EQ(get(u"Lang"), Status::kSuccess);
  EXPECT_EQ(answer_.data_bytes, 2U);
  EXPECT_EQ(answer_.attributes, kUsual);
  EXPECT_EQ(memory_.read_object<char>({kData}).value(), 'e');
}

TEST_F(HelperPortsTest, small_buffer_is_told_the_size) {
  ASSERT_EQ(set(u"Lang", kUsual, "english"), Status::kSuccess);
  EXPECT_EQ(get(u"Lang", 3), Status::kBufferTooSmall);
  EXPECT_EQ(answer_.data_bytes, 7U);
}

TEST_F(HelperPortsTest, append_and_delete) {
  ASSERT_EQ(set(u"A", kUsual, "12"), Status::kSuccess);
  ASSERT_EQ(set(u"A", kUsual | uefi::kVariableAppend, "34"), Status::kSuccess);
  ASSERT_EQ(get(u"A"), Status::kSuccess);
  EXPECT_EQ(answer_.data_bytes, 4U);
  EXPECT_EQ(set(u"A", kUsual, ""), Status::kSuccess);
  EXPECT_EQ(get(u"A"), Status::kNotFound);
  EXPECT_EQ(set(u"A", 0, ""), Status::kNotFound);
}

TEST_F(HelperPortsTest, names_are_listed_to_the_end) {
  ASSERT_EQ(set(u"A", kUsual, "1"), Status::kSuccess);
  ASSERT_EQ(set(u"Bcd", kUsual, "1"), Status::kSuccess);
  NvramDescriptor descriptor = about(u"");
  descriptor.name_bytes = 64U;
  ASSERT_EQ(command(NvramCommand::kGetFirstName, descriptor), Status::kSuccess);
  EXPECT_EQ(answer_.name_bytes, 4U);
  descriptor.vendor = answer_.vendor;
  ASSERT_EQ(command(NvramCommand::kGetNextName, descriptor), Status::kSuccess);
  EXPECT_EQ(answer_.name_bytes, 8U);
  EXPECT_EQ(command(NvramCommand::kGetNextName, descriptor), Status::kNotFound);
}

TEST_F(HelperPortsTest, boot_service_variables_vanish_at_run_time) {
  ASSERT_EQ(set(u"Boot", uefi::kVariableNonVolatile | uefi::kVariableBootService, "1"), Status::kSuccess);
  ASSERT_EQ(command(NvramCommand::kSignalRuntime, {}), Status::kSuccess);
  EXPECT_EQ(get(u"Boot"), Status::kNotFound);
  EXPECT_EQ(set(u"Boot", uefi::kVariableNonVolatile | uefi::kVariableBootService, "2"), Status::kWriteProtected);
  ports_.reset();
  EXPECT_EQ(get(u"Boot"), Status::kSuccess);
}

TEST_F(HelperPortsTest, hostile_descriptors_do_no_harm) {
  NvramDescriptor descriptor = about(u"A", kUsual, "1");
  descriptor.data_bytes = 0xFFFFFFFFU;
  EXPECT_EQ(command(NvramCommand::kSet, descriptor), Status::kOutOfResources);
  descriptor.data_bytes = 1U;
  descriptor.name_bytes = 3U;
  EXPECT_EQ(command(NvramCommand::kSet, descriptor), Status::kInvalidParameter);
  descriptor.name_bytes = 4U;
  descriptor.name_address = 0xFFFFFFFFFFFFFFF0ULL;
  EXPECT_EQ(command(NvramCommand::kSet, descriptor), Status::kInvalidParameter);
  ports_.write(uefi::kDataPort, 4, 0xFFFFFFF0U);  // a descriptor outside RAM
  EXPECT_EQ(ports_.read(uefi::kDataPort, 4), 0xFFFFFFFFU);
  EXPECT_EQ(store_.used_bytes(), 0U);
}

class HelperPortsCryptoTest : public HelperPortsTest {
 protected:
  std::uint64_t ask(std::uint32_t command, std::uint64_t buffer, std::uint32_t bytes) {
    EXPECT_TRUE(memory_.write_object({kDescriptor}, uefi::CryptoDescriptor{command, 99ULL, buffer, bytes}));
    ports_.write(uefi::kSelectorPort, 4, static_cast<std::uint32_t>(uefi::Selector::kCrypto));
    ports_.write(uefi::kDataPort, 4, kDescriptor);
    return memory_.read_object<uefi::CryptoDescriptor>({kDescriptor}).value().status;
  }
  [[nodiscard]] std::uint64_t number_at(std::uint64_t address) const { return memory_.read_object<le64>({address}).value(); }
};

TEST_F(HelperPortsCryptoTest, random_numbers_fill_the_buffer_and_nothing_else) {
  ASSERT_TRUE(memory_.fill({kData}, 32, std::byte{0}));
  ASSERT_EQ(ask(uefi::kCryptoRandomNumber, kData, 16), 0U);
  EXPECT_NE(number_at(kData), 0U);
  EXPECT_NE(number_at(kData), number_at(kData + 8));
  EXPECT_EQ(number_at(kData + 16), 0U);
}

TEST_F(HelperPortsCryptoTest, what_cannot_be_done_is_told) {
  EXPECT_EQ(ask(0, kData, 16), static_cast<std::uint64_t>(Status::kUnsupported));
  EXPECT_EQ(ask(uefi::kCryptoRandomNumber, kData, 0xFFFFFFFF), static_cast<std::uint64_t>(Status::kInvalidParameter));
  EXPECT_EQ(ask(uefi::kCryptoRandomNumber, 0xFFFFFFFFFFFFFFF0ULL, 64), static_cast<std::uint64_t>(Status::kInvalidParameter));
  ports_.write(uefi::kDataPort, 4, 0xFFFFFFF0U);  // a descriptor outside RAM
}

TEST_F(HelperPortsTest, no_persistent_memory_is_described) {
  ports_.write(uefi::kSelectorPort, 4, static_cast<std::uint32_t>(uefi::Selector::kNfitSize));
  EXPECT_EQ(ports_.read(uefi::kDataPort, 4), 0U);
  EXPECT_EQ(ports_.read(uefi::kDataPort, 2), 0xFFFFFFFFU);
  EXPECT_EQ(ports_.read(uefi::kSelectorPort, 4), 0xFFFFFFFFU);
}

TEST(VariableStore, survives_reopening_and_refuses_rubbish) {
  char pattern[] = "/tmp/bygone-vars-XXXXXX";
  const std::filesystem::path folder = ::mkdtemp(pattern);
  {
    VariableStore store = VariableStore::open(folder / "vars").value();
    ASSERT_TRUE(store.set({uefi::kGlobalVariable, u"Lang"}, {7, {std::byte{1}, std::byte{2}}}));
  }
  const VariableStore store = VariableStore::open(folder / "vars").value();
  ASSERT_NE(store.find({uefi::kGlobalVariable, u"Lang"}), nullptr);
  EXPECT_EQ(store.find({uefi::kGlobalVariable, u"Lang"})->data.size(), 2U);
  std::filesystem::resize_file(folder / "vars", 20);
  EXPECT_EQ(VariableStore::open(folder / "vars").error().code, ErrorCode::kCorrupt);
  std::filesystem::remove_all(folder);
}

TEST(VariableStore, full_store_refuses_and_keeps_the_old_value) {
  VariableStore store;
  ASSERT_TRUE(store.set({{}, u"a"}, {7, std::vector<std::byte>(100)}));
  EXPECT_EQ(store.set({{}, u"a"}, {7, std::vector<std::byte>(2 << 20)}).error().code, ErrorCode::kExhausted);
  EXPECT_EQ(store.find({{}, u"a"})->data.size(), 100U);
}

}  // namespace
}  // namespace bygone::firmware
