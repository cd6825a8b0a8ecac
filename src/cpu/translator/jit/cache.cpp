#include "cpu/translator/jit/cache.h"

#include <sys/mman.h>

#include "cpu/translator/code_pages.h"
#include "cpu/translator/mmu.h"

namespace bygone::cpu::translator::jit {
namespace {

constexpr std::uint32_t kBlockSpace = 65536;   // code bytes that one block may need
constexpr std::uint32_t kBlockParts = 1024;    // marks, sites or links that one block may need
constexpr std::uint32_t kReturnedShare = 8;      // one of so many blocks of a lap that was made again tells of too little room

constexpr std::uint32_t kCrowdedTable = 1024;  // entries in use; fewer lie in few small pages
constexpr int kCollapse = 25;                  // MADV_COLLAPSE, Linux 6.1

constexpr std::uint32_t kRefusedModes = kModeReal | kModeSlow;
constexpr std::uint64_t kTimeStampDisable = 1U << 2;  // CR4.TSD

bool is_usable(const Segment& segment) {
  return (segment.attributes & (kSegmentUnusable | kSegmentPresent)) == kSegmentPresent;
}

std::uint64_t page_of(std::uint64_t address) { return address & ~std::uint64_t{0xFFF}; }

}  // namespace

bool can_translate(const VcpuBlock& block) {
  const std::uint32_t mode = block.mode;
  if ((mode & kRefusedModes) != 0 || (mode & kModeFlat) == 0) return false;
  if ((mode & (kModeUser | kModePrivileged)) == 0) return false;  // rings 1 and 2
  const std::uint32_t width = mode & kModeCodeWidthMask;
  return width == kModeCode64 || (width == kModeCode32 && (mode & kModeStack32) != 0);
}

ModeKey mode_key_of(const VcpuBlock& block) {
  ModeKey key{block.mode | block.tlb_context << ModeKey::kContextShift};
  if (!key.is_64()) {
    if (!is_usable(block.segments[static_cast<std::size_t>(SegmentName::kFs)])) key.value |= ModeKey::kFsUnusable;
    if (!is_usable(block.segments[static_cast<std::size_t>(SegmentName::kGs)])) key.value |= ModeKey::kGsUnusable;
  }
  if (key.is_user() && (block.cr4 & kTimeStampDisable) != 0) key.value |= ModeKey::kTimeStampRefused;
  return key;
}

std::size_t Cache::hash_of(std::uint64_t address, const std::uint8_t* host_page, ModeKey mode) const {
  std::uint64_t hash = address ^ (reinterpret_cast<std::uint64_t>(host_page) >> 3) ^ (std::uint64_t{mode.value} << 40);
  hash *= 0x9E37'79B9'7F4A'7C15;
  return (hash >> 32) & table_mask_;
}

bool Cache::is_current(VcpuBlock& vcpu, const Block& block) const {
  if (vcpu.code_pages->version(block.ram_page) != block.version) return false;
  if (!block.crosses) return true;
  const MmuResult second = mmu::lookup(vcpu, page_of(block.address) + 4096, Access::kExecute, block.mode.exec_context());
  return second.status == MmuStatus::kRam && second.host == block.second_host_page &&
         vcpu.code_pages->version(block.second_ram_page) == block.second_version;
}

const Block* Cache::find(VcpuBlock& vcpu, std::uint64_t address, ModeKey mode) {
  ++statistics_.lookups;
  const TlbEntry& entry = vcpu.tlb.contexts[mode.exec_context()].entries[tlb_index(address)];
  const std::uint8_t* host_page = entry.host;
  if (entry.exec_tag != page_of(address)) {
    const MmuResult place = mmu::lookup(vcpu, address, Access::kExecute, mode.exec_context());
    if (place.status != MmuStatus::kRam) return nullptr;
    host_page = place.host - (address & 0xFFF);
  }
  for (std::size_t at = hash_of(address, host_page, mode); table_[at] != 0; at = (at + 1) & table_mask_) {
    Block& block = blocks_[table_[at] - 1];
    if (block.address == address && block.host_page == host_page && block.mode == mode) {
      if (!is_current(vcpu, block)) return nullptr;
      block.is_used = true;
      return &block;
    }
  }
  return nullptr;
}

void Cache::insert(std::uint32_t block_number) {
  const Block& block = blocks_[block_number];
  std::size_t at = hash_of(block.address, block.host_page, block.mode);
  while (table_[at] != 0) {
    const Block& old = blocks_[table_[at] - 1];
    if (old.address == block.address && old.host_page == block.host_page && old.mode == block.mode) break;
    at = (at + 1) & table_mask_;
  }
  table_[at] = block_number + 1;
}

// What follows in the chain moves up, so that every block is still found from its own place on.
void Cache::remove(std::uint32_t block_number) {
  const Block& block = blocks_[block_number];
  std::size_t hole = hash_of(block.address, block.host_page, block.mode);
  while (table_[hole] != block_number + 1) {
    if (table_[hole] == 0) return;  // another was made in its place
    hole = (hole + 1) & table_mask_;
  }
  for (std::size_t at = (hole + 1) & table_mask_; table_[at] != 0; at = (at + 1) & table_mask_) {
    const Block& other = blocks_[table_[at] - 1];
    const std::size_t home = hash_of(other.address, other.host_page, other.mode);
    if (((at - home) & table_mask_) < ((at - hole) & table_mask_)) continue;
    table_[hole] = table_[at];
    hole = at;
  }
  table_[hole] = 0;
}

void Cache::finish_block(const Block& block, std::uint32_t code_end) {
  Area& area = areas_[present_];
  const std::uint32_t number = area.first_block + area.filled.blocks++;
  blocks_[number] = block;
  area.code_end = (code_end + 15) & ~15U;
  ++statistics_.blocks;
  if (set_evicted(block, false)) ++statistics_.returned_blocks;
  insert(number);
}

bool Cache::set_evicted(const Block& block, bool is_evicted) {
  const std::uint64_t hash = (block.address ^ std::uint64_t{block.mode.value} << 48) * 0x9E37'79B9'7F4A'7C15;
  const std::uint32_t bit = static_cast<std::uint32_t>(hash >> 32) % kEvictedBits;
  const std::uint64_t mask = std::uint64_t{1} << bit % 64;
  const bool was_evicted = (evicted_[bit / 64] & mask) != 0;
  if (was_evicted == is_evicted) return was_evicted;
  if (is_evicted && ++evicted_count_ > kEvictedBits / 16) {  // with more of them, too many others would share a bit
    for (std::uint32_t i = 0; i < kEvictedBits / 64; ++i) evicted_[i] = 0;
    evicted_count_ = 1;
  }
  if (!is_evicted) --evicted_count_;
  evicted_[bit / 64] ^= mask;
  return was_evicted;
}

bool Cache::has_room_in(const Area& area) const {
  return area.code_end + kBlockSpace <= area.code_limit && area.filled.blocks < blocks_each_ &&
         area.filled.marks + kBlockParts <= marks_each_ && area.filled.sites + kBlockParts <= sites_each_ &&
         area.filled.links + kBlockParts <= links_each_;
}

std::uint64_t Cache::code_used() const {
  std::uint64_t used = 0;
  for (std::uint32_t i = 0; i < area_count_; ++i) used += areas_[i].code_end - areas_[i].code_start;
  return used;
}

namespace {

/// None for a block on two pages: whether the second one is the same is for a look-up to see.
const std::uint8_t* page_behind(const Block& block) { return block.crosses ? nullptr : block.host_page; }

}  // namespace

void Cache::link(Link& link, const Block& target) {
  ++statistics_.links;
  if (link.slot != 0) {
    link.host_page = page_behind(target);
    set_slot(link.slot - 1, reinterpret_cast<std::uint64_t>(pc(target.entry)));
    const std::size_t half = link.target >> 63;
    active_slots_[half][active_slot_count_[half]++] = static_cast<std::uint32_t>(&link - links_);
  } else if (!target.crosses) {
    const std::uint32_t displacement = target.entry - (link.patch_at + 4);
    area_of(link.patch_at).leads_to.set(target.entry / area_bytes_);
    __atomic_store_n(reinterpret_cast<std::uint32_t*>(code_->writable(link.patch_at)), displacement, __ATOMIC_RELAXED);
  }
}

void Cache::set_jump(const Block& target) {
  const std::size_t table = table_of(target.mode);
  const auto index = static_cast<std::uint32_t>(target.address & (kJumpEntries - 1));
  JumpEntry& entry = jumps_[table][index];
  if (entry.host == 0) active_jumps_[table][active_jump_count_[table]++] = index;
  entry.address = target.address;
  jump_pages_[table][index] = page_behind(target);
  if (target.address >> 63 == 0) has_low_jumps_[table] = true;
  entry.host = reinterpret_cast<std::uint64_t>(pc(target.entry));
  if (active_jump_count_[table] == kCrowdedTable) take_large_page(entry);
}

void Cache::take_large_page(const JumpEntry& entry) {
  constexpr std::size_t kLargePage = 2U << 20;
  static_assert(2 * kJumpEntries * sizeof(JumpEntry) == kLargePage);
  const std::size_t which = static_cast<std::size_t>(reinterpret_cast<const std::uint8_t*>(&entry) - low_->data()) / kLargePage;
  if (has_large_page_[which]) return;
  has_large_page_[which] = true;
  std::uint8_t* const place = low_->data() + which * kLargePage;
  static_cast<void>(::madvise(place, kLargePage, MADV_HUGEPAGE));
  static_cast<void>(::madvise(place, kLargePage, kCollapse));  // an older host's kernel does it in time
}

namespace {

void clear_jump(JumpEntry* jumps, std::uint32_t index) {
  jumps[index].address = index == 0 ? kNoJump : 0;
  jumps[index].host = 0;
}

/// Keeps the elements of an array for which `keep` holds.
template <typename Keep>
void filter(std::uint32_t* items, std::uint32_t& count, Keep keep) {
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (keep(items[i])) items[kept++] = items[i];
  }
  count = kept;
}

}  // namespace

