#include "machine/saved_state/memory_image.h"

#include <zstd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <memory>
#include <thread>

#include "memory/touched_pages.h"

namespace bygone::machine::saved_state {
namespace {

using memory::Gpa;
using memory::kPageSize;

constexpr std::uint64_t kChunkBytes = 1 << 20;
constexpr std::size_t kChunkPages = kChunkBytes / kPageSize;
constexpr int kCompressionLevel = 1;  // higher ones cost more time than the disk gives back
constexpr unsigned kMaximumWorkers = 8;

using PageMap = std::array<std::uint8_t, kChunkPages / 8>;

struct Chunk {
  const memory::Slot* slot = nullptr;
  std::uint64_t offset = 0;  ///< in the slot
  [[nodiscard]] std::uint64_t length() const { return std::min(kChunkBytes, slot->size - offset); }
};

/// The chunks in which the guest has touched anything.
Result<std::vector<Chunk>> find_chunks(const memory::GuestMemory& memory) {
  std::vector<Chunk> chunks;
  for (const memory::Slot& slot : memory.slots()) {
    BYGONE_ASSIGN(const std::vector<std::uint64_t> offsets, memory::touched_chunks(slot, kChunkBytes));
    for (const std::uint64_t offset : offsets) chunks.push_back({&slot, offset});
  }
  return chunks;
}

bool is_zero_page(const std::byte* page) {
  std::array<std::uint64_t, 64> words;
  static_assert(kPageSize % sizeof words == 0);
  for (std::uint64_t at = 0; at < kPageSize; at += sizeof words) {
    std::memcpy(words.data(), page + at, sizeof words);
    std::uint64_t any = 0;
    for (const std::uint64_t word : words) any |= word;
    if (any != 0) return false;
  }
  return true;
}

/// Runs `work(item)` for every item below `count` on several threads, until one fails.
class Workforce {
 public:
  Workforce(std::size_t count, std::uint64_t bytes_total, const Progress& progress) : count_(count), total_(bytes_total), progress_(progress) {}

  /// `make_work()` gives each thread its own `Result<std::uint64_t>(std::size_t item)`, which says how many bytes it did.
  template <typename MakeWork>
  [[nodiscard]] Result<void> run(MakeWork make_work) {
    const unsigned workers = std::clamp(std::thread::hardware_concurrency(), 1U, kMaximumWorkers);
    std::vector<std::thread> threads;
    for (unsigned i = 1; i < workers && i < count_; ++i) threads.emplace_back([&] { serve(make_work(), false); });
    serve(make_work(), true);
    for (std::thread& thread : threads) thread.join();
    return std::move(outcome_);
  }

 private:
  template <typename Work>
  void serve(Work work, bool reports) {
    while (!stops_.load(std::memory_order_relaxed)) {
      const std::size_t item = next_.fetch_add(1);
      if (item >= count_) return;
      auto done = work(item);
      if (!done) return stop(std::move(done).error());
      const std::uint64_t sum = done_.fetch_add(*done) + *done;
      if (reports && progress_ && !progress_(sum, total_)) stop(Error{ErrorCode::kCancelled, "stopped on request", {}});
    }
  }
  void stop(Error error) {
    const std::lock_guard lock(mutex_);
    if (!stops_.exchange(true)) outcome_ = std::unexpected(std::move(error));
  }

  const std::size_t count_;
  const std::uint64_t total_;
  const Progress& progress_;
  std::atomic<std::size_t> next_ = 0;
  std::atomic<std::uint64_t> done_ = 0;
  std::atomic<bool> stops_ = false;
  std::mutex mutex_;
  Result<void> outcome_;  // guarded by mutex_
};

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

/// One thread's tools for writing chunks.
class Packer {
 public:
  explicit Packer(StateWriter& file) : file_(file), context_(ZSTD_createCCtx()), pages_(kChunkBytes), packed_(sizeof(PageMap) + ZSTD_compressBound(kChunkBytes)) {}

  [[nodiscard]] Result<void> write(const Chunk& chunk) {
    PageMap map = {};
    std::size_t filled = 0;
    const std::byte* host = chunk.slot->host + chunk.offset;
    for (std::size_t page = 0; page < chunk.length() / kPageSize; ++page) {
      const std::byte* from = host + page * kPageSize;
      if (is_zero_page(from)) continue;
      map[page / 8] = static_cast<std::uint8_t>(map[page / 8] | 1U << page % 8);
      std::memcpy(pages_.data() + filled, from, kPageSize);
      filled += kPageSize;
    }
    if (filled == 0) return {};
    std::memcpy(packed_.data(), map.data(), sizeof map);
    const std::size_t size = ZSTD_compressCCtx(context_.get(), packed_.data() + sizeof map, packed_.size() - sizeof map, pages_.data(), filled, kCompressionLevel);
    if (ZSTD_isError(size) != 0) return fail(ErrorCode::kInternal, "compressing guest memory: {}", ZSTD_getErrorName(size));
    return file_.append(SectionKind::kMemory, chunk.slot->base.value + chunk.offset, std::span(packed_).first(sizeof map + size));
  }

