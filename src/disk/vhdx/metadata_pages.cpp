#include "disk/vhdx/metadata_pages.h"

#include <bit>
#include <cstring>

namespace bygone::disk {

Result<MetadataPages::Chunk*> MetadataPages::chunk_at(std::uint64_t file_offset) {
  const std::uint64_t index = file_offset / kChunkBytes;
  if (index == last_index_) return last_chunk_;
  auto found = chunks_.find(index);
  if (found == chunks_.end()) {
    if (chunks_.size() >= maximum_chunks_) drop_clean_chunks();
    auto chunk = std::make_unique<Chunk>();
    BYGONE_CHECK(read_(index * kChunkBytes, chunk->bytes));
    found = chunks_.emplace(index, std::move(chunk)).first;
  }
  last_index_ = index;
  last_chunk_ = found->second.get();
  return last_chunk_;
}

void MetadataPages::drop_clean_chunks() {
  std::erase_if(chunks_, [](const auto& item) { return item.second->changed == 0 && item.second->committing == 0; });
  last_index_ = ~std::uint64_t{0};
  last_chunk_ = nullptr;
}

Result<std::span<const std::byte>> MetadataPages::read(std::uint64_t file_offset, std::size_t length) {
  BYGONE_ASSIGN(const Chunk* chunk, chunk_at(file_offset));
  return std::span<const std::byte>(chunk->bytes).subspan(file_offset % kChunkBytes, length);
}

Result<std::span<std::byte>> MetadataPages::change(std::uint64_t file_offset, std::size_t length) {
  BYGONE_ASSIGN(Chunk * chunk, chunk_at(file_offset));
  const auto bit = static_cast<std::uint16_t>(1U << (file_offset % kChunkBytes / kPageBytes));
  if ((chunk->changed & bit) == 0) {
    chunk->changed = static_cast<std::uint16_t>(chunk->changed | bit);
    ++changed_count_;
  }
  return std::span<std::byte>(chunk->bytes).subspan(file_offset % kChunkBytes, length);
}

std::vector<PageImage> MetadataPages::begin_commit() {
  std::vector<PageImage> pages;
  pages.reserve(changed_count_);
  for (auto& [index, chunk] : chunks_) {
    for (std::size_t page = 0; page < kPagesPerChunk; ++page) {
      if ((chunk->changed >> page & 1) == 0) continue;
      PageImage& image = pages.emplace_back();
      image.file_offset = index * kChunkBytes + page * kPageBytes;
      std::memcpy(image.bytes.data(), chunk->bytes.data() + page * kPageBytes, kPageBytes);
    }
    chunk->committing = chunk->changed;
    chunk->changed = 0;
  }
  changed_count_ = 0;
  return pages;
}

void MetadataPages::end_commit(const std::vector<PageImage>& pages, bool is_durable) {
  for (const PageImage& page : pages) {
    Chunk& chunk = *chunks_.at(page.file_offset / kChunkBytes);  // kept while committing
    const auto bit = static_cast<std::uint16_t>(1U << (page.file_offset % kChunkBytes / kPageBytes));
    chunk.committing = static_cast<std::uint16_t>(chunk.committing & ~bit);
    if (is_durable || (chunk.changed & bit) != 0) continue;
    chunk.changed = static_cast<std::uint16_t>(chunk.changed | bit);
    ++changed_count_;
  }
}

}  // namespace bygone::disk