template <typename Keep>
void Cache::filter_slots(Keep keep) {
  for (std::size_t half = 0; half < 2; ++half) filter(active_slots_[half], active_slot_count_[half], keep);
}

void Cache::forget_unmapped(VcpuBlock& vcpu, bool keeps_high) {
  ++statistics_.table_flushes;
  // To the same page as before: another address space may have another one there.
  const auto is_mapped = [&](std::uint64_t address, ModeKey mode, const std::uint8_t* host_page) {
    const TlbEntry& entry = vcpu.tlb.contexts[mode.exec_context()].entries[tlb_index(address)];
    return entry.exec_tag == page_of(address) && entry.host == host_page;
  };
  for (std::size_t half = 0; half < (keeps_high ? 1U : 2U); ++half) {
    filter(active_slots_[half], active_slot_count_[half], [&](std::uint32_t id) {
      const Link& link = links_[id];
      if (is_mapped(link.target, link.mode, link.host_page)) return true;
      set_slot(link.slot - 1, reinterpret_cast<std::uint64_t>(pc(link.stub)));
      return false;
    });
  }
  for (std::size_t table = 0; table < kJumpTables; ++table) {
    if (keeps_high && !has_low_jumps_[table]) continue;
    has_low_jumps_[table] = false;
    filter(active_jumps_[table], active_jump_count_[table], [&](std::uint32_t index) {
      const std::uint64_t address = jumps_[table][index].address;
      const bool is_high = address >> 63 != 0;
      if ((is_high && keeps_high) || is_mapped(address, table_mode_[table], jump_pages_[table][index])) {
        if (!is_high) has_low_jumps_[table] = true;
        return true;
      }
      clear_jump(jumps_[table], index);
      return false;
    });
  }
}

