#include "disk/tools/copy.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>

namespace bygone::disk {
namespace {

constexpr std::size_t kSlots = 8;
constexpr std::size_t kSlotBytes = 1U << 20;
constexpr std::size_t kZeroGrain = 64U << 10;

bool is_zero(std::span<const std::byte> bytes) {
  if (bytes.size() < 64) return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
  for (std::size_t i = 0; i < 16; ++i) {
    if (bytes[i] != std::byte{0}) return false;
  }
  return std::memcmp(bytes.data(), bytes.data() + 16, bytes.size() - 16) == 0;
}

/// One buffer, on its way from source to target.
struct Slot {
  std::unique_ptr<std::byte, decltype(&std::free)> buffer{static_cast<std::byte*>(std::aligned_alloc(4096, kSlotBytes)), &std::free};
  std::uint64_t offset = 0;
  std::size_t length = 0;
  bool is_read = false;          // the read is done, a write is what is on the way
  std::uint32_t in_flight = 0;   // writes
  Result<void> result;
};

/// The calling thread decides everything; completions only report to it.
class Copier {
 public:
  Copier(ImageDevice& source, BlockDevice& target, CopyWhat what, const Progress& progress)
      : source_(source), target_(target), what_(what), progress_(progress), size_(source.info().size_bytes) {}

  Result<void> run() {
    Result<void> result = start_free_slots();
    while (busy_ > 0) {
      Slot& slot = wait_for_one();
      if (!slot.result && result) result = slot.result;
      if (result && !slot.is_read) {
        slot.is_read = true;
        if (write_slot(slot)) continue;  // else: nothing to write
      } else if (--slot.in_flight > 0 && slot.is_read) {
        continue;
      }
      --busy_;
      free_.push_back(&slot);
      if (result) result = progress_.step(next_, size_);
      if (result) result = start_free_slots();
    }
    BYGONE_CHECK(std::move(result));
    return flush_blocks(target_);
  }

 private:
  Result<void> start_free_slots() {
    if (free_.empty() && busy_ == 0) {
      for (Slot& slot : slots_) free_.push_back(&slot);
    }
    while (!free_.empty() && next_ < size_) {
      BYGONE_ASSIGN(const bool is_data, skip_to_data());
      if (!is_data) break;
      Slot& slot = *free_.back();
      free_.pop_back();
      ++busy_;
      slot.offset = next_;
      slot.length = static_cast<std::size_t>(std::min<std::uint64_t>(kSlotBytes, run_end_ - next_));
      slot.is_read = false;
      slot.in_flight = 1;
      slot.result = {};
      next_ += slot.length;
      submit(source_, BlockOperation::kRead, slot, 0, slot.length);
    }
    return {};
  }

  /// Moves next_ to the next run that has to be read; false at the end.
  Result<bool> skip_to_data() {
    while (next_ < size_) {
      if (next_ < run_end_) return true;
      // Whole slots where possible: runs are looked up one after the other and joined.
      if (what_ == CopyWhat::kContent) {
        BYGONE_ASSIGN(const DiskRun run, run_at(source_, next_, size_ - next_));
        run.is_zero ? next_ += run.length : run_end_ = next_ + run.length;
      } else {
        BYGONE_ASSIGN(const Extent extent, source_.find(next_, size_ - next_));
        if (extent.kind == Extent::Kind::kFile) {
          run_end_ = next_ + extent.length;
          continue;
        }
        if (extent.kind == Extent::Kind::kZero) BYGONE_CHECK(zero_blocks(target_, next_, extent.length));
        next_ += extent.length;
      }
      BYGONE_CHECK(progress_.step(next_, size_));
    }
    return false;
  }

