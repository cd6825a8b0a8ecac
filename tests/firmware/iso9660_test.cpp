// The firmware's ISO 9660: the part of Iso9660Dxe that needs no firmware, on a medium made here.
#include "Iso9660Dxe/Format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace bygone::iso9660 {
namespace {

constexpr std::size_t kRootSector = 20;
constexpr std::size_t kFolderSector = 21;
constexpr std::size_t kJolietRootSector = 22;

class Disc {
 public:
  Disc() : bytes(24 * kSectorBytes) {
    descriptor(16, 1, kRootSector);
    descriptor(17, 255, 0);
    put(sector(kRootSector), {record(std::string(1, '\0'), kRootSector, true), record(std::string(1, '\1'), kRootSector, true),
                              record("FOLDER", kFolderSector, true), record("FILE.;1", 23, false, 5)});
    put(sector(kFolderSector), {record("INSIDE.TXT;1", 23, false, 7)});
  }
  void add_joliet() {
    descriptor(17, 2, kJolietRootSector);
    std::memcpy(&bytes[17 * kSectorBytes + 88], "%/E", 3);
    descriptor(18, 255, 0);
    using namespace std::string_literals;
    put(sector(kJolietRootSector), {record("\0L\0o\0n\0g\x20\xAC"s, 23, false, 9)});
  }
  Outcome read(std::uint64_t offset, void* to, std::size_t count) {
    ++reads;
    if (is_broken) return Outcome::kUnreadable;
    if (offset > bytes.size() || count > bytes.size() - offset) return Outcome::kCorrupted;
    std::memcpy(to, &bytes[offset], count);
    return Outcome::kFound;
  }
  std::uint8_t* sector(std::size_t number) { return &bytes[number * kSectorBytes]; }
  static std::vector<std::uint8_t> record(std::string_view name, std::size_t at, bool is_directory, std::uint32_t size = kSectorBytes) {
    std::vector<std::uint8_t> made(33 + name.size() + (name.size() + 1) % 2);
    made[0] = static_cast<std::uint8_t>(made.size());
    made[2] = static_cast<std::uint8_t>(at);
    for (std::size_t byte = 0; byte < 4; ++byte) made[10 + byte] = static_cast<std::uint8_t>(size >> 8 * byte);
    const std::uint8_t date[] = {99, 12, 31, 23, 59, 58, 0xF8};
    std::copy_n(date, sizeof date, &made[18]);
    made[25] = is_directory ? 2 : 0;
    made[32] = static_cast<std::uint8_t>(name.size());
    std::copy(name.begin(), name.end(), &made[33]);
    return made;
  }
  static void put(std::uint8_t* to, const std::vector<std::vector<std::uint8_t>>& records) {
    for (const auto& each : records) to = std::copy(each.begin(), each.end(), to);
  }

  std::vector<std::uint8_t> bytes;
  bool is_broken = false;
  int reads = 0;