void Cache::forget_page(std::uint64_t page) {
  // A block that ends in the page starts in the one before it.
  const auto is_other = [page](std::uint64_t address) { return page_of(address) != page && page_of(address) + 4096 != page; };
  filter_slots([&](std::uint32_t id) {
    const Link& link = links_[id];
    if (is_other(link.target)) return true;
    set_slot(link.slot - 1, reinterpret_cast<std::uint64_t>(pc(link.stub)));
    return false;
  });
  for (std::size_t table = 0; table < kJumpTables; ++table) {
    filter(active_jumps_[table], active_jump_count_[table], [&](std::uint32_t index) {
      if (is_other(jumps_[table][index].address)) return true;
      clear_jump(jumps_[table], index);
      return false;
    });
  }
}

void Cache::forget_all() {
  ++statistics_.table_flushes;
  filter_slots([&](std::uint32_t id) {
    set_slot(links_[id].slot - 1, reinterpret_cast<std::uint64_t>(pc(links_[id].stub)));
    return false;
  });
  for (std::size_t table = 0; table < kJumpTables; ++table) {
    filter(active_jumps_[table], active_jump_count_[table], [&](std::uint32_t index) {
      clear_jump(jumps_[table], index);
      return false;
    });
  }
}

void Cache::clear_page_slots() {
  for (std::size_t word = 0; word < kAllPageSlots / 64; ++word) {
    for (std::uint64_t bits = filled_slots_[word]; bits != 0; bits &= bits - 1) {
      page_slots_[word * 64 + static_cast<unsigned>(__builtin_ctzll(bits))] = {kNoPage, nullptr};
    }
    filled_slots_[word] = 0;
  }
}