  /// False when the slot holds nothing but zeros that the target has already.
  bool write_slot(Slot& slot) {
    const std::span<const std::byte> bytes(slot.buffer.get(), slot.length);
    struct Run {
      std::size_t start, end;
      bool is_zero;
    };
    std::vector<Run> runs;
    for (std::size_t start = 0; start < slot.length; start += kZeroGrain) {
      const std::size_t part = std::min(kZeroGrain, slot.length - start);
      const bool part_is_zero = is_zero(bytes.subspan(start, part));
      if (part_is_zero && what_ == CopyWhat::kContent) continue;
      if (!runs.empty() && runs.back().end == start && runs.back().is_zero == part_is_zero) {
        runs.back().end += part;
      } else {
        runs.push_back({start, start + part, part_is_zero});
      }
    }
    slot.in_flight = static_cast<std::uint32_t>(runs.size());
    for (const Run& run : runs) {
      submit(target_, run.is_zero ? BlockOperation::kWriteZeroes : BlockOperation::kWrite, slot, run.start, run.end - run.start);
    }
    return !runs.empty();
  }

  void submit(BlockDevice& device, BlockOperation operation, Slot& slot, std::size_t start, std::size_t length) {
    BlockRequest request;
    request.operation = operation;
    request.offset = slot.offset + start;
    request.length = length;
    if (operation != BlockOperation::kWriteZeroes) request.buffers = {{slot.buffer.get() + start, length}};
    request.done = [this, &slot](Result<void> result) {
      const std::lock_guard lock(mutex_);
      finished_.emplace_back(&slot, std::move(result));
      changed_.notify_one();
    };
    device.submit(std::move(request));
  }

  Slot& wait_for_one() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !finished_.empty(); });
    auto [slot, result] = std::move(finished_.front());
    finished_.pop_front();
    if (!result) slot->result = std::move(result);
    return *slot;
  }

  ImageDevice& source_;
  BlockDevice& target_;
  const CopyWhat what_;
  const Progress& progress_;
  const std::uint64_t size_;
  std::uint64_t next_ = 0;     // the first byte that no slot has taken
  std::uint64_t run_end_ = 0;  // up to here it is data
  std::array<Slot, kSlots> slots_;
  std::vector<Slot*> free_;
  std::size_t busy_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<Slot*, Result<void>>> finished_;  // guarded by mutex_
};

}  // namespace

Result<DiskRun> run_at(ImageDevice& device, std::uint64_t offset, std::uint64_t length) {
  ImageDevice* image = &device;
  for (std::uint32_t depth = 0;; ++depth) {
    const std::uint64_t size = image->info().size_bytes;
    if (offset >= size) return DiskRun{length, true, depth, 0, image};
    length = std::min(length, size - offset);
    BYGONE_ASSIGN(const Extent extent, image->find(offset, length));
    length = extent.length;
    if (extent.kind == Extent::Kind::kZero) return DiskRun{length, true, depth, 0, image};
    if (extent.kind == Extent::Kind::kFile) {
      BYGONE_ASSIGN(const std::uint64_t file_bytes, image->file().size());
      if (extent.file_offset >= file_bytes) return DiskRun{length, true, depth, 0, image};
      BYGONE_ASSIGN(const FileRun run, image->file().run_at(extent.file_offset));
      const std::uint32_t sector = image->info().logical_sector_bytes;
      // Holes are the file system's, in its own units; sectors are ours.
      const std::uint64_t whole = run.is_data ? (run.length + sector - 1) / sector * sector : run.length / sector * sector;
      if (!run.is_data && whole == 0) return DiskRun{std::min<std::uint64_t>(length, sector), false, depth, extent.file_offset, image};
      return DiskRun{std::min(length, whole), !run.is_data, depth, extent.file_offset, image};
    }
    auto* parent = dynamic_cast<ImageDevice*>(image->parent());
    if (parent == nullptr) return fail(ErrorCode::kNotFound, "{} was opened without its parent", image->file().name());
    image = parent;
  }
}

Result<void> copy_disk(ImageDevice& source, BlockDevice& target, CopyWhat what, const Progress& progress) {
  Copier copier(source, target, what, progress);
  return copier.run();
}

}  // namespace bygone::disk
