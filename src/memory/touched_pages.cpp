#include "memory/touched_pages.h"

#include <fcntl.h>
#include <unistd.h>

#include <bit>
#include <optional>

namespace bygone::memory {
namespace {

// Linux, admin-guide/mm/pagemap: a word for each page.
constexpr std::uint64_t kPresent = std::uint64_t{1} << 63, kSwapped = std::uint64_t{1} << 62;
constexpr std::size_t kWordsAtOnce = 4096;

/// Page by page of this process's memory: whether there is one.
class Pagemap {
 public:
  Pagemap() : file_(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)), words_(kWordsAtOnce) {}

  /// nullopt: the host does not tell.
  [[nodiscard]] std::optional<bool> is_there(const std::byte* page) {
    const std::uint64_t number = std::bit_cast<std::uint64_t>(page) / kPageSize;
    if (number - first_ >= count_ && !read(number)) return std::nullopt;
    return (words_[number - first_] & (kPresent | kSwapped)) != 0;
  }

 private:
  [[nodiscard]] bool read(std::uint64_t number) {
    const ssize_t got = ::pread(file_.get(), words_.data(), words_.size() * sizeof words_[0], static_cast<off_t>(number * sizeof words_[0]));
    first_ = number;
    count_ = got > 0 ? static_cast<std::uint64_t>(got) / sizeof words_[0] : 0;
    return count_ != 0;
  }

  UniqueFd file_;
  std::vector<std::uint64_t> words_;
  std::uint64_t first_ = 0, count_ = 0;  ///< pages whose words are here
};

std::vector<std::uint64_t> touched_private(const Slot& slot, std::uint64_t chunk_bytes) {
  Pagemap map;
  std::vector<std::uint64_t> chunks;
  for (std::uint64_t at = 0; at < slot.size;) {
    const std::uint64_t chunk = at / chunk_bytes * chunk_bytes;
    if (map.is_there(slot.host + at).value_or(true)) {
      chunks.push_back(chunk);
      at = chunk + chunk_bytes;
    } else {
      at += kPageSize;
    }
  }
  return chunks;
}

Result<std::vector<std::uint64_t>> touched_shared(const Slot& slot, std::uint64_t chunk_bytes) {
  std::vector<std::uint64_t> chunks;
  for (std::uint64_t at = 0; at < slot.size;) {
    const off_t data = ::lseek(slot.memfd, static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    if (data < 0) return fail_errno(errno, "looking for the memory in use");
    chunks.push_back(static_cast<std::uint64_t>(data) / chunk_bytes * chunk_bytes);
    at = chunks.back() + chunk_bytes;
  }
  return chunks;
}

}  // namespace

Result<std::vector<std::uint64_t>> touched_chunks(const Slot& slot, std::uint64_t chunk_bytes) {
  if (slot.memfd >= 0) return touched_shared(slot, chunk_bytes);
  return touched_private(slot, chunk_bytes);
}

}  // namespace bygone::memory
