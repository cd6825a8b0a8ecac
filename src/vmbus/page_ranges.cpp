#include "vmbus/page_ranges.h"

#include <algorithm>
#include <cstring>

#include "spec/vmbus/ring.h"

namespace bygone::vmbus {

using memory::Gpa;
using memory::kPageSize;

namespace {
/// Page numbers above this would overflow a guest physical address.
constexpr std::uint64_t kHighestPage = (std::uint64_t{1} << 52) - 1;
}  // namespace

PageRanges PageRanges::of_pages(std::vector<std::uint64_t> pages) {
  PageRanges result;
  result.pages_ = std::move(pages);
  const auto count = static_cast<std::uint32_t>(result.pages_.size());
  result.total_bytes_ = std::uint64_t{count} * kPageSize;
  result.ranges_.push_back({static_cast<std::uint32_t>(result.total_bytes_), 0, 0, count});
  return result;
}

void PageRanges::clear() {
  ranges_.clear();
  pages_.clear();
  total_bytes_ = 0;
}

Result<void> PageRanges::parse(std::span<const std::byte> bytes, std::uint32_t range_count) {
  clear();
  for (std::uint32_t i = 0; i < range_count; ++i) {
    spec::vmbus::GpaRangeHeader header;
    if (bytes.size() < sizeof header) return fail(ErrorCode::kCorrupt, "page range {} of {} is missing", i, range_count);
    std::memcpy(&header, bytes.data(), sizeof header);
    bytes = bytes.subspan(sizeof header);
    const std::uint64_t end = std::uint64_t{header.byte_offset} + header.byte_count;
    const std::uint64_t page_count = (end + kPageSize - 1) / kPageSize;
    if (header.byte_count == 0 || page_count * sizeof(std::uint64_t) > bytes.size()) {
      return fail(ErrorCode::kCorrupt, "page range {} of {} says {} bytes at {} and has {} bytes of page numbers", i,
                  range_count, header.byte_count.value(), header.byte_offset.value(), bytes.size());
    }
    const std::size_t first = pages_.size();
    pages_.resize(first + page_count);
    std::memcpy(pages_.data() + first, bytes.data(), page_count * sizeof(std::uint64_t));
    bytes = bytes.subspan(page_count * sizeof(std::uint64_t));
    if (std::ranges::any_of(std::span(pages_).subspan(first), [](std::uint64_t page) { return page > kHighestPage; })) {
      return fail(ErrorCode::kCorrupt, "page range {} of {} names a page beyond the address space", i, range_count);
    }
    ranges_.push_back({header.byte_count, header.byte_offset, static_cast<std::uint32_t>(first),
                       static_cast<std::uint32_t>(page_count)});
    total_bytes_ += header.byte_count;
  }
  return {};
}

template <typename Work>
Result<void> PageRanges::for_each_piece(std::uint64_t offset, std::uint64_t length, Work work) const {
  if (offset > total_bytes_ || length > total_bytes_ - offset) {
    return fail(ErrorCode::kOutOfRange, "{}+{} lies outside a guest buffer of {} bytes", offset, length, total_bytes_);
  }
  for (const Range& range : ranges_) {
    if (length == 0) break;
    if (offset >= range.byte_count) {
      offset -= range.byte_count;
      continue;
    }
    std::uint64_t left = std::min(length, range.byte_count - offset);
    std::uint64_t at = range.byte_offset + offset;  // from the start of the range's first page
    length -= left;
    offset = 0;
    while (left != 0) {
      const std::uint64_t first = range.first_page + at / kPageSize;
      const std::uint64_t in_page = at % kPageSize;
      std::uint64_t piece = std::min(left, kPageSize - in_page);
      // Pages that follow each other are one piece.
      for (std::uint64_t next = first + 1; piece < left && pages_[next] == pages_[next - 1] + 1; ++next) {
        piece += std::min(left - piece, kPageSize);
      }
      BYGONE_CHECK(work(Gpa::from_page(pages_[first]) + in_page, piece));
      at += piece;
      left -= piece;
    }
  }
  return {};
}

Result<void> PageRanges::read(const memory::GuestMemory& memory, std::uint64_t offset, std::span<std::byte> into) const {
  return for_each_piece(offset, into.size(), [&](Gpa address, std::uint64_t length) -> Result<void> {
    BYGONE_CHECK(memory.read(address, into.first(length)));
    into = into.subspan(length);
    return {};
  });
}

Result<void> PageRanges::write(memory::GuestMemory& memory, std::uint64_t offset, std::span<const std::byte> from) const {
  return for_each_piece(offset, from.size(), [&](Gpa address, std::uint64_t length) -> Result<void> {
    BYGONE_CHECK(memory.write(address, from.first(length)));
    from = from.subspan(length);
    return {};
  });
}

Result<void> PageRanges::host_ranges(const memory::GuestMemory& memory, std::uint64_t offset, std::uint64_t length,
                                     std::vector<iovec>& into) const {
  return for_each_piece(offset, length,
                        [&](Gpa address, std::uint64_t piece) { return memory.host_ranges(address, piece, into); });
}

void PageRanges::mark_dirty(memory::GuestMemory& memory, std::uint64_t offset, std::uint64_t length) const {
  // Cannot fail: host_ranges() checked the same bytes.
  [[maybe_unused]] const auto done = for_each_piece(offset, length, [&](Gpa address, std::uint64_t piece) -> Result<void> {
    memory.mark_dirty(address, piece);
    return {};
  });
}

}  // namespace bygone::vmbus
