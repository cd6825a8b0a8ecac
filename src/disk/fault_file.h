// A file in memory that remembers everything that was done to it, so that a test can ask what a power cut at any moment would
// have left: unflushed changes are dropped, torn at sectors, or kept, in any combination. It can also run out of space or fail.
//
// Threading: as File; requests complete inside submit().
#pragma once

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "disk/file.h"

namespace bygone::disk {

/// Bytes with holes that read as zero; copies share what they have in common.
class SparseBytes {
 public:
  [[nodiscard]] std::uint64_t size() const { return size_; }
  void resize(std::uint64_t size);
  void read(std::uint64_t offset, std::span<std::byte> into) const;
  void write(std::uint64_t offset, std::span<const std::byte> from);
  void zero(std::uint64_t offset, std::uint64_t length);
  /// Whether the page of 4 KiB at `offset` was ever written.
  [[nodiscard]] bool has_page(std::uint64_t offset) const { return pages_.contains(offset / kPage); }

 private:
  static constexpr std::uint64_t kPage = 4096;
  using Page = std::array<std::byte, kPage>;
  std::byte* page_to_change(std::uint64_t index);

  std::uint64_t size_ = 0;
  std::map<std::uint64_t, std::shared_ptr<Page>> pages_;
};

class FaultFile final : public File {
 public:
  struct Write {
    std::uint64_t offset;
    std::vector<std::byte> bytes;
  };
  struct Zero {
    std::uint64_t offset;
    std::uint64_t length;
  };
  struct Resize {
    std::uint64_t size;
  };
  struct Flush {};
  using Change = std::variant<Write, Zero, Resize, Flush>;

  /// What happened, shared with the test, which outlives the file.
  struct History {
    std::mutex mutex;
    SparseBytes start;
    SparseBytes now;
    std::vector<Change> changes;
    std::uint64_t capacity = ~std::uint64_t{0};  ///< the file can't grow beyond this: kNoSpace
    std::size_t fail_after = ~std::size_t{0};    ///< changes from this number on fail with kIo

    [[nodiscard]] std::size_t count() {
      const std::lock_guard lock(mutex);
      return changes.size();
    }
    /// What the disk holds when the power goes after `count` changes: all of them up to the last flush, any of the others.
    [[nodiscard]] SparseBytes after_power_cut(std::size_t count, std::mt19937& random);
  };

  explicit FaultFile(std::shared_ptr<History> history, bool is_read_only = false)
      : history_(std::move(history)), is_read_only_(is_read_only) {}
  /// A file that holds `bytes`.
  [[nodiscard]] static std::shared_ptr<History> history_of(SparseBytes bytes);

  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] bool is_read_only() const override { return is_read_only_; }
  void submit(FileRequest request) override;
  [[nodiscard]] Result<std::uint64_t> size() override;
  [[nodiscard]] Result<void> resize(std::uint64_t size) override;
  [[nodiscard]] Result<void> read(std::uint64_t offset, std::span<std::byte> into) override;
  [[nodiscard]] Result<void> write(std::uint64_t offset, std::span<const std::byte> from) override;
  [[nodiscard]] Result<void> flush() override;
  [[nodiscard]] Result<void> discard(std::uint64_t offset, std::uint64_t length) override;
  [[nodiscard]] Result<void> allocate(std::uint64_t offset, std::uint64_t length) override;
  [[nodiscard]] Result<FileRun> run_at(std::uint64_t offset) override;

 private:
  Result<void> perform(const FileRequest& request);
  Result<void> change(Change change);

  std::shared_ptr<History> history_;
  bool is_read_only_;
  std::string name_ = "fault-file";
};

}  // namespace bygone::disk
