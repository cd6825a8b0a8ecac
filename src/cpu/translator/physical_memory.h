// The guest's RAM as the software CPU's hot paths need it: guest physical page to host pointer in a few instructions.
// Threading: immutable after construction.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "memory/guest_memory.h"

namespace bygone::cpu::translator {

class PhysicalMemory {
 public:
  explicit PhysicalMemory(const memory::GuestMemory& memory);

  struct Place {
    std::uint8_t* host = nullptr;  ///< null: not RAM
    std::uint64_t ram_page = 0;    ///< dense index of the page among all RAM pages
  };
  /// Where the byte at `physical` is.
  [[nodiscard]] Place find(std::uint64_t physical) const {
    for (std::size_t i = 0; i < count_; ++i) {
      const std::uint64_t offset = physical - ranges_[i].base;
      if (offset < ranges_[i].size) return {ranges_[i].host + offset, ranges_[i].first_page + (offset >> 12)};
    }
    return {};
  }
  /// The dense index of the RAM page at a host address inside of RAM.
  [[nodiscard]] std::uint64_t ram_page_of(const std::uint8_t* host) const {
    for (std::size_t i = 0; i < count_; ++i) {
      const auto offset = static_cast<std::uint64_t>(host - ranges_[i].host);
      if (offset < ranges_[i].size) return ranges_[i].first_page + (offset >> 12);
    }
    return 0;
  }
  /// The guest physical address of a RAM page by its dense index.
  [[nodiscard]] memory::Gpa address_of(std::uint64_t ram_page) const {
    for (std::size_t i = 0; i < count_; ++i) {
      const std::uint64_t page = ram_page - ranges_[i].first_page;
      if (page < ranges_[i].size >> 12) return {ranges_[i].base + (page << 12)};
    }
    return {};
  }
  [[nodiscard]] std::uint64_t ram_pages() const { return ram_pages_; }

 private:
  struct Range {
    std::uint64_t base = 0, size = 0;
    std::uint8_t* host = nullptr;
    std::uint64_t first_page = 0;
  };
  static constexpr std::size_t kMaximumRanges = 8;
  std::array<Range, kMaximumRanges> ranges_ = {};
  std::size_t count_ = 0;
  std::uint64_t ram_pages_ = 0;
};

}  // namespace bygone::cpu::translator
