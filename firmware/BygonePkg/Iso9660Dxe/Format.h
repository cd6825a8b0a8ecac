// The ISO 9660 file system (ECMA-119, 4th edition), read only, with Joliet's names where a medium has them. Names are compared without
// case, as UEFI's other file systems do. Not read: Rock Ridge's names, files in several extents or interleaved.
//
// Everything on a medium is hostile: bytes are looked at only through `Bytes`, which has no byte outside itself, a medium refuses what
// is not on it, and nothing recurses. Nothing of EDK II in it: iso9660_test.cpp and the fuzz target `iso9660` run it on the host.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace bygone::iso9660 {

constexpr std::size_t kSectorBytes = 2048;

enum class Outcome : std::uint8_t {
  kFound,
  kEnd,          ///< there is no other
  kNotFound,
  kUnsupported,  ///< a file of a kind that is not read here; no volume
  kCorrupted,
  kUnreadable,   ///< the medium knows why
};

/// Bytes in memory; those beyond the end are zeros.
class Bytes {
 public:
  constexpr Bytes(const std::uint8_t* first, std::size_t size) : first_(first), size_(size) {}
  template <std::size_t N>
  constexpr Bytes(const std::array<std::uint8_t, N>& bytes) : Bytes(bytes.data(), N) {}
  constexpr std::size_t size() const { return size_; }
  constexpr std::uint8_t operator[](std::size_t index) const { return index < size_ ? first_[index] : std::uint8_t{0}; }
  /// Less than `size` bytes where there are no more.
  constexpr Bytes part(std::size_t offset, std::size_t size) const {
    if (offset >= size_) return {first_, 0};
    return {first_ + offset, size < size_ - offset ? size : size_ - offset};
  }
  constexpr std::uint16_t u16(std::size_t at) const { return static_cast<std::uint16_t>((*this)[at] | (*this)[at + 1] << 8); }
  constexpr std::uint32_t u32(std::size_t at) const { return u16(at) | static_cast<std::uint32_t>(u16(at + 2)) << 16; }
  template <std::size_t N>
  constexpr bool begins_with(const char (&text)[N]) const {
    for (std::size_t index = 0; index + 1 < N; ++index) {
      if ((*this)[index] != static_cast<std::uint8_t>(text[index])) return false;
    }
    return true;
  }

 private:
  const std::uint8_t* first_;
  std::size_t size_;
};

using Character = std::uint16_t;  ///< UCS-2, EDK II's CHAR16

/// Text that ends with 0 and holds at most Capacity - 1 characters.
template <std::size_t Capacity>
class Text {
 public:
  constexpr std::size_t length() const { return length_; }
  constexpr bool is_empty() const { return length_ == 0; }
  constexpr Character operator[](std::size_t index) const { return index < length_ ? characters_[index] : Character{0}; }
  constexpr const Character* data() const { return characters_.data(); }
  /// With the 0.
  constexpr std::size_t bytes() const { return (length_ + 1) * sizeof(Character); }
  /// What has no room is left away.
  constexpr void append(Character character) {
    if (length_ + 1 >= Capacity) return;
    characters_[length_++] = character;
    characters_[length_] = 0;
  }
  constexpr void cut(std::size_t length) {
    if (length >= length_) return;
    length_ = length;
    characters_[length_] = 0;
  }

 private:
  std::array<Character, Capacity> characters_ = {};
  std::size_t length_ = 0;
};

using Name = Text<128>;  ///< a Joliet name has at most 103 characters, an ISO 9660 name 31
using Label = Text<33>;

/// ECMA-119, 9.1.5; a date that is none is the first day of 1980.
struct Time {
  std::uint16_t year = 1980;
  std::uint8_t month = 1;
  std::uint8_t day = 1;
  std::uint8_t hour = 0;
  std::uint8_t minute = 0;
  std::uint8_t second = 0;
  bool has_zone = true;
  std::int16_t minutes_to_utc = 0;  ///< to be added to the time
};

/// A directory or a file, as its record describes it.
struct Entry {
  std::uint64_t offset = 0;  ///< on the medium
  std::uint32_t bytes = 0;
  bool is_directory = false;
  bool is_self_or_parent = false;
  Time time;
  Name name;
};

/// What the descriptors say.
struct Volume {
  bool is_joliet = false;
  Entry root;
  Label label;
};