 private:
  void descriptor(std::size_t at, std::uint8_t type, std::size_t root) {
    std::uint8_t* const to = sector(at);
    std::memset(to, 0, kSectorBytes);
    to[0] = type;
    std::memcpy(to + 1, "CD001", 5);
    std::memcpy(to + 40, "LABEL                           ", 32);
    to[129] = kSectorBytes >> 8;
    put(to + 156, {record(std::string(1, '\0'), root, true)});
  }
};

template <std::size_t Capacity>
std::u16string text(const Text<Capacity>& from) {
  return {from.data(), from.data() + from.length()};
}

struct Found {
  Outcome outcome;
  Entry entry;
};

Found look(Disc& disc, std::u16string path) {
  Volume volume;
  EXPECT_EQ(read_descriptors(disc, volume), Outcome::kFound);
  Entry entry;
  const std::vector<Character> characters(path.c_str(), path.c_str() + path.size() + 1);
  const Outcome outcome = find(disc, volume, characters.data(), entry);
  return {outcome, entry};
}

TEST(Iso9660, path_leads_through_folders_without_case) {
  Disc disc;
  const auto [outcome, entry] = look(disc, u"\\Folder\\inside.txt");
  ASSERT_EQ(outcome, Outcome::kFound);
  EXPECT_EQ(text(entry.name), u"INSIDE.TXT");
  EXPECT_EQ(entry.bytes, 7U);
  EXPECT_EQ(entry.offset, 23U * kSectorBytes);
  EXPECT_FALSE(entry.is_directory);
}

TEST(Iso9660, name_loses_its_version_and_a_last_period) {
  Disc disc;
  EXPECT_EQ(text(look(disc, u"FILE").entry.name), u"FILE");
  EXPECT_EQ(look(disc, u"FILE.").outcome, Outcome::kNotFound);
  EXPECT_EQ(look(disc, u"FIL").outcome, Outcome::kNotFound);
  EXPECT_EQ(look(disc, u"FILE\\more").outcome, Outcome::kNotFound);
}

TEST(Iso9660, name_hides_what_would_divide_a_path) {
  constexpr std::array<std::uint8_t, 4> kName = {'a', '\\', 0, 'b'};
  EXPECT_EQ(text(name_from(kName, false)), u"a__b");
}

TEST(Iso9660, longest_name_fits_with_its_end) {
  std::array<std::uint8_t, 222> bytes;
  bytes.fill('x');
  const Name name = name_from(bytes, false);
  EXPECT_EQ(name.length(), 127U);
  EXPECT_EQ(name.data()[127], 0);
}

TEST(Iso9660, joliet_names_are_preferred_and_the_label_is_the_first) {
  Disc disc;
  disc.add_joliet();
  Volume volume;
  ASSERT_EQ(read_descriptors(disc, volume), Outcome::kFound);
  EXPECT_TRUE(volume.is_joliet);
  EXPECT_EQ(text(volume.label), u"LABEL");
  EXPECT_EQ(text(look(disc, u"\\LONG\u20AC").entry.name), u"Long\u20AC");
}

TEST(Iso9660, time_has_its_zone) {
  Disc disc;
  const Time time = look(disc, u"FILE").entry.time;
  EXPECT_EQ(time.year, 1999);
  EXPECT_EQ(time.month, 12);
  EXPECT_EQ(time.second, 58);
  EXPECT_TRUE(time.has_zone);
  EXPECT_EQ(time.minutes_to_utc, 120);  // 8 quarters of an hour west
}

TEST(Iso9660, impossible_time_is_1980) {
  constexpr std::array<std::uint8_t, 7> kDate = {120, 13, 1, 0, 0, 0, 100};
  const Time time = time_from(kDate);
  EXPECT_EQ(time.year, 1980);
  EXPECT_EQ(time.month, 1);
  EXPECT_EQ(time.minutes_to_utc, 0);
}

TEST(Iso9660, record_that_claims_more_than_the_sector_holds_is_corrupted) {
  Disc disc;
  std::uint8_t* const root = disc.sector(kRootSector);
  std::memset(root, 0, kSectorBytes);
  for (std::size_t at = 0; at + 34 <= kSectorBytes; at += 34) Disc::put(root + at, {Disc::record(std::string(1, 'A'), 23, false)});
  EXPECT_EQ(look(disc, u"B").outcome, Outcome::kNotFound);
  root[60 * 34 - 34] = 60;  // the last record, and eight bytes of sector are left after it
  EXPECT_EQ(look(disc, u"B").outcome, Outcome::kCorrupted);
}

TEST(Iso9660, name_longer_than_its_record_is_corrupted) {
  Disc disc;
  disc.sector(kFolderSector)[32] = 200;
  EXPECT_EQ(look(disc, u"FOLDER\\X").outcome, Outcome::kCorrupted);
}

TEST(Iso9660, directory_beyond_the_medium_is_corrupted) {
  Disc disc;
  disc.sector(16)[156 + 5] = 0xFF;
  EXPECT_EQ(look(disc, u"FILE").outcome, Outcome::kCorrupted);
}

TEST(Iso9660, root_record_longer_than_its_place_is_corrupted) {
  Disc disc;
  disc.sector(16)[156] = 80;
  disc.sector(16)[156 + 32] = 40;
  Volume volume;
  EXPECT_EQ(read_descriptors(disc, volume), Outcome::kCorrupted);
}

TEST(Iso9660, file_in_several_extents_is_passed_over) {
  Disc disc;
  disc.sector(kFolderSector)[25] = 0x80;
  EXPECT_EQ(look(disc, u"FOLDER\\INSIDE.TXT").outcome, Outcome::kNotFound);
}

TEST(Iso9660, medium_that_fails_says_so) {
  Disc disc;
  Volume volume;
  ASSERT_EQ(read_descriptors(disc, volume), Outcome::kFound);
  disc.is_broken = true;
  Entry entry;
  constexpr Character kPath[] = {'X', 0};
  EXPECT_EQ(find(disc, volume, kPath, entry), Outcome::kUnreadable);
}

TEST(Iso9660, no_volume_and_no_sectors_of_ours_are_unsupported) {
  Disc disc;
  Volume volume;
  disc.sector(16)[128] = 1;
  EXPECT_EQ(read_descriptors(disc, volume), Outcome::kUnsupported);
  disc.sector(16)[1] = 'X';
  EXPECT_EQ(read_descriptors(disc, volume), Outcome::kUnsupported);
}

}  // namespace
}  // namespace bygone::iso9660
