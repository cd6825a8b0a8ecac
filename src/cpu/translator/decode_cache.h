// Instructions that the interpreter has decoded, by the RAM that they lie in.
//
// Most of what is interpreted runs once or twice, what runs more often is translated: so the cache has a fixed number of places, and an
// instruction takes the one that its address leads to from whatever was there. Nobody removes what was overwritten: an entry is good for
// the version of its page (code_pages.h) that it was decoded under, and no other.
//
// Threading: the vCPU's thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/translator/decoded.h"

namespace bygone::cpu::translator {

class DecodeCache {
 public:
  /// Throws std::bad_alloc when the host has no address space left.
  DecodeCache();
  ~DecodeCache();
  DecodeCache(const DecodeCache&) = delete;
  DecodeCache& operator=(const DecodeCache&) = delete;

  /// How the same bytes may be read: code of 16, 32 and 64 bits, by kModeCodeWidthMask, and real or virtual-8086 mode.
  static constexpr std::uint32_t kRealMode = 3;
  /// Where an instruction is and how it is read; never 0.
  [[nodiscard]] static constexpr std::uint64_t key(std::uint64_t ram_page, std::uint32_t offset, std::uint32_t reading) {
    return ((ram_page << 2 | reading) << 12 | offset) + 1;
  }

  /// Null: not decoded, or under another version. The result lasts until add() or clear().
  [[nodiscard]] const Decoded* find(std::uint64_t key, std::uint32_t version) const {
    const Entry& entry = entries_[place_of(key)];
    return entry.key == key && entry.version == version ? &entry.decoded : nullptr;
  }
  const Decoded& add(std::uint64_t key, std::uint32_t version, const Decoded& decoded) {
    return (entries_[place_of(key)] = {key, version, decoded}).decoded;
  }
  void clear();

  static constexpr unsigned kPlaceBits = 13;

 private:
  struct Entry {
    std::uint64_t key = 0;  ///< 0: empty
    std::uint32_t version = 0;
    Decoded decoded;
  };
  static constexpr std::size_t kBytes = sizeof(Entry) << kPlaceBits;
  [[nodiscard]] static constexpr std::size_t place_of(std::uint64_t key) { return key * 0x9E37'79B9'7F4A'7C15 >> (64 - kPlaceBits); }

  Entry* entries_ = nullptr;  ///< a mapping that is taken page by page: most processors of a machine interpret little
};

}  // namespace bygone::cpu::translator
