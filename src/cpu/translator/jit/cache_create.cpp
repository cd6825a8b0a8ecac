// Memory for a Cache: reserved as a whole, and taken from the host page by page as it is used. Apart from cache.cpp because errors are formatted with more than general registers.
#include <sys/mman.h>

#include <cerrno>

#include "cpu/translator/jit/cache.h"
#include "cpu/translator/jit/page_slots.h"

namespace bygone::cpu::translator::jit {
namespace {

/// Carves arrays out of one mapping; with a null base it only counts.
class Carver {
 public:
  explicit Carver(std::uint8_t* base) : base_(base) {}
  template <typename T>
  T* take(std::size_t count) {
    offset_ = (offset_ + 63) & ~std::size_t{63};
    T* place = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + offset_);
    offset_ += count * sizeof(T);
    return place;
  }
  [[nodiscard]] std::size_t size() const { return offset_; }

 private:
  std::uint8_t* base_;
  std::size_t offset_ = 0;
};

}  // namespace

/// The first area begins behind the thunks, which stay.
void Cache::divide(std::size_t code_bytes, std::size_t first_bytes) {
  std::size_t count = code_bytes / kUsualArea;
  if (count < kFewAreas) count = kFewAreas;
  if (count > code_bytes / kSmallestArea) count = code_bytes / kSmallestArea;
  if (count > kMostAreas) count = kMostAreas;
  area_count_ = static_cast<std::uint32_t>(count);
  area_bytes_ = static_cast<std::uint32_t>(code_bytes / area_count_) & ~0xFFFU;
  blocks_each_ = area_bytes_ / 256;  // a kernel's take some 600
  marks_each_ = area_bytes_ / 8;
  sites_each_ = area_bytes_ / 32;
  links_each_ = area_bytes_ / 64;
  for (std::uint32_t i = 0; i < area_count_; ++i) {
    Area& area = areas_[i];
    area.code_start = area.code_end = i == 0 ? thunks_.end : i * area_bytes_;
    area.code_limit = (i + 1) * area_bytes_;
    area.first_block = i * blocks_each_;
    area.first_mark = i * marks_each_;
    area.first_site = i * sites_each_;
    area.first_link = i * links_each_;
  }
  std::size_t open = first_bytes / area_bytes_;
  if (open < 2) open = 2;
  open_count_ = open < area_count_ ? static_cast<std::uint32_t>(open) : area_count_;
}

std::uint32_t Cache::table_size(std::uint32_t areas) const {
  std::uint32_t size = 1024;
  while (size < 2 * areas * blocks_each_) size *= 2;
  return size;
}

Result<std::unique_ptr<Cache>> Cache::create(const Tlb& tlb, std::size_t code_bytes, std::size_t first_bytes) {
  if (code_bytes < std::size_t{2} * kSmallestArea || code_bytes > (std::size_t{1} << 30)) {
    return fail(ErrorCode::kInvalidArgument, "{} bytes of translated code for a processor: it takes {} KiB to 1 GiB", code_bytes,
                2 * kSmallestArea >> 10);
  }
  auto cache = std::unique_ptr<Cache>(new Cache);
  const auto tlb_address = reinterpret_cast<std::uint64_t>(&tlb);
  if (tlb_address + sizeof tlb > 0x7FFF'FFFF) return fail(ErrorCode::kInternal, "the processor's TLB is not below 2 GiB");
  cache->tlb_address_ = static_cast<std::uint32_t>(tlb_address);
  BYGONE_ASSIGN(cache->code_, CodeMemory::create(code_bytes));
  BYGONE_ASSIGN(cache->thunks_, emit_thunks(*cache->code_));
  cache->divide(code_bytes, first_bytes);
  const std::size_t areas = cache->area_count_;
  cache->table_mask_ = cache->table_size(cache->open_count_) - 1;

  const auto carve = [&](std::uint8_t* base) {
    Carver carver(base);
    cache->blocks_ = carver.take<Block>(areas * cache->blocks_each_);
    cache->kept_ = carver.take<Block>(kMostKept);
    cache->marks_ = carver.take<Mark>(areas * cache->marks_each_);
    cache->sites_ = carver.take<Site>(areas * cache->sites_each_);
    cache->links_ = carver.take<Link>(areas * cache->links_each_);
    cache->table_ = carver.take<std::uint32_t>(cache->table_size(cache->area_count_));
    cache->evicted_ = carver.take<std::uint64_t>(kEvictedBits / 64);
    for (auto& slots : cache->active_slots_) slots = carver.take<std::uint32_t>(areas * cache->links_each_);
    for (auto& jumps : cache->active_jumps_) jumps = carver.take<std::uint32_t>(kJumpEntries);
    for (auto& pages : cache->jump_pages_) pages = carver.take<const std::uint8_t*>(kJumpEntries);
    return carver.size();
  };
  cache->arrays_bytes_ = carve(nullptr);
  void* arrays = ::mmap(nullptr, cache->arrays_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (arrays == MAP_FAILED) return fail_errno(errno, "reserving the translator's tables");
  cache->arrays_ = static_cast<std::uint8_t*>(arrays);
  carve(cache->arrays_);

  constexpr std::size_t kJumpBytes = kJumpEntries * sizeof(JumpEntry);
  constexpr std::size_t kPageSlotBytes = 12288;
  static_assert((sizeof(PageSlot) + sizeof(std::uint32_t)) * kAllPageSlots + kAllPageSlots / 8 <= kPageSlotBytes && kAllPageSlots % 64 == 0);
  BYGONE_ASSIGN(cache->low_, LowMemory::create(kJumpTables * kJumpBytes + kPageSlotBytes + 8ULL * areas * cache->links_each_));
  // The tables of 64-bit user and kernel code, which are the busy ones, lie together in what can be one large page.
  constexpr std::size_t kOrder[kJumpTables] = {2, 0, 1, 3};
  for (std::size_t i = 0; i < kJumpTables; ++i) {
    cache->jumps_[i] = reinterpret_cast<JumpEntry*>(cache->low_->data() + kOrder[i] * kJumpBytes);
    cache->jumps_[i][0].address = kNoJump;
  }
  cache->page_slots_ = reinterpret_cast<PageSlot*>(cache->low_->data() + kJumpTables * kJumpBytes);
  for (std::uint32_t i = 0; i < kAllPageSlots; ++i) cache->page_slots_[i] = {kNoPage, nullptr};
  cache->filled_slots_ = reinterpret_cast<std::uint64_t*>(cache->page_slots_ + kAllPageSlots);
  cache->slot_patience_ = reinterpret_cast<std::uint32_t*>(cache->filled_slots_ + kAllPageSlots / 64);
  cache->renew_slot_patience();
  BYGONE_ASSIGN(const std::uint32_t thunks_end, emit_slot_thunks(*cache, cache->thunks_.end, cache->slot_thunks_));
  cache->areas_[0].code_start = cache->areas_[0].code_end = (thunks_end + 15) & ~15U;
  cache->slots_ = reinterpret_cast<std::uint64_t*>(cache->low_->data() + kJumpTables * kJumpBytes + kPageSlotBytes);
  return cache;
}

Cache::~Cache() {
  if (arrays_ != nullptr) ::munmap(arrays_, arrays_bytes_);
}

}  // namespace bygone::cpu::translator::jit
