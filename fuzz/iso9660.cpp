// Links: bygone_firmware_modules
// The firmware's ISO 9660 on any medium: volume, directories as far as they go, and each name that they hold looked up as a path.
// Input: runs of {u8 sector - 16, u16 offset in it, u8 length, bytes} on a medium of 80 sectors.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "Iso9660Dxe/Format.h"
#include "fuzz_input.h"

using namespace bygone::iso9660;

namespace {

struct Medium {
  Outcome read(std::uint64_t offset, void* to, std::size_t count) const {
    if (offset > bytes.size() || count > bytes.size() - offset) return Outcome::kCorrupted;
    std::memcpy(to, bytes.data() + offset, count);
    return Outcome::kFound;
  }
  std::vector<std::uint8_t> bytes = std::vector<std::uint8_t>(80 * kSectorBytes);
};

void require(bool holds) {
  if (!holds) std::abort();
}

using Path = std::vector<Character>;  ///< without its 0

bool same_place(const Entry& a, const Entry& b) {
  return a.offset == b.offset && a.bytes == b.bytes && a.is_directory == b.is_directory;
}

class Walk {
 public:
  Walk(Medium& medium, const Volume& volume) : medium_(medium), volume_(volume) {}
  void enter(const Entry& directory, const Path& path, int depth) {
    const bool is_first_of_name = same_place(look_up(path).entry, directory);
    std::uint64_t position = 0;
    Entry entry;
    while (left_ > 0 && next_entry(medium_, volume_, directory, position, entry) == Outcome::kFound) {
      --left_;
      Path next = path;
      next.push_back('\\');
      for (std::size_t index = 0; index < entry.name.length(); ++index) {
        require(entry.name[index] != 0 && entry.name[index] != '\\');
        next.push_back(entry.name[index]);
      }
      require(entry.name.length() > 0 && entry.name.data()[entry.name.length()] == 0);
      require(entry.time.month >= 1 && entry.time.month <= 12 && entry.time.hour < 24);
      if (is_first_of_name) require(look_up(next).outcome == Outcome::kFound);
      if (entry.is_directory && depth < 8) enter(Entry(entry), next, depth + 1);
    }
  }

 private:
  struct Found {
    Outcome outcome;
    Entry entry;
  };
  [[nodiscard]] Found look_up(Path path) {
    path.push_back(0);
    Found found{};
    found.outcome = find(medium_, volume_, path.data(), found.entry);
    return found;
  }

  Medium& medium_;
  const Volume& volume_;
  int left_ = 64;  ///< entries; directories may hold themselves
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzInput input(data, size);
  Medium medium;
  while (!input.is_empty()) {
    const std::size_t at = (16 + input.take<std::uint8_t>() % 64) * kSectorBytes + input.take<std::uint16_t>() % kSectorBytes;
    const auto bytes = input.take_bytes(input.take<std::uint8_t>());
    std::memcpy(medium.bytes.data() + at, bytes.data(), std::min(bytes.size(), medium.bytes.size() - at));
  }
  Volume volume;
  if (read_descriptors(medium, volume) != Outcome::kFound) return 0;
  require(volume.label.length() <= 32 && volume.root.is_directory && volume.root.name.is_empty());
  Walk(medium, volume).enter(volume.root, {}, 0);
  return 0;
}
