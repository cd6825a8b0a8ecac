// Which RAM pages guest code has written while a dirty log is kept. A page's first write after it was taken goes the slow way, as
// no TLB holds a write tag for it, and is noted there.
// Threading: mark() and is_on() from vCPU threads; the rest from one thread at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace bygone::cpu::translator {

class DirtyPages {
 public:
  explicit DirtyPages(std::uint64_t ram_pages) : words_count_((ram_pages + 63) / 64) {}

  /// The caller then drops all write tags.
  void start() {
    if (!words_) words_ = std::make_unique<std::atomic<std::uint64_t>[]>(words_count_);
    for (std::uint64_t i = 0; i < words_count_; ++i) words_[i].store(0, std::memory_order_relaxed);
    is_on_.store(true);
  }
  void stop() { is_on_.store(false); }
  [[nodiscard]] bool is_on() const { return is_on_.load(); }
  void mark(std::uint64_t ram_page) { words_[ram_page / 64].fetch_or(std::uint64_t{1} << ram_page % 64); }
  /// Calls `work(ram_page)` for each and forgets them. The caller then drops all write tags; whatever was written by then lies in
  /// one of these pages or is noted for the next time.
  template <typename Work>
  void take(Work work) {
    for (std::uint64_t i = 0; i < words_count_; ++i) {
      for (std::uint64_t word = words_[i].exchange(0); word != 0; word &= word - 1) {
        work(i * 64 + static_cast<std::uint64_t>(__builtin_ctzll(word)));
      }
    }
  }

 private:
  std::uint64_t words_count_;
  std::unique_ptr<std::atomic<std::uint64_t>[]> words_;
  std::atomic<bool> is_on_ = false;
};

}  // namespace bygone::cpu::translator
