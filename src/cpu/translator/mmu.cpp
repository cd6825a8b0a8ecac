// Page walks (Intel SDM volume 3, chapter 4) and the software TLB. Compiled with general registers only: see mmu.h.
#include "cpu/translator/mmu.h"

#include "cpu/translator/code_pages.h"
#include "cpu/translator/dirty_pages.h"
#include "cpu/translator/physical_memory.h"
#include "cpu/translator/registers.h"

namespace bygone::cpu::translator::mmu {
namespace {

constexpr std::uint64_t kEntryPresent = 1, kEntryWrite = 2, kEntryUser = 4, kEntryAccessed = 1U << 5, kEntryDirty = 1U << 6;
constexpr std::uint64_t kEntryLarge = 1U << 7, kEntryGlobal = 1U << 8, kEntryNoExecute = std::uint64_t{1} << 63;
constexpr std::uint64_t kAddressMask = 0x000F'FFFF'FFFF'F000;
constexpr std::uint64_t kReservedAddress = 0x000F'C000'0000'0000;  // above 46 bits of physical address
constexpr std::uint64_t kPageMask = ~std::uint64_t{0xFFF};

enum class WalkStatus : std::uint8_t { kDone, kNotPresent, kReservedBit, kRetry };

struct Walk {
  WalkStatus status = WalkStatus::kNotPresent;
  std::uint64_t physical = 0;  ///< of the byte
  bool user = true, write = true, execute = true;
  bool global = false, large = false, dirty = false;
};

struct Step {
  std::uint8_t* host = nullptr;
  std::uint64_t value = 0;
};

bool is_logged(const VcpuBlock& block) { return block.dirty_pages != nullptr && block.dirty_pages->is_on(); }

bool is_canonical(std::uint64_t linear) {
  const auto top = static_cast<std::int64_t>(linear) >> 47;
  return top == 0 || top == -1;
}

template <typename Word>
bool set_bits(std::uint8_t* host, std::uint64_t old, std::uint64_t bits) {
  auto expected = static_cast<Word>(old);
  return __atomic_compare_exchange_n(reinterpret_cast<Word*>(host), &expected, static_cast<Word>(old | bits), false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_RELAXED);
}

/// Reads a table entry; false when the table is not in RAM (then the entry reads as not present).
template <typename Word>
bool read_entry(const VcpuBlock& block, std::uint64_t physical, Step& step) {
  const PhysicalMemory::Place place = block.physical->find(physical);
  if (place.host == nullptr) return false;
  step.host = place.host;
  step.value = __atomic_load_n(reinterpret_cast<const Word*>(place.host), __ATOMIC_RELAXED);
  return true;
}

void take_rights(Walk& walk, std::uint64_t entry) {
  if ((entry & kEntryUser) == 0) walk.user = false;
  if ((entry & kEntryWrite) == 0) walk.write = false;
}

/// Sets A in all visited entries and D in the last one, when `update` asks. The leaf is the last step.
template <typename Word>
bool touch(const VcpuBlock& block, const Step* steps, int count, bool dirty, Walk& walk) {
  for (int i = 0; i < count; ++i) {
    std::uint64_t bits = kEntryAccessed;
    if (i + 1 == count && dirty) bits |= kEntryDirty;
    if ((steps[i].value & bits) == bits) continue;
    if (is_logged(block)) block.dirty_pages->mark(block.physical->ram_page_of(steps[i].host));
    if (!set_bits<Word>(steps[i].host, steps[i].value, bits)) return false;
  }
  walk.dirty = dirty || (steps[count - 1].value & kEntryDirty) != 0;
  return true;
}

struct Levels {
  int first = 0;            ///< 4-level: 3 (PML4); PAE: 1 after the PDPT
  std::uint64_t table = 0;
};

/// `may_touch` decides once the rights are known whether A/D may be set: an access that faults sets nothing.
template <typename MayTouch>
Walk walk_64bit_entries(const VcpuBlock& block, std::uint64_t linear, MayTouch may_touch) {
  Walk walk;
  const bool nxe = (block.efer & efer::kNxe) != 0;
  const bool is_long = (block.efer & efer::kLma) != 0;
  std::uint64_t table = block.cr3 & kAddressMask;
  int level = 3;
  Step steps[4];
  int count = 0;
  if (!is_long) {
    Step pdpt;
    if (!read_entry<std::uint64_t>(block, (block.cr3 & 0xFFFF'FFE0) + 8 * ((linear >> 30) & 3), pdpt)) return walk;
    if ((pdpt.value & kEntryPresent) == 0) return walk;
    table = pdpt.value & kAddressMask;
    level = 1;
  }
  for (;; --level) {
    Step& step = steps[count++];
    const std::uint64_t index = (linear >> (12 + 9 * level)) & 511;
    if (!read_entry<std::uint64_t>(block, table + 8 * index, step)) return walk;
    if ((step.value & kEntryPresent) == 0) return walk;
    if ((step.value & kReservedAddress) != 0 || (!nxe && (step.value & kEntryNoExecute) != 0)) {
      walk.status = WalkStatus::kReservedBit;
      return walk;
    }
    take_rights(walk, step.value);
    if ((step.value & kEntryNoExecute) != 0) walk.execute = false;
    const bool large = level > 0 && (step.value & kEntryLarge) != 0;
    if (large && level == 3) {
      walk.status = WalkStatus::kReservedBit;
      return walk;
    }
    if (level == 0 || large) {
      const std::uint64_t offset_mask = (std::uint64_t{1} << (12 + 9 * level)) - 1;
      if (large && (step.value & offset_mask & ~std::uint64_t{0x1FFF}) != 0) {
        walk.status = WalkStatus::kReservedBit;
        return walk;
      }
      walk.physical = (step.value & kAddressMask & ~offset_mask) | (linear & offset_mask);
      walk.large = large;
      walk.global = (step.value & kEntryGlobal) != 0 && (block.cr4 & cr4::kPge) != 0;
      break;
    }
    table = step.value & kAddressMask;
  }
  walk.status = WalkStatus::kDone;
  bool dirty = false;
  if (may_touch(walk, dirty) && !touch<std::uint64_t>(block, steps, count, dirty, walk)) walk.status = WalkStatus::kRetry;
  return walk;
}

template <typename MayTouch>
Walk walk_32bit_entries(const VcpuBlock& block, std::uint64_t linear, MayTouch may_touch) {
  Walk walk;
  Step steps[2];
  int count = 1;
  if (!read_entry<std::uint32_t>(block, (block.cr3 & 0xFFFF'F000) + 4 * ((linear >> 22) & 1023), steps[0])) return walk;
  if ((steps[0].value & kEntryPresent) == 0) return walk;
  take_rights(walk, steps[0].value);
  if ((steps[0].value & kEntryLarge) != 0 && (block.cr4 & cr4::kPse) != 0) {
    const std::uint64_t high = (steps[0].value >> 13) & 0xFF;  // PSE-36
    walk.physical = (high << 32) | (steps[0].value & 0xFFC0'0000) | (linear & 0x3F'FFFF);
    walk.large = true;
  } else {
    if (!read_entry<std::uint32_t>(block, (steps[0].value & 0xFFFF'F000) + 4 * ((linear >> 12) & 1023), steps[1])) return walk;
    if ((steps[1].value & kEntryPresent) == 0) return walk;
    take_rights(walk, steps[1].value);
    walk.physical = (steps[1].value & 0xFFFF'F000) | (linear & 0xFFF);
    count = 2;
  }
  walk.global = (steps[count - 1].value & kEntryGlobal) != 0 && (block.cr4 & cr4::kPge) != 0;
  walk.status = WalkStatus::kDone;
  bool dirty = false;
  if (may_touch(walk, dirty) && !touch<std::uint32_t>(block, steps, count, dirty, walk)) walk.status = WalkStatus::kRetry;
  return walk;
}

template <typename MayTouch>
Walk walk_tables(const VcpuBlock& block, std::uint64_t linear, MayTouch may_touch) {
  if ((block.cr0 & cr0::kPg) == 0) {
    Walk walk;
    walk.status = WalkStatus::kDone;
    walk.physical = linear & 0xFFFF'FFFF;
    walk.dirty = true;
    return walk;
  }
  for (;;) {
    const Walk walk = (block.cr4 & cr4::kPae) != 0 ? walk_64bit_entries(block, linear, may_touch)
                                                   : walk_32bit_entries(block, linear, may_touch);
    if (walk.status != WalkStatus::kRetry) return walk;  // another processor changed an entry meanwhile: walk again
  }
}

struct Rights {
  bool read = false, write = false, execute = false;
};

Rights rights_of(const VcpuBlock& block, const Walk& walk, std::uint32_t context) {
  if ((block.cr0 & cr0::kPg) == 0) return {true, true, true};
  Rights rights;
  if (context == kTlbUser) {
    rights.read = walk.user;
    rights.write = walk.user && walk.write;
    rights.execute = walk.user && walk.execute;
    return rights;
  }
  const bool smap_forbids = walk.user && context == kTlbSupervisor && (block.cr4 & cr4::kSmap) != 0;
  rights.read = !smap_forbids;
  rights.write = !smap_forbids && (walk.write || (block.cr0 & cr0::kWp) == 0);
  rights.execute = walk.execute && !(walk.user && (block.cr4 & cr4::kSmep) != 0);
  return rights;
}

bool allows(const Rights& rights, Access access) {
  switch (access) {
    case Access::kRead: return rights.read;
    case Access::kWrite: return rights.write;
    case Access::kExecute: return rights.execute;
  }
  return false;
}

void set_page_fault(VcpuBlock& block, std::uint64_t linear, Access access, std::uint32_t context, std::uint32_t cause) {
  std::uint32_t code = cause;
  if (access == Access::kWrite) code |= page_fault::kWrite;
  if (context == kTlbUser) code |= page_fault::kUser;
  const bool reports_fetch = (block.cr4 & cr4::kSmep) != 0 || ((block.efer & efer::kNxe) != 0 && (block.cr4 & cr4::kPae) != 0);
  if (access == Access::kExecute && reports_fetch) code |= page_fault::kFetch;
  block.fault.vector = vector::kPf;
  block.fault.has_error_code = true;
  block.fault.error_code = code;
  block.fault.address = linear;
}

/// In the upper half of the address space, where kernels are.
bool is_high(std::uint64_t linear) { return linear >> 63 != 0; }

void mark_used(TlbBookkeeping& book, std::size_t index, bool global, bool large) {
  const std::uint64_t bit = std::uint64_t{1} << (index % 64);
  book.used[index / 64] |= bit;
  book.global[index / 64] = global ? book.global[index / 64] | bit : book.global[index / 64] & ~bit;
  book.large[index / 64] = large ? book.large[index / 64] | bit : book.large[index / 64] & ~bit;
}

/// The page that an entry maps, or its invalid tag.
std::uint64_t page_of(const TlbEntry& entry, std::size_t index) {
  const std::uint64_t invalid = tlb_invalid_tag(index);
  if (entry.read_tag != invalid) return entry.read_tag;
  if (entry.write_tag != invalid) return entry.write_tag;
  return entry.exec_tag;
}

/// Visits the entries whose bit is set in `select(book, word)`.
template <typename Select, typename Visit>
void for_each_used(Tlb& tlb, Select select, Visit visit) {
  for (std::size_t context = 0; context < kTlbContextCount; ++context) {
    TlbBookkeeping& book = tlb.bookkeeping[context];
    for (std::size_t word = 0; word < book.used.size(); ++word) {
      for (std::uint64_t bits = select(book, word); bits != 0; bits &= bits - 1) {
        const auto bit = static_cast<unsigned>(__builtin_ctzll(bits));
        visit(tlb.contexts[context], word * 64 + bit, book, word, std::uint64_t{1} << bit);
      }
    }
  }
}

}  // namespace

MmuResult lookup(VcpuBlock& block, std::uint64_t linear, Access access, std::uint32_t context) {
  TlbTable& table = block.tlb.contexts[context];
  const std::size_t index = tlb_index(linear);
  TlbEntry& entry = table.entries[index];
  const std::uint64_t page = linear & kPageMask;
  const std::uint64_t tag =
      access == Access::kRead ? entry.read_tag : access == Access::kWrite ? entry.write_tag : entry.exec_tag;
  if (tag == page) return {MmuStatus::kRam, entry.host + (linear - page), 0};

  if ((block.efer & efer::kLma) != 0 && !is_canonical(linear)) {
    block.fault = {vector::kGp, true, 0, 0};
    return {};
  }
  Rights rights;
  const Walk walk = walk_tables(block, linear, [&](const Walk& found, bool& dirty) {
    rights = rights_of(block, found, context);
    dirty = access == Access::kWrite;
    return allows(rights, access);
  });
  if (walk.status != WalkStatus::kDone) {
    const std::uint32_t cause = walk.status == WalkStatus::kReservedBit ? page_fault::kPresent | page_fault::kReserved : 0;
    set_page_fault(block, linear, access, context, cause);
    return {};
  }
  if ((block.cr0 & cr0::kPg) == 0) rights = {true, true, true};
  if (!allows(rights, access)) {
    set_page_fault(block, linear, access, context, page_fault::kPresent);
    return {};
  }
  const PhysicalMemory::Place place = block.physical->find(walk.physical);
  if (place.host == nullptr) return {MmuStatus::kMmio, nullptr, walk.physical};

  // Before the write: what takes the log meanwhile waits until this processor has passed a poll.
  const bool logs = is_logged(block);
  if (logs && access == Access::kWrite) block.dirty_pages->mark(place.ram_page);
  ++block.tlb.fills;
  // Data breakpoints: nothing is cached, so that every access comes by and is looked at.
  if (block.watches_data != 0 && access != Access::kExecute) {
    const bool in_code = access == Access::kWrite && block.code_pages->has_code(place.ram_page);
    return {in_code ? MmuStatus::kCode : MmuStatus::kRam, place.host, walk.physical};
  }
  const bool is_code = block.code_pages->has_code(place.ram_page);
  if (page_of(entry, index) != page) table.clear(index);
  entry.host = place.host - (linear - page);
  if (rights.read) entry.read_tag = page;
  const bool needs_look = is_code || (logs && access != Access::kWrite);
  entry.write_tag = rights.write && walk.dirty && !needs_look ? page : tlb_invalid_tag(index);
  if (rights.execute) {
    entry.exec_tag = page;
    if (!walk.global && is_high(linear)) block.tlb.has_private_high_code = true;
  }
  mark_used(block.tlb.bookkeeping[context], index, walk.global, walk.large);
  if (access == Access::kWrite && is_code) return {MmuStatus::kCode, place.host, walk.physical};
  return {MmuStatus::kRam, place.host, walk.physical};
}

bool translate_for_debugger(VcpuBlock& block, std::uint64_t linear, std::uint64_t& physical) {
  if ((block.efer & efer::kLma) != 0 && !is_canonical(linear)) return false;
  const Walk walk = walk_tables(block, linear, [](const Walk&, bool&) { return false; });
  physical = walk.physical;
  return walk.status == WalkStatus::kDone;
}

void flush_all(VcpuBlock& block) {
  forget_other_address_spaces(block);
  for_each_used(
      block.tlb, [](const TlbBookkeeping& book, std::size_t word) { return book.used[word]; },
      [](TlbTable& table, std::size_t index, TlbBookkeeping& book, std::size_t word, std::uint64_t) {
        table.clear(index);
        book.used[word] = 0;
      });
  ++block.tlb.flushes;
  block.tlb.has_private_high_code = false;
  if (block.tlb_listener != nullptr) block.tlb_listener->tlb_flushed(block, false);
}

void flush_non_global(VcpuBlock& block) {
  for_each_used(
      block.tlb, [](const TlbBookkeeping& book, std::size_t word) { return book.used[word] & ~book.global[word]; },
      [](TlbTable& table, std::size_t index, TlbBookkeeping& book, std::size_t word, std::uint64_t bit) {
        table.clear(index);
        book.used[word] &= ~bit;
      });
  ++block.tlb.flushes;
  if (block.tlb_listener != nullptr) block.tlb_listener->tlb_flushed(block, !block.tlb.has_private_high_code);
}

namespace {

TlbArchive::Space* find_space(TlbArchive& archive, std::uint16_t pcid) {
  for (TlbArchive::Space& space : archive.spaces) {
    if (space.valid && space.pcid == pcid) return &space;
  }
  return nullptr;
}

/// A place for another address space: a free one, or that of the one not used for longest.
TlbArchive::Space& free_space(TlbArchive& archive) {
  TlbArchive::Space* oldest = &archive.spaces[0];
  for (TlbArchive::Space& space : archive.spaces) {
    if (!space.valid) return space;
    if (space.last_use < oldest->last_use) oldest = &space;
  }
  return *oldest;
}

void set_aside(VcpuBlock& block, std::uint16_t pcid) {
  TlbArchive& archive = block.tlb.archive;
  TlbArchive::Space* found = find_space(archive, pcid);
  TlbArchive::Space& space = found != nullptr ? *found : free_space(archive);
  space.pcid = pcid;
  space.valid = true;
  space.count = 0;
  space.last_use = ++archive.clock;
  for_each_used(
      block.tlb, [](const TlbBookkeeping& book, std::size_t word) { return book.used[word] & ~book.global[word]; },
      [&](TlbTable& table, std::size_t index, TlbBookkeeping& book, std::size_t word, std::uint64_t bit) {
        if (space.count < space.entries.size()) {
          TlbArchive::Entry& entry = space.entries[space.count++];
          entry.entry = table.entries[index];
          entry.index = static_cast<std::uint16_t>(index);
          entry.context = static_cast<std::uint8_t>(&table - block.tlb.contexts.data());
          entry.is_large = (book.large[word] & bit) != 0 ? 1 : 0;
        }
        table.clear(index);
        book.used[word] &= ~bit;
      });
}

void put_back(VcpuBlock& block, const TlbArchive::Space& space) {
  for (std::uint32_t i = 0; i < space.count; ++i) {
    const TlbArchive::Entry& entry = space.entries[i];
    TlbBookkeeping& book = block.tlb.bookkeeping[entry.context];
    if ((book.used[entry.index / 64] >> (entry.index % 64) & 1) != 0) continue;  // a global page has the place now
    block.tlb.contexts[entry.context].entries[entry.index] = entry.entry;
    mark_used(book, entry.index, false, entry.is_large != 0);
    ++block.tlb.archive.kept;
  }
}

}  // namespace

void change_address_space(VcpuBlock& block, std::uint16_t from, std::uint16_t to, bool keeps) {
  set_aside(block, from);
  if (TlbArchive::Space* space = find_space(block.tlb.archive, to)) {
    if (keeps) put_back(block, *space);
    space->valid = false;  // what it becomes from now on is in the tables
  }
  ++block.tlb.flushes;
  if (block.tlb_listener != nullptr) block.tlb_listener->tlb_flushed(block, !block.tlb.has_private_high_code);
}

void forget_address_space(VcpuBlock& block, std::uint16_t pcid) {
  if (TlbArchive::Space* space = find_space(block.tlb.archive, pcid)) space->valid = false;
}

void forget_other_address_spaces(VcpuBlock& block) {
  for (TlbArchive::Space& space : block.tlb.archive.spaces) space.valid = false;
}

void flush_page(VcpuBlock& block, std::uint64_t linear) {
  const std::uint64_t page = linear & kPageMask;
  for (TlbTable& table : block.tlb.contexts) {
    if (page_of(table.entries[tlb_index(linear)], tlb_index(linear)) == page) table.clear(tlb_index(linear));
  }
  // A piece of a large page goes with all pieces of it; 1 GiB covers every size of page.
  constexpr std::uint64_t kLargest = ~((std::uint64_t{1} << 30) - 1);
  bool had_pieces = false;
  for_each_used(
      block.tlb, [](const TlbBookkeeping& book, std::size_t word) { return book.used[word] & book.large[word]; },
      [&](TlbTable& table, std::size_t index, TlbBookkeeping& book, std::size_t word, std::uint64_t bit) {
        if (((page_of(table.entries[index], index) ^ linear) & kLargest) != 0) return;
        table.clear(index);
        book.used[word] &= ~bit;
        had_pieces = true;
      });
  if (block.tlb_listener == nullptr) return;
  block.tlb_listener->tlb_page_flushed(block, linear);
  // What was linked by way of the other pieces; and of the upper half nothing is looked at when other things are flushed.
  if (had_pieces || is_high(linear)) block.tlb_listener->tlb_flushed(block, false);
}

void flush_writes(VcpuBlock& block) {
  for_each_used(
      block.tlb, [](const TlbBookkeeping& book, std::size_t word) { return book.used[word]; },
      [](TlbTable& table, std::size_t index, TlbBookkeeping&, std::size_t, std::uint64_t) {
        table.entries[index].write_tag = tlb_invalid_tag(index);
      });
  for (TlbArchive::Space& space : block.tlb.archive.spaces) {
    if (!space.valid) continue;
    for (std::uint32_t i = 0; i < space.count; ++i) space.entries[i].entry.write_tag = tlb_invalid_tag(space.entries[i].index);
  }
  if (block.tlb_listener != nullptr) block.tlb_listener->tlb_writes_flushed(block);
}

namespace {

bool is_flat(const Segment& segment, bool code) {
  if (segment.base != 0 || segment.limit != 0xFFFF'FFFF) return false;
  if ((segment.attributes & kSegmentUnusable) != 0 || (segment.attributes & kSegmentPresent) == 0) return false;
  const std::uint32_t type = segment.attributes & 0xF;
  if (code) return (type & 8) != 0;
  return (type & 8) == 0 && (type & 4) == 0 && (type & 2) != 0;  // data, expand-up, writable
}

}  // namespace

void update_mode(VcpuBlock& block) {
  const auto segment = [&](SegmentName name) -> const Segment& { return block.segments[static_cast<std::size_t>(name)]; };
  const Segment& code = segment(SegmentName::kCs);
  std::uint32_t mode = 0;
  const bool protected_mode = (block.cr0 & cr0::kPe) != 0;
  const bool virtual_8086 = (block.rflags & rflags::kVm) != 0;
  if (!protected_mode || virtual_8086) mode |= kModeReal;
  const bool is_64 = (block.efer & efer::kLma) != 0 && (code.attributes & kSegmentLong) != 0;
  if (is_64) {
    mode |= kModeCode64 | kModeFlat;
  } else {
    mode |= (code.attributes & kSegmentDefaultBig) != 0 ? kModeCode32 : kModeCode16;
    const bool flat = is_flat(code, true) && is_flat(segment(SegmentName::kDs), false) &&
                      is_flat(segment(SegmentName::kEs), false) && is_flat(segment(SegmentName::kSs), false);
    if (flat && (mode & kModeReal) == 0) mode |= kModeFlat;
    if ((segment(SegmentName::kSs).attributes & kSegmentDefaultBig) != 0) mode |= kModeStack32;
  }
  if (block.cpl == 3) mode |= kModeUser;
  if (block.cpl == 0) mode |= kModePrivileged;
  if ((block.cr0 & (cr0::kTs | cr0::kEm)) != 0) mode |= kModeFpuTrap;
  if ((block.cr4 & cr4::kOsfxsr) != 0) mode |= kModeSse;
  if ((block.cr4 & cr4::kOsxsave) != 0 && (block.xcr0 & 6) == 6) mode |= kModeAvx;
  if ((mode & kModeAvx) != 0 && (block.xcr0 & 0xE0) == 0xE0) mode |= kModeAvx512;
  block.watches_data = 0;
  for (unsigned i = 0; i < 4; ++i) {
    if (((block.debug.dr7 >> (2 * i)) & 3) != 0 && ((block.debug.dr7 >> (16 + 4 * i)) & 3) != 0) block.watches_data = 1;
  }
  if ((block.rflags & rflags::kTf) != 0 || (block.debug.dr7 & 0xFF) != 0 || block.debugger != 0) mode |= kModeSlow;
  block.mode = mode;

  if (block.cpl == 3) {
    block.tlb_context = kTlbUser;
  } else {
    const bool guarded = (block.cr4 & cr4::kSmap) != 0 && (block.rflags & rflags::kAc) == 0;
    block.tlb_context = guarded ? kTlbSupervisor : kTlbSupervisorAc;
  }
}

}  // namespace bygone::cpu::translator::mmu