constexpr Time time_from(Bytes date) {
  Time time;
  time.year = static_cast<std::uint16_t>(1900 + date[0]);
  time.month = date[1];
  time.day = date[2];
  time.hour = date[3];
  time.minute = date[4];
  time.second = date[5];
  const int quarters = date[6] < 128 ? date[6] : date[6] - 256;
  time.has_zone = quarters >= -48 && quarters <= 52;
  time.minutes_to_utc = static_cast<std::int16_t>(time.has_zone ? -15 * quarters : 0);
  const bool is_valid = time.month >= 1 && time.month <= 12 && time.day >= 1 && time.day <= 31 && time.hour <= 23 && time.minute <= 59 &&
                        time.second <= 59;
  return is_valid ? time : Time{};
}

constexpr Name name_from(Bytes bytes, bool is_joliet) {
  Name name;
  const std::size_t width = is_joliet ? 2 : 1;
  for (std::size_t at = 0; at + width <= bytes.size(); at += width) {
    const Character character = is_joliet ? static_cast<Character>(bytes[at] << 8 | bytes[at + 1]) : bytes[at];
    if (character == ';') break;  // ECMA-119, 7.5: behind the name a version, and a period even where there is no extension
    name.append(character == '\\' || character == 0 ? Character{'_'} : character);
  }
  if (name.length() > 1 && name[name.length() - 1] == '.') name.cut(name.length() - 1);
  return name;
}

/// A directory record (ECMA-119, 9.1): its bytes, of which the first says how many they are. Numbers stand twice, in both byte orders;
/// the little-endian one comes first.
class Record {
 public:
  static constexpr std::size_t kMaximumBytes = 255;

  /// `bytes` may be more than the record's.
  explicit constexpr Record(Bytes bytes) : bytes_(bytes.part(0, bytes[0])) {}
  /// Changes `entry` only if it is kFound.
  constexpr Outcome read(bool is_joliet, Entry& entry) const {
    const std::size_t length = bytes_[0];
    if (length <= kName || length > bytes_.size() || bytes_[kNameBytes] > length - kName) return Outcome::kCorrupted;
    if ((bytes_[kFlags] & kMultiExtent) != 0 || bytes_[kUnitSize] != 0) return Outcome::kUnsupported;
    const Bytes name = bytes_.part(kName, bytes_[kNameBytes]);
    entry.offset = (std::uint64_t{bytes_.u32(kSector)} + bytes_[kAttributeSectors]) * kSectorBytes;
    entry.bytes = bytes_.u32(kDataBytes);
    entry.is_directory = (bytes_[kFlags] & kDirectory) != 0;
    entry.is_self_or_parent = name.size() == 1 && name[0] <= 1;
    entry.time = time_from(bytes_.part(kDate, 7));
    entry.name = name_from(name, is_joliet);
    return Outcome::kFound;
  }

 private:
  enum Field : std::size_t {
    kAttributeSectors = 1,
    kSector = 2,
    kDataBytes = 10,
    kDate = 18,
    kFlags = 25,
    kUnitSize = 26,
    kNameBytes = 32,
    kName = 33,
  };
  static constexpr std::uint8_t kDirectory = 1 << 1;
  static constexpr std::uint8_t kMultiExtent = 1 << 7;

  Bytes bytes_;
};

/// A volume descriptor (ECMA-119, 8.4 and 8.5).
class Descriptor {
 public:
  static constexpr std::size_t kBytes = 190;
  static constexpr std::uint64_t kFirstSector = 16;  ///< 6.2.1
  static constexpr std::uint64_t kEndSector = 64;    ///< no medium has so many
  enum class Type : std::uint8_t { kPrimary = 1, kSupplementary = 2, kEnd = 255 };

  explicit constexpr Descriptor(Bytes bytes) : bytes_(bytes) {}
  constexpr bool is_one() const { return bytes_.part(1, 5).begins_with("CD001") && type() != Type::kEnd; }
  constexpr Type type() const { return Type{bytes_[0]}; }
  constexpr bool has_our_sectors() const { return bytes_.u16(128) == kSectorBytes; }
  constexpr Record root() const { return Record(bytes_.part(156, 34)); }
  /// Joliet, 1.3: escape sequences of UCS-2, level 1, 2 and 3.
  constexpr bool is_joliet() const {
    const Bytes escapes = bytes_.part(88, 3);
    return escapes.begins_with("%/@") || escapes.begins_with("%/C") || escapes.begins_with("%/E");
  }
  constexpr Label label() const {
    Label label;
    const Bytes bytes = bytes_.part(40, 32);
    std::size_t length = bytes.size();
    while (length != 0 && (bytes[length - 1] == ' ' || bytes[length - 1] == 0)) --length;
    for (std::size_t index = 0; index < length; ++index) label.append(bytes[index]);
    return label;
  }

