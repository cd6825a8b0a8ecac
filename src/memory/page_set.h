// A set of guest pages, a bit a page of each slot: which ones a dirty log has found written.
// Threading: one thread.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "memory/guest_memory.h"

namespace bygone::memory {

class PageSet {
 public:
  /// Empty, for the slots that `memory` has now.
  explicit PageSet(const GuestMemory& memory) {
    for (const Slot& slot : memory.slots()) {
      parts_.push_back({slot.base.page(), slot.size / kPageSize, std::vector<std::uint64_t>((slot.size / kPageSize + 63) / 64)});
    }
  }

  void add(Gpa address) {
    for (Part& part : parts_) {
      const std::uint64_t page = address.page() - part.first;
      if (page < part.count) part.words[page / 64] |= std::uint64_t{1} << page % 64;
    }
  }
  [[nodiscard]] bool has(Gpa address) const {
    for (const Part& part : parts_) {
      const std::uint64_t page = address.page() - part.first;
      if (page < part.count) return (part.words[page / 64] >> page % 64 & 1) != 0;
    }
    return false;
  }
  [[nodiscard]] std::uint64_t count() const {
    std::uint64_t count = 0;
    for (const Part& part : parts_) {
      for (const std::uint64_t word : part.words) count += static_cast<std::uint64_t>(std::popcount(word));
    }
    return count;
  }
  void clear() {
    for (Part& part : parts_) part.words.assign(part.words.size(), 0);
  }
  /// Calls `work(Gpa)` for each page in order.
  template <typename Work>
  void for_each(Work work) const {
    for (const Part& part : parts_) {
      for (std::size_t i = 0; i < part.words.size(); ++i) {
        for (std::uint64_t word = part.words[i]; word != 0; word &= word - 1) {
          work(Gpa::from_page(part.first + i * 64 + static_cast<std::uint64_t>(std::countr_zero(word))));
        }
      }
    }
  }
  /// The bits of a slot, by its number in GuestMemory::slots(), for engines that deal in such words.
  [[nodiscard]] std::span<std::uint64_t> words(std::size_t slot) { return parts_[slot].words; }

 private:
  struct Part {
    std::uint64_t first = 0, count = 0;  // in pages
    std::vector<std::uint64_t> words;
  };
  std::vector<Part> parts_;
};

}  // namespace bygone::memory