void Cache::renew_slot_patience() {
  for (std::uint32_t i = 0; i < kAllPageSlots; ++i) slot_patience_[i] = most_fills_;
}

void Cache::give_up_slot(const SlotSite& site) {
  ++statistics_.given_up_slots;
  // Where the slot holds another page, the jump to its filling leads to what is behind the jump.
  const std::uint32_t nowhere = 0;
  __builtin_memcpy(code_->writable(site.fill_jump), &nowhere, sizeof nowhere);
  // And the test is not made any more: jmp rel32.
  const std::uint32_t displacement = site.no_slot - (site.test + 5);
  __builtin_memcpy(code_->writable(site.test + 1), &displacement, sizeof displacement);
  *code_->writable(site.test) = 0xE9;
}

void Cache::use_mode(ModeKey mode) {
  const std::size_t table = table_of(mode);
  if (table_mode_[table] == mode) return;
  filter(active_jumps_[table], active_jump_count_[table], [&](std::uint32_t index) {
    clear_jump(jumps_[table], index);
    return false;
  });
  table_mode_[table] = mode;
}

void Cache::unlink(const Area& area) {
  const auto leads_in = [&](std::uint64_t host) {
    return code_->contains(host) && holds(area, code_->offset_of(host));
  };
  const auto number = static_cast<std::size_t>(&area - areas_);
  for (std::uint32_t i = 0; i < open_count_; ++i) {
    if (!areas_[i].leads_to.test(number)) continue;
    areas_[i].leads_to.reset(number);
    for (std::uint32_t id = areas_[i].first_link; id < areas_[i].first_link + areas_[i].filled.links; ++id) {
      const Link& link = links_[id];
      if (link.slot != 0) continue;
      std::uint32_t displacement = 0;
      __builtin_memcpy(&displacement, code_->writable(link.patch_at), sizeof displacement);
      const std::uint32_t target = link.patch_at + 4 + displacement;
      if (target != link.stub && holds(area, target)) {
        displacement = link.stub - (link.patch_at + 4);
        __builtin_memcpy(code_->writable(link.patch_at), &displacement, sizeof displacement);
      }
    }
  }
  filter_slots([&](std::uint32_t id) {
    if (!leads_in(slots_[links_[id].slot - 1])) return true;
    set_slot(links_[id].slot - 1, reinterpret_cast<std::uint64_t>(pc(links_[id].stub)));
    return false;
  });
  for (std::size_t table = 0; table < kJumpTables; ++table) {
    filter(active_jumps_[table], active_jump_count_[table], [&](std::uint32_t index) {
      if (!leads_in(jumps_[table][index].host)) return true;
      clear_jump(jumps_[table], index);
      return false;
    });
  }
}