 private:
  Bytes bytes_;
};

/// The primary descriptor and, if there is one, Joliet's, whose names are better.
/// A Medium has `Outcome read(std::uint64_t offset, void* to, std::size_t bytes)`, which reads any bytes: kFound, kUnreadable, or
/// kCorrupted where they are not all on it.
template <typename Medium>
Outcome read_descriptors(Medium& medium, Volume& volume) {
  bool has_primary = false;
  for (std::uint64_t sector = Descriptor::kFirstSector; sector < Descriptor::kEndSector; ++sector) {
    std::array<std::uint8_t, Descriptor::kBytes> bytes;
    if (medium.read(sector * kSectorBytes, bytes.data(), bytes.size()) != Outcome::kFound) break;
    const Descriptor descriptor(bytes);
    if (!descriptor.is_one()) break;
    if (!descriptor.has_our_sectors()) continue;
    const bool is_joliet = descriptor.type() == Descriptor::Type::kSupplementary && descriptor.is_joliet();
    const bool is_wanted = has_primary ? is_joliet && !volume.is_joliet : descriptor.type() == Descriptor::Type::kPrimary;
    if (!is_wanted) continue;
    if (!has_primary) volume.label = descriptor.label();
    volume.is_joliet = is_joliet;
    if (descriptor.root().read(is_joliet, volume.root) != Outcome::kFound || !volume.root.is_directory) return Outcome::kCorrupted;
    volume.root.name = {};
    has_primary = true;
  }
  return has_primary ? Outcome::kFound : Outcome::kUnsupported;
}

/// The entry at a position in a directory, without "." and ".."; files of kinds that are not read here are passed over. Records stand in
/// a row, none across the end of a sector (ECMA-119, 6.8.1).
/// `position`: in and out, bytes from the directory's beginning.
template <typename Medium>
Outcome next_entry(Medium& medium, const Volume& volume, const Entry& directory, std::uint64_t& position, Entry& entry) {
  while (position < directory.bytes) {
    std::array<std::uint8_t, Record::kMaximumBytes> bytes;
    const std::size_t left = kSectorBytes - static_cast<std::size_t>(position % kSectorBytes);
    const std::size_t part = left < bytes.size() ? left : bytes.size();
    if (const Outcome outcome = medium.read(directory.offset + position, bytes.data(), part); outcome != Outcome::kFound) return outcome;
    const std::size_t length = bytes[0];
    if (length == 0) {
      position += left;  // the rest of the sector is empty
      continue;
    }
    if (length > part) return Outcome::kCorrupted;
    position += length;
    const Outcome outcome = Record({bytes.data(), part}).read(volume.is_joliet, entry);
    if (outcome == Outcome::kCorrupted) return outcome;
    if (outcome == Outcome::kFound && !entry.name.is_empty() && !entry.is_self_or_parent) return outcome;
  }
  return Outcome::kEnd;
}

constexpr Character to_upper(Character character) {
  return character >= 'a' && character <= 'z' ? static_cast<Character>(character - 'a' + 'A') : character;
}

/// Whether `wanted` begins with the name and goes on with 0 or a backslash.
constexpr bool is_named(const Name& name, const Character* wanted) {
  std::size_t index = 0;
  for (; wanted[index] != 0 && wanted[index] != '\\'; ++index) {
    if (to_upper(name[index]) != to_upper(wanted[index])) return false;
  }
  return index == name.length();
}

/// Follows a path from the root, its names divided by backslashes. It may begin with one.
template <typename Medium>
Outcome find(Medium& medium, const Volume& volume, const Character* path, Entry& entry) {
  entry = volume.root;
  for (;;) {
    while (*path == '\\') ++path;
    if (*path == 0) return Outcome::kFound;
    if (!entry.is_directory) return Outcome::kNotFound;
    const Entry directory = entry;
    std::uint64_t position = 0;
    do {
      const Outcome outcome = next_entry(medium, volume, directory, position, entry);
      if (outcome == Outcome::kEnd) return Outcome::kNotFound;
      if (outcome != Outcome::kFound) return outcome;
    } while (!is_named(entry.name, path));
    while (*path != 0 && *path != '\\') ++path;
  }
}

}  // namespace bygone::iso9660
