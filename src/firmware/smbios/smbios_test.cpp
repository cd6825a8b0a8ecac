#include "firmware/smbios/smbios.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>

namespace bygone::firmware {
namespace {

struct Parsed {
  std::vector<std::uint8_t> formatted;
  std::vector<std::string> texts;
};

/// DSP0134 6.1.2, read as a guest reads it.
std::map<int, Parsed> parse(std::span<const std::uint8_t> table) {
  std::map<int, Parsed> found;
  std::size_t at = 0;
  while (at + 4 <= table.size()) {
    Parsed one;
    const std::size_t length = table[at + 1];
    one.formatted.assign(table.begin() + static_cast<std::ptrdiff_t>(at), table.begin() + static_cast<std::ptrdiff_t>(at + length));
    const int kind = table[at];
    at += length;
    while (table[at] != 0) {
      one.texts.emplace_back(reinterpret_cast<const char*>(&table[at]));
      at += one.texts.back().size() + 1;
    }
    at += one.texts.empty() ? 2 : 1;
    found[kind] = one;
    if (kind == 127) break;
  }
  EXPECT_EQ(at, table.size());
  return found;
}

TEST(Smbios, structures_have_the_lengths_of_version_3_1) {
  const auto found = parse(build_smbios_table({Guid::random(), 4, 3ULL << 30}));
  const std::map<int, std::size_t> lengths = {{0, 0x1A}, {1, 0x1B}, {2, 0x0F}, {3, 0x16}, {4, 0x30}, {16, 0x17}, {17, 0x28}, {19, 0x1F}, {32, 0x0B}, {127, 4}};
  for (const auto& [kind, length] : lengths) {
    ASSERT_TRUE(found.contains(kind)) << kind;
    EXPECT_EQ(found.at(kind).formatted.size(), length) << kind;
  }
  EXPECT_EQ(found.at(1).texts[1], "Virtual Machine");
  EXPECT_EQ(found.at(4).formatted[0x23], 4);  // cores
  EXPECT_EQ(found.at(17).formatted[0x0C] | found.at(17).formatted[0x0D] << 8, 3072);
}

TEST(Smbios, large_memory_stands_in_the_extended_field) {
  const auto device = parse(build_smbios_table({{}, 1, 64ULL << 30})).at(17).formatted;
  EXPECT_EQ(device[0x0C] | device[0x0D] << 8, 0x7FFF);
  std::uint32_t extended = 0;
  std::memcpy(&extended, &device[0x1C], 4);
  EXPECT_EQ(extended, 65536U);
}

TEST(Smbios, entry_point_sums_up_to_zero_and_names_the_table) {
  memory::GuestMemory memory;
  ASSERT_TRUE(memory.add_ram({0}, 1 << 20));
  ASSERT_TRUE(place_smbios(memory, {0xFE000, 0x1000}, {{}, 1, 1ULL << 30}));
  const auto entry = memory.read_object<std::array<std::uint8_t, 24>>({0xFE000}).value();
  EXPECT_EQ(std::memcmp(entry.data(), "_SM3_", 5), 0);
  std::uint8_t sum = 0;
  for (const std::uint8_t byte : entry) sum = static_cast<std::uint8_t>(sum + byte);
  EXPECT_EQ(sum, 0);
  std::uint64_t table = 0;
  std::memcpy(&table, &entry[16], 8);
  EXPECT_EQ(memory.read_object<std::uint8_t>({table}).value(), 0);
  EXPECT_FALSE(place_smbios(memory, {0xFE000, 64}, {}));
}

}  // namespace
}  // namespace bygone::firmware