void Cache::empty(Area& area) {
  unlink(area);
  filter_slots([&](std::uint32_t id) { return id - area.first_link >= links_each_; });
  for (std::uint32_t block = 0; block < area.filled.blocks; ++block) remove(area.first_block + block);
  area.filled = {};
  area.leads_to = {};
  area.code_end = area.code_start;
}

void Cache::fill_table() {
  for (std::size_t i = 0; i <= table_mask_; ++i) table_[i] = 0;
  for (std::uint32_t i = 1; i <= open_count_; ++i) {  // the oldest first: what was translated again counts
    const Area& each = areas_[(present_ + i) % open_count_];
    for (std::uint32_t block = 0; block < each.filled.blocks; ++block) insert(each.first_block + block);
  }
}

void Cache::end_lap() {
  const std::uint64_t made = statistics_.blocks - lap_blocks_;
  const std::uint64_t returned = statistics_.returned_blocks - lap_returned_blocks_;
  if (open_count_ < area_count_ && returned > made / kReturnedShare) {
    open_count_ += static_cast<std::uint32_t>(open_count_ * returned / made / 2 + 1);
    if (open_count_ > area_count_) open_count_ = area_count_;
    table_mask_ = table_size(open_count_) - 1;
    fill_table();
  }
  lap_blocks_ = statistics_.blocks;
  lap_returned_blocks_ = statistics_.returned_blocks;
}

std::span<const Block> Cache::make_room(VcpuBlock& vcpu, bool keeps) {
  if (present_ + 1 == open_count_) end_lap();
  const auto behind = [this](std::uint32_t area) { return area + 1 == open_count_ ? 0 : area + 1; };
  const std::uint32_t following = behind(present_);
  Area& area = areas_[following];
  std::size_t count = 0;
  if (area.filled.blocks != 0) {
    ++statistics_.evictions;
    statistics_.evicted_blocks += area.filled.blocks;
    for (std::uint32_t i = 0; i < area.filled.blocks; ++i) {
      const Block& block = blocks_[area.first_block + i];
      const bool is_valid = vcpu.code_pages->version(block.ram_page) == block.version;
      const bool moves = next_ == following && block.is_used && !block.crosses && !block.interpret;
      if (keeps && is_valid && moves && count < kMostKept) {
        kept_[count++] = block;
      } else if (is_valid) {
        static_cast<void>(set_evicted(block, true));
      }
    }
    empty(area);
  }
  present_ = following;
  next_ = behind(following);
  Area& next = areas_[next_];
  if (next.filled.blocks != 0) {
    for (std::uint32_t i = 0; i < next.filled.blocks; ++i) blocks_[next.first_block + i].is_used = false;
    unlink(next);
  }
  return {kept_, count};
}

bool Cache::instruction_at(std::uint64_t pc, std::uint64_t& rip, bool& flags_in_hardware) const {
  if (!code_->contains(pc)) return false;
  const std::uint32_t offset = code_->offset_of(pc);
  const std::uint32_t number = offset / area_bytes_;
  if (number >= area_count_) return false;
  const Area* area = &areas_[number];
  std::uint32_t low = area->first_block;
  std::uint32_t high = area->first_block + area->filled.blocks;
  while (low < high) {  // the last block that starts at or before the pc
    const std::uint32_t middle = (low + high) / 2;
    if (blocks_[middle].entry <= offset) low = middle + 1;
    else high = middle;
  }
  if (low == area->first_block) return false;
  const Block& block = blocks_[low - 1];
  const Mark* found = nullptr;
  for (std::uint32_t i = 0; i < block.mark_count; ++i) {
    if (block.entry + marks_[block.first_mark + i].code <= offset) found = &marks_[block.first_mark + i];
  }
  if (found == nullptr) return false;
  rip = block.address + found->guest;
  flags_in_hardware = found->flags_in_hardware != 0;
  return true;
}

}  // namespace bygone::cpu::translator::jit