 private:
  StateWriter& file_;
  std::unique_ptr<ZSTD_CCtx, FreeContext> context_;
  std::vector<std::byte> pages_, packed_;
};

/// One thread's tools for reading chunks.
class Unpacker {
 public:
  Unpacker(memory::GuestMemory& memory, const StateReader& file) : memory_(memory), file_(file), context_(ZSTD_createDCtx()), pages_(kChunkBytes) {}

  [[nodiscard]] Result<void> read(const Section& section) {
    BYGONE_ASSIGN(const std::vector<std::byte> payload, file_.read(section));
    PageMap map;
    if (payload.size() < sizeof map) return corrupt(section, "is too short");
    std::memcpy(map.data(), payload.data(), sizeof map);
    std::size_t count = 0;
    std::size_t end = 0;
    for (std::size_t page = 0; page < kChunkPages; ++page) {
      if ((map[page / 8] >> page % 8 & 1) == 0) continue;
      ++count;
      end = page + 1;
    }
    const std::span<std::byte> host = memory_.host_span(Gpa{section.address}, end * kPageSize);
    if (host.size() != end * kPageSize) return corrupt(section, "has pages where there is no memory");
    const std::size_t expected = count * kPageSize;
    const std::size_t size = ZSTD_decompressDCtx(context_.get(), pages_.data(), expected, payload.data() + sizeof map, payload.size() - sizeof map);
    if (ZSTD_isError(size) != 0 || size != expected) return corrupt(section, "does not unpack");
    const std::byte* from = pages_.data();
    for (std::size_t page = 0; page < end; ++page) {
      if ((map[page / 8] >> page % 8 & 1) == 0) continue;
      std::memcpy(host.data() + page * kPageSize, from, kPageSize);
      from += kPageSize;
    }
    return {};
  }

 private:
  [[nodiscard]] std::unexpected<Error> corrupt(const Section& section, std::string_view what) const {
    return fail(ErrorCode::kCorrupt, "{}: the memory section for {:#x} {}", file_.name(), section.address, what);
  }

  memory::GuestMemory& memory_;
  const StateReader& file_;
  std::unique_ptr<ZSTD_DCtx, FreeContext> context_;
  std::vector<std::byte> pages_;
};

/// The memory sections by address. Errors: kCorrupt when two overlap or one does not stand at a chunk's beginning.
Result<std::vector<Section>> memory_sections(const memory::GuestMemory& memory, const StateReader& file) {
  std::vector<Section> sections;
  std::ranges::copy_if(file.sections(), std::back_inserter(sections), [](const Section& section) { return section.kind == SectionKind::kMemory; });
  std::ranges::sort(sections, {}, &Section::address);
  std::uint64_t previous = ~0ULL;
  for (const Section& section : sections) {
    const bool is_chunk = std::ranges::any_of(memory.slots(), [&](const memory::Slot& slot) {
      return section.address >= slot.base.value && section.address - slot.base.value < slot.size && (section.address - slot.base.value) % kChunkBytes == 0;
    });
    if (!is_chunk || section.address == previous) {
      return fail(ErrorCode::kCorrupt, "{}: the memory section for {:#x} is not one of this machine's", file.name(), section.address);
    }
    previous = section.address;
  }
  return sections;
}

}  // namespace

Result<void> save_memory(const memory::GuestMemory& memory, StateWriter& file, const Progress& progress) {
  BYGONE_ASSIGN(const std::vector<Chunk> chunks, find_chunks(memory));
  std::uint64_t total = 0;
  for (const Chunk& chunk : chunks) total += chunk.length();
  return Workforce(chunks.size(), total, progress).run([&] {
    return [&chunks, packer = Packer(file)](std::size_t item) mutable -> Result<std::uint64_t> {
      BYGONE_CHECK(packer.write(chunks[item]));
      return chunks[item].length();
    };
  });
}

Result<void> restore_memory(memory::GuestMemory& memory, const StateReader& file, const Progress& progress) {
  BYGONE_ASSIGN(const std::vector<Section> sections, memory_sections(memory, file));
  return Workforce(sections.size(), sections.size() * kChunkBytes, progress).run([&] {
    return [&sections, unpacker = Unpacker(memory, file)](std::size_t item) mutable -> Result<std::uint64_t> {
      BYGONE_CHECK(unpacker.read(sections[item]));
      return kChunkBytes;
    };
  });
}

}  // namespace bygone::machine::saved_state
