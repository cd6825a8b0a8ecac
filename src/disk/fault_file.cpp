#include "disk/fault_file.h"

#include <algorithm>
#include <cstring>

namespace bygone::disk {
namespace {

constexpr std::uint64_t kSector = 512;

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

void apply_change(SparseBytes& bytes, const FaultFile::Change& change) {
  std::visit(Overloaded{[&](const FaultFile::Write& write) { bytes.write(write.offset, write.bytes); },
                        [&](const FaultFile::Zero& zero) { bytes.zero(zero.offset, zero.length); },
                        [&](const FaultFile::Resize& resize) { bytes.resize(resize.size); }, [](const FaultFile::Flush&) {}},
             change);
}

/// Applies some of a write's sectors. A sector is written whole or not at all.
void apply_torn(SparseBytes& bytes, const FaultFile::Write& write, std::mt19937& random) {
  std::uint64_t done = 0;
  while (done < write.bytes.size()) {
    const std::uint64_t offset = write.offset + done;
    const std::uint64_t part = std::min<std::uint64_t>(kSector - offset % kSector, write.bytes.size() - done);
    if (random() % 2 == 0) bytes.write(offset, std::span(write.bytes).subspan(done, part));
    done += part;
  }
}

}  // namespace

void SparseBytes::resize(std::uint64_t size) {
  if (size < size_) {
    const std::uint64_t page_end = std::min(size_, (size + kPage - 1) / kPage * kPage);
    if (page_end > size) zero(size, page_end - size);
    pages_.erase(pages_.lower_bound((size + kPage - 1) / kPage), pages_.end());
  }
  size_ = size;
}

std::byte* SparseBytes::page_to_change(std::uint64_t index) {
  std::shared_ptr<Page>& page = pages_[index];
  if (!page) {
    page = std::make_shared<Page>();
  } else if (page.use_count() > 1) {
    page = std::make_shared<Page>(*page);
  }
  return page->data();
}

void SparseBytes::read(std::uint64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const std::size_t part = std::min<std::size_t>(into.size(), kPage - offset % kPage);
    const auto found = pages_.find(offset / kPage);
    if (found == pages_.end()) {
      std::memset(into.data(), 0, part);
    } else {
      std::memcpy(into.data(), found->second->data() + offset % kPage, part);
    }
    into = into.subspan(part);
    offset += part;
  }
}

void SparseBytes::write(std::uint64_t offset, std::span<const std::byte> from) {
  size_ = std::max(size_, offset + from.size());
  while (!from.empty()) {
    const std::size_t part = std::min<std::size_t>(from.size(), kPage - offset % kPage);
    std::memcpy(page_to_change(offset / kPage) + offset % kPage, from.data(), part);
    from = from.subspan(part);
    offset += part;
  }
}

void SparseBytes::zero(std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t end = std::min(offset + length, size_);
  auto page = pages_.lower_bound(offset / kPage);
  while (page != pages_.end() && page->first * kPage < end) {
    const std::uint64_t start = page->first * kPage;
    const std::uint64_t from = std::max(offset, start);
    const std::uint64_t to = std::min(end, start + kPage);
    if (to - from == kPage) {
      page = pages_.erase(page);
    } else {
      std::memset(page_to_change(page->first) + (from - start), 0, to - from);
      ++page;
    }
  }
}

SparseBytes FaultFile::History::after_power_cut(std::size_t count, std::mt19937& random) {
  const std::lock_guard lock(mutex);
  std::size_t flushed = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (std::holds_alternative<Flush>(changes[i])) flushed = i;
  }
  SparseBytes bytes = start;
  for (std::size_t i = 0; i < count; ++i) {
    const unsigned fate = i < flushed ? 0 : static_cast<unsigned>(random() % 4);
    if (fate <= 1) {
      apply_change(bytes, changes[i]);
    } else if (const auto* write = std::get_if<Write>(&changes[i]); write != nullptr && fate == 2) {
      apply_torn(bytes, *write, random);
    }
  }
  return bytes;
}

std::shared_ptr<FaultFile::History> FaultFile::history_of(SparseBytes bytes) {
  auto history = std::make_shared<History>();
  history->start = bytes;
  history->now = std::move(bytes);
  return history;
}

Result<void> FaultFile::change(Change change) {
  const std::lock_guard lock(history_->mutex);
  if (history_->changes.size() >= history_->fail_after) return fail(ErrorCode::kIo, "{} fails, as it was told to", name_);
  const std::uint64_t end = std::visit(Overloaded{[](const Write& write) { return write.offset + write.bytes.size(); },
                                                  [](const Resize& resize) { return resize.size; },
                                                  [](const auto&) { return std::uint64_t{0}; }},
                                       change);
  if (end > history_->capacity) return fail(ErrorCode::kNoSpace, "{} can't grow to {:#x}", name_, end);
  apply_change(history_->now, change);
  history_->changes.push_back(std::move(change));
  return {};
}

void FaultFile::submit(FileRequest request) {
  Result<void> result = perform(request);
  request.done(std::move(result));
}

Result<void> FaultFile::perform(const FileRequest& request) {
  if (request.operation == FileOperation::kZero || request.operation == FileOperation::kDiscard) {
    return discard(request.offset, request.length);
  }
  std::uint64_t offset = request.offset;
  for (const iovec& buffer : request.buffers) {
    const std::span<std::byte> bytes(static_cast<std::byte*>(buffer.iov_base), buffer.iov_len);
    if (request.operation == FileOperation::kWrite) {
      BYGONE_CHECK(write(offset, bytes));
    } else {
      const std::lock_guard lock(history_->mutex);
      history_->now.read(offset, bytes);
    }
    offset += buffer.iov_len;
  }
  return {};
}

Result<std::uint64_t> FaultFile::size() {
  const std::lock_guard lock(history_->mutex);
  return history_->now.size();
}

Result<void> FaultFile::resize(std::uint64_t size) { return change(Resize{size}); }

Result<void> FaultFile::read(std::uint64_t offset, std::span<std::byte> into) {
  const std::lock_guard lock(history_->mutex);
  if (offset > history_->now.size() || into.size() > history_->now.size() - offset) {
    return fail(ErrorCode::kCorrupt, "{} ends at {:#x}, inside its own structures", name_, history_->now.size());
  }
  history_->now.read(offset, into);
  return {};
}

Result<void> FaultFile::write(std::uint64_t offset, std::span<const std::byte> from) {
  return change(Write{offset, {from.begin(), from.end()}});
}

Result<void> FaultFile::flush() { return change(Flush{}); }

Result<void> FaultFile::discard(std::uint64_t offset, std::uint64_t length) { return change(Zero{offset, length}); }

Result<void> FaultFile::allocate(std::uint64_t offset, std::uint64_t length) {
  BYGONE_ASSIGN(const std::uint64_t now, size());
  return offset + length > now ? resize(offset + length) : Result<void>{};
}

Result<FileRun> FaultFile::run_at(std::uint64_t offset) {
  const std::lock_guard lock(history_->mutex);
  const std::uint64_t size = history_->now.size();
  const bool is_data = history_->now.has_page(offset);
  std::uint64_t end = offset / 4096 * 4096 + 4096;
  while (end < size && history_->now.has_page(end) == is_data) end += 4096;
  return FileRun{std::min(end, size) - offset, is_data};
}

}  // namespace bygone::disk
