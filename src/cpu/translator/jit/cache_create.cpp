// Memory for a Cache. Apart from cache.cpp because errors are formatted with more than general registers.
#include <sys/mman.h>

#include <cerrno>

#include "cpu/translator/jit/cache.h"

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

Result<std::unique_ptr<Cache>> Cache::create(const Tlb& tlb, std::size_t code_bytes) {
  auto cache = std::unique_ptr<Cache>(new Cache);
  const auto tlb_address = reinterpret_cast<std::uint64_t>(&tlb);
  if (tlb_address + sizeof tlb > 0x7FFF'FFFF) return fail(ErrorCode::kInternal, "the processor's TLB is not below 2 GiB");
  cache->tlb_address_ = static_cast<std::uint32_t>(tlb_address);
  BYGONE_ASSIGN(cache->code_, CodeMemory::create(code_bytes));
  BYGONE_ASSIGN(cache->thunks_, emit_thunks(*cache->code_));
  cache->code_used_ = cache->thunks_.end;

  cache->block_capacity_ = static_cast<std::uint32_t>(code_bytes / 128);
  cache->mark_capacity_ = static_cast<std::uint32_t>(code_bytes / 8);
  cache->site_capacity_ = static_cast<std::uint32_t>(code_bytes / 32);
  cache->link_capacity_ = static_cast<std::uint32_t>(code_bytes / 64);
  std::uint32_t table = 1024;
  while (table < 2 * cache->block_capacity_) table *= 2;
  cache->table_mask_ = table - 1;

  const auto carve = [&](std::uint8_t* base) {
    Carver carver(base);
    cache->blocks_ = carver.take<Block>(cache->block_capacity_);
    cache->marks_ = carver.take<Mark>(cache->mark_capacity_);
    cache->sites_ = carver.take<Site>(cache->site_capacity_);
    cache->links_ = carver.take<Link>(cache->link_capacity_);
    cache->table_ = carver.take<std::uint32_t>(table);
    cache->active_slots_ = carver.take<std::uint32_t>(cache->link_capacity_);
    for (auto& jumps : cache->active_jumps_) jumps = carver.take<std::uint32_t>(kJumpEntries);
    return carver.size();
  };
  cache->arrays_bytes_ = carve(nullptr);
  void* arrays = ::mmap(nullptr, cache->arrays_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (arrays == MAP_FAILED) return fail_errno(errno, "reserving the translator's tables");
  cache->arrays_ = static_cast<std::uint8_t*>(arrays);
  carve(cache->arrays_);

  constexpr std::size_t kJumpBytes = kJumpEntries * sizeof(JumpEntry);
  constexpr std::size_t kPageSlotBytes = 8192;
  static_assert(sizeof(PageSlot) * kPageSlots * 2 * kTlbContextCount <= kPageSlotBytes);
  BYGONE_ASSIGN(cache->low_, LowMemory::create(kJumpTables * kJumpBytes + kPageSlotBytes + 8ULL * cache->link_capacity_));
  for (std::size_t i = 0; i < kJumpTables; ++i) {
    cache->jumps_[i] = reinterpret_cast<JumpEntry*>(cache->low_->data() + i * kJumpBytes);
    cache->jumps_[i][0].address = kNoJump;
  }
  cache->page_slots_ = reinterpret_cast<PageSlot*>(cache->low_->data() + kJumpTables * kJumpBytes);
  cache->clear_page_slots();
  cache->slots_ = reinterpret_cast<std::uint64_t*>(cache->low_->data() + kJumpTables * kJumpBytes + kPageSlotBytes);
  return cache;
}

Cache::~Cache() {
  if (arrays_ != nullptr) ::munmap(arrays_, arrays_bytes_);
}

}  // namespace bygone::cpu::translator::jit
