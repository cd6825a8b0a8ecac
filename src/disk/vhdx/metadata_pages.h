// The tables of an image as 4 KiB pages in memory: loaded when they are first looked at, changed here, written by a commit.
// Clean pages are dropped when more than a bound is held.
// Threading: none of its own.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "disk/vhdx/vhdx_header.h"
#include "disk/vhdx/vhdx_log.h"

namespace bygone::disk {

class MetadataPages {
 public:
  explicit MetadataPages(MetadataReader read, std::size_t maximum_chunks = 512)
      : read_(std::move(read)), maximum_chunks_(maximum_chunks) {}

  /// `length` bytes at `file_offset`, which must not cross a 4 KiB boundary. Valid until the next call.
  [[nodiscard]] Result<std::span<const std::byte>> read(std::uint64_t file_offset, std::size_t length);
  /// The same, to be changed; the page is then part of the next commit.
  [[nodiscard]] Result<std::span<std::byte>> change(std::uint64_t file_offset, std::size_t length);

  /// The changed pages as they are now; they count as unchanged from here on, and stay in memory until end_commit().
  [[nodiscard]] std::vector<PageImage> begin_commit();
  void end_commit(const std::vector<PageImage>& pages, bool is_durable);
  [[nodiscard]] std::size_t changed_count() const { return changed_count_; }

 private:
  static constexpr std::uint64_t kChunkBytes = 64U << 10;
  static constexpr std::size_t kPagesPerChunk = kChunkBytes / kPageBytes;
  struct Chunk {
    std::array<std::byte, kChunkBytes> bytes;
    std::uint16_t changed = 0;     // a bit a page
    std::uint16_t committing = 0;  // a bit a page
  };

  Result<Chunk*> chunk_at(std::uint64_t file_offset);
  void drop_clean_chunks();

  MetadataReader read_;
  std::size_t maximum_chunks_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Chunk>> chunks_;
  std::uint64_t last_index_ = ~std::uint64_t{0};
  Chunk* last_chunk_ = nullptr;
  std::size_t changed_count_ = 0;
};

}  // namespace bygone::disk
