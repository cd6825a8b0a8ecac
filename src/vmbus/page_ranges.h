// Runs of guest bytes described by page numbers: what a GPADL and a GPA-direct packet are made of.
//
// Threading: a value. Reading and writing guest memory through it follows GuestMemory's rules.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "memory/guest_memory.h"
#include "support/result.h"

namespace bygone::vmbus {

/// Several ranges, seen as one run of bytes: offsets below count over all ranges in order.
class PageRanges {
 public:
  struct Range {
    std::uint32_t byte_count = 0;
    std::uint32_t byte_offset = 0;  ///< into the first page; may exceed a page
    std::uint32_t first_page = 0;   ///< index into pages()
    std::uint32_t page_count = 0;
  };

  PageRanges() = default;
  /// One range over whole pages.
  [[nodiscard]] static PageRanges of_pages(std::vector<std::uint64_t> pages);

  /// Takes `range_count` ranges (spec::vmbus::GpaRangeHeader each, then its page numbers) from a private copy of what the guest
  /// wrote; spare bytes behind them are allowed. Errors: kCorrupt. Whether the pages are RAM shows when they are used.
  [[nodiscard]] Result<void> parse(std::span<const std::byte> bytes, std::uint32_t range_count);
  void clear();

  [[nodiscard]] std::span<const Range> ranges() const { return ranges_; }
  [[nodiscard]] std::span<const std::uint64_t> pages() const { return pages_; }
  [[nodiscard]] std::span<const std::uint64_t> pages(const Range& range) const {
    return std::span(pages_).subspan(range.first_page, range.page_count);
  }
  [[nodiscard]] std::uint64_t total_bytes() const { return total_bytes_; }

  /// Copies between guest memory and `into`/`from`. Errors: kOutOfRange.
  [[nodiscard]] Result<void> read(const memory::GuestMemory& memory, std::uint64_t offset, std::span<std::byte> into) const;
  [[nodiscard]] Result<void> write(memory::GuestMemory& memory, std::uint64_t offset, std::span<const std::byte> from) const;
  /// Appends the host ranges behind [offset, offset + length), to transfer in place. Errors: kOutOfRange.
  [[nodiscard]] Result<void> host_ranges(const memory::GuestMemory& memory, std::uint64_t offset, std::uint64_t length,
                                         std::vector<iovec>& into) const;
  /// Says that [offset, offset + length) was written in place through host_ranges().
  void mark_dirty(memory::GuestMemory& memory, std::uint64_t offset, std::uint64_t length) const;

 private:
  /// Calls work(Gpa, length) for each physically contiguous piece; stops at its first error.
  template <typename Work>
  Result<void> for_each_piece(std::uint64_t offset, std::uint64_t length, Work work) const;

  std::vector<Range> ranges_;
  std::vector<std::uint64_t> pages_;
  std::uint64_t total_bytes_ = 0;
};

}  // namespace bygone::vmbus
