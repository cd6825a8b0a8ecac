// One vCPU's translations: blocks by place and mode, the sites in them that may leave, links between them and the jump tables.
//
// A block is found by (linear address, host page behind it, mode). Links inside a page are patched into the code and last as
// long as the block. Links to other pages, and the jump tables for indirect jumps, hold only while the target's page stays
// mapped as it was: they go through slots that are emptied when the TLB forgets the page, or when code was overwritten.
//
// The memory is bounded. It is divided into areas that are filled one after another and emptied in the same order:
//
//   … | filled | filled | to be emptied next | being filled | …
//
// Nothing leads into the area that is to be emptied next but a look-up, which notes the block: what was looked up by the time
// that the area is emptied is in use, and the translator makes it anew in the area that is filled then. The rest is forgotten.
//
// Of the areas only some are open in the beginning: a guest that starts runs much code once. When a lap through the open ones has
// translated much of what earlier ones had to forget, the guest works with more code than they hold, and further areas are opened.
//
// All of it is compiled with general registers only (see runtime.h). Threading: one vCPU's thread.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "cpu/translator/jit/code_memory.h"
#include "cpu/translator/jit/instruction.h"
#include "cpu/translator/jit/thunks.h"
#include "cpu/translator/state.h"
#include "support/result.h"

namespace bygone::cpu::translator::jit {

/// Whether the translator serves the block's present mode at all.
[[nodiscard]] bool can_translate(const VcpuBlock& block);
[[nodiscard]] ModeKey mode_key_of(const VcpuBlock& block);

struct Block {
  std::uint64_t address = 0;             ///< linear
  const std::uint8_t* host_page = nullptr;
  std::uint32_t ram_page = 0;            ///< dense; a machine has at most 2^28
  ModeKey mode;
  std::uint32_t version = 0;             ///< of the page's code when it was read
  std::uint32_t entry = 0;               ///< offset in the code memory
  std::uint32_t first_mark = 0;
  std::uint16_t mark_count = 0;
  bool interpret : 1 = false;            ///< the first instruction is not translated
  bool is_used : 1 = false;              ///< looked up since its area was the next to be emptied
  bool crosses : 1 = false;              ///< its one instruction ends on the next page:
  const std::uint8_t* second_host_page = nullptr;
  std::uint32_t second_ram_page = 0;
  std::uint32_t second_version = 0;
};
static_assert(sizeof(Block) == 56);

/// Where the native part of a guest instruction starts. There is one for each of them: a word.
struct Mark {
  std::uint16_t code = 0;        ///< from the block's entry
  std::uint16_t guest : 15 = 0;  ///< bytes from the block's address
  std::uint16_t flags_in_hardware : 1 = 0;
};
static_assert(sizeof(Mark) == 4);

/// In place of a page slot's number.
inline constexpr std::uint16_t kNoPageSlot = 0xFFFF;

/// A memory access that may miss.
struct Site {
  std::uint32_t tag = 0;         ///< displacement of the entry's tag from the address bits in r11
  std::uint32_t access = 0;      ///< code offset behind it, r11 = host page, r10 = offset in it
  std::uint64_t rip = 0;
  std::uint8_t size = 0;
  bool write = false;
  bool masked = false;
  std::uint16_t slot = kNoPageSlot;
};
static_assert(sizeof(Site) == 24);

/// A memory access that may lose its page slot: code offsets.
struct SlotSite {
  std::uint32_t test = 0;       ///< of the slot's test
  std::uint32_t no_slot = 0;    ///< of what asks the TLB when the slot holds another page
  std::uint32_t fill_jump = 0;  ///< of the displacement of the jump from there to what fills the slot
};

/// A direct exit of a block.
struct Link {
  std::uint64_t target = 0;
  std::uint32_t patch_at = 0;    ///< displacement inside the code, for targets in the same page
  std::uint32_t slot = 0;        ///< or 1 + index of a slot
  std::uint32_t stub = 0;        ///< what the slot leads to while it is not linked
  ModeKey mode;
  const std::uint8_t* host_page = nullptr;  ///< behind the target while the slot is linked; null: nothing to go by
};

struct JumpEntry {
  std::uint64_t address = 0;
  std::uint64_t host = 0;
};
inline constexpr std::size_t kJumpEntries = 65536;
inline constexpr std::uint64_t kNoJump = 1;  ///< an address that entry 0 is never asked for: it has other low bits
inline constexpr std::size_t kJumpTables = 4;

/// The page that a group of memory accesses used last: what the stack and data at fixed places hit nearly always, without the
/// TLB's indexing in the way. Filled from the TLB, emptied with it. A slot that holds no page has no host page either, and an
/// address that no page can have; an access through it faults on the host and becomes the guest's fault.
struct PageSlot {
  std::uint64_t page = 0;
  std::uint8_t* host = nullptr;
};
inline constexpr std::uint64_t kNoPage = std::uint64_t{1} << 63;
/// Slots of one TLB context and kind of access: the stack pointer's, the frame pointer's, those of fixed places by page, and those of
/// loops, by loop and register.
inline constexpr std::uint32_t kStackSlot = 0, kFrameSlot = 1, kFirstFixedSlot = 2, kFirstLoopSlot = 34, kPageSlots = 96;
inline constexpr std::uint32_t kAllPageSlots = kPageSlots * 2 * kTlbContextCount;
/// A loop's slot that is filled so often in kSlotPeriod cycles costs more than it saves: the access that filled it last loses it.
inline constexpr std::uint32_t kSlotPatience = 8192;
inline constexpr std::uint64_t kSlotPeriod = 10'000'000;

struct CacheStatistics {
  std::uint64_t blocks = 0, evictions = 0, evicted_blocks = 0, kept_blocks = 0, lookups = 0, links = 0, fills = 0, bounced = 0, table_flushes = 0;
  std::uint64_t given_up_slots = 0;
  std::uint64_t returned_blocks = 0;  ///< made although they had been evicted
};

class Cache {
 public:
  /// For the processor whose TLB is at `tlb`, below 2 GiB. `first_bytes` of `code_bytes` are filled before anything is forgotten.
  [[nodiscard]] static Result<std::unique_ptr<Cache>> create(const Tlb& tlb, std::size_t code_bytes, std::size_t first_bytes);
  ~Cache();
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  /// The valid block at `address`, looked up through the TLB; null when there is none or the page is not plain RAM.
  [[nodiscard]] const Block* find(VcpuBlock& vcpu, std::uint64_t address, ModeKey mode);
  /// The same, without a page walk: what stands in the jump table.
  void set_jump(const Block& target);
  void link(Link& link, const Block& target);
  /// Every exit of every block leaves translated code, and time is the interpreter's.
  void leave_unlinked() { is_linked_ = false; }
  [[nodiscard]] bool is_linked() const { return is_linked_; }

  // ---- for the emitter: everything is appended to the present area, the current block last ----
  /// Room for one more block.
  [[nodiscard]] bool has_room() const { return has_room_in(areas_[present_]); }
  /// Empties the next area and goes on there. Its blocks that are in use, to be made again, when `keeps`; good until the next call.
  /// Never while guest code runs.
  [[nodiscard]] std::span<const Block> make_room(VcpuBlock& vcpu, bool keeps);
  /// Where the next block's code begins.
  [[nodiscard]] std::uint32_t code_end() const { return areas_[present_].code_end; }
  /// Bytes of code that are in all areas.
  [[nodiscard]] std::uint64_t code_used() const;
  void finish_block(const Block& block, std::uint32_t code_end);
  /// What an area holds, to go back to when a block was not finished.
  struct Filled {
    std::uint32_t blocks = 0, marks = 0, sites = 0, links = 0, slots = 0;
  };
  [[nodiscard]] Filled filled() const { return areas_[present_].filled; }
  void go_back(const Filled& to) { areas_[present_].filled = to; }
  [[nodiscard]] std::uint32_t add_site(const Site& site) {
    const std::uint32_t id = areas_[present_].first_site + areas_[present_].filled.sites++;
    return sites_[id] = site, id;
  }
  [[nodiscard]] Site& site(std::uint32_t id) { return sites_[id]; }
  [[nodiscard]] std::uint32_t add_link(const Link& link) {
    const std::uint32_t id = areas_[present_].first_link + areas_[present_].filled.links++;
    return links_[id] = link, id;
  }
  [[nodiscard]] Link& link_at(std::uint32_t id) { return links_[id]; }
  [[nodiscard]] std::uint32_t add_slot(std::uint64_t host) {
    const std::uint32_t id = areas_[present_].first_link + areas_[present_].filled.slots++;
    return slots_[id] = host, id;
  }
  void set_slot(std::uint32_t slot, std::uint64_t host) { slots_[slot] = host; }
  [[nodiscard]] std::uint32_t slot_address(std::uint32_t slot) const {
    return static_cast<std::uint32_t>(reinterpret_cast<std::uint64_t>(slots_ + slot));
  }
  void add_mark(const Mark& mark) { marks_[mark_end()] = mark, ++areas_[present_].filled.marks; }
  [[nodiscard]] std::uint32_t mark_end() const { return areas_[present_].first_mark + areas_[present_].filled.marks; }
  [[nodiscard]] std::uint32_t jump_table_address(ModeKey mode) const {
    return static_cast<std::uint32_t>(reinterpret_cast<std::uint64_t>(jumps_[table_of(mode)]));
  }

  /// Number of a slot among all contexts' and kinds'.
  [[nodiscard]] static std::uint32_t page_slot_number(std::uint32_t context, bool write, std::uint32_t slot) {
    return (context * 2 + (write ? 1U : 0U)) * kPageSlots + slot;
  }
  /// Where the slot is; where the byte is whose bit number % 8 says that it is filled; where is counted how often it may still be filled.
  /// All below 2 GiB.
  [[nodiscard]] std::uint32_t page_slot_address(std::uint32_t number) const { return low_address(page_slots_ + number); }
  [[nodiscard]] std::uint32_t filled_slots_address(std::uint32_t number) const {
    return low_address(filled_slots_) + number / 8;
  }
  [[nodiscard]] std::uint32_t slot_patience_address(std::uint32_t number) const { return low_address(slot_patience_ + number); }
  /// Of a slot that is not a loop's: the code that fills it (page_slots.h).
  [[nodiscard]] std::uint32_t slot_thunk(std::uint32_t number) const { return slot_thunks_[number]; }
  void clear_page_slots();
  /// The slot holds the page at the linear address `page` as long as the TLB does not change.
  void fill_page_slot(std::uint32_t number, std::uint64_t page, std::uint8_t* host) {
    page_slots_[number] = {page, host};
    filled_slots_[number / 64] |= std::uint64_t{1} << number % 64;
  }
  /// How often each slot may be filled in a period.
  void set_slot_patience(std::uint32_t fills) {
    most_fills_ = fills;
    renew_slot_patience();
  }
  /// Begins a new period.
  void renew_slot_patience();
  /// The access asks the TLB from now on.
  void give_up_slot(const SlotSite& site);
  [[nodiscard]] std::uint32_t tlb_address() const { return tlb_address_; }

  /// Makes the jump table of `mode` hold only that mode's blocks. Before guest code of the mode runs.
  void use_mode(ModeKey mode);
  /// Empties slots and jump entries: those whose page the TLB no longer knows, or one page's, or all.
  /// `keeps_high`: what is in the upper half of the address space is known to be mapped as it was, and not looked at: it is most of
  /// what a kernel has, and address spaces change often.
  void forget_unmapped(VcpuBlock& vcpu, bool keeps_high);
  void forget_page(std::uint64_t page);
  void forget_all();

  /// The guest instruction that was running at a host pc inside of translated code; false when it is none.
  [[nodiscard]] bool instruction_at(std::uint64_t pc, std::uint64_t& rip, bool& flags_in_hardware) const;

  [[nodiscard]] const CodeMemory& code() const { return *code_; }
  [[nodiscard]] const Thunks& thunks() const { return thunks_; }
  [[nodiscard]] const void* pc(std::uint32_t offset) const { return code_->executable(offset); }
  [[nodiscard]] CacheStatistics& statistics() { return statistics_; }
  [[nodiscard]] const CacheStatistics& statistics() const { return statistics_; }
  /// Bytes of code that are filled before anything is forgotten.
  [[nodiscard]] std::uint64_t open_bytes() const { return std::uint64_t{open_count_} * area_bytes_; }

  /// 32-bit code, 64-bit user code, and 64-bit kernel code with and without the right to user pages have a table each.
  [[nodiscard]] static std::size_t table_of(ModeKey mode) {
    if (!mode.is_64()) return 0;
    return mode.is_user() ? 1 : mode.context() == kTlbSupervisor ? 2 : 3;
  }

 private:
  Cache() = default;
  static std::uint32_t low_address(const void* place) { return static_cast<std::uint32_t>(reinterpret_cast<std::uint64_t>(place)); }
  [[nodiscard]] std::size_t hash_of(std::uint64_t address, const std::uint8_t* host_page, ModeKey mode) const;
  [[nodiscard]] bool is_current(VcpuBlock& vcpu, const Block& block) const;

  static constexpr std::uint32_t kMostAreas = 128, kFewAreas = 8;
  static constexpr std::uint32_t kSmallestArea = 128U << 10, kUsualArea = 1U << 20;
  static constexpr std::uint32_t kEvictedBits = 1U << 22;
  static constexpr std::uint32_t kMostKept = 4096;
  struct Area {
    std::uint32_t code_start = 0, code_limit = 0, code_end = 0;
    std::uint32_t first_block = 0, first_mark = 0, first_site = 0, first_link = 0;  ///< links and slots are numbered alike
    Filled filled;
    std::bitset<kMostAreas> leads_to;  ///< areas into which links inside a page may have been patched
  };
  [[nodiscard]] Area& area_of(std::uint32_t offset) { return areas_[offset / area_bytes_]; }
  [[nodiscard]] bool has_room_in(const Area& area) const;
  [[nodiscard]] bool holds(const Area& area, std::uint32_t offset) const { return offset - area.code_start < area.code_limit - area.code_start; }
  void divide(std::size_t code_bytes, std::size_t first_bytes);
  [[nodiscard]] std::uint32_t table_size(std::uint32_t areas) const;
  void empty(Area& area);
  void insert(std::uint32_t block_number);
  void remove(std::uint32_t block_number);
  void fill_table();
  /// The open areas are full once more: opens others when they were too few.
  void end_lap();
  /// Notes that the block is forgotten, or here again. What was noted before.
  bool set_evicted(const Block& block, bool is_evicted);
  /// Nothing leads into `area` any more but a look-up.
  void unlink(const Area& area);
  void take_large_page(const JumpEntry& entry);
  template <typename Keep>
  void filter_slots(Keep keep);

  std::unique_ptr<CodeMemory> code_;
  std::unique_ptr<LowMemory> low_;
  Thunks thunks_;
  std::uint32_t tlb_address_ = 0;
  bool is_linked_ = true;
  Area areas_[kMostAreas];
  std::uint32_t area_count_ = 0, area_bytes_ = 0;
  std::uint32_t open_count_ = 0;           // areas that take part
  std::uint32_t present_ = 0;              // the area that is being filled
  std::uint32_t next_ = kMostAreas;        // the one to be emptied next; none until the memory was full once
  std::uint32_t blocks_each_ = 0, marks_each_ = 0, sites_each_ = 0, links_each_ = 0;  // room of an area

  // Arrays in one anonymous mapping that is taken page by page.
  std::uint8_t* arrays_ = nullptr;
  std::size_t arrays_bytes_ = 0;
  Block* blocks_ = nullptr;
  Block* kept_ = nullptr;
  Mark* marks_ = nullptr;
  Site* sites_ = nullptr;
  Link* links_ = nullptr;
  std::uint32_t* table_ = nullptr;  // 1 + block index, open addressing
  std::uint64_t* evicted_ = nullptr;  // a bit for each hash of a block: forgotten, and not needed since
  std::uint32_t evicted_count_ = 0;
  std::uint64_t lap_blocks_ = 0, lap_returned_blocks_ = 0;  // the statistics at the lap's beginning
  std::uint32_t* active_slots_[2] = {};    // link ids, of targets in the lower and in the upper half of the address space
  std::uint32_t* active_jumps_[kJumpTables] = {};  // entry indexes
  const std::uint8_t** jump_pages_[kJumpTables] = {};  // for each entry the host page behind its target
  std::uint32_t table_mask_ = 0;
  std::uint32_t active_slot_count_[2] = {};
  std::uint32_t active_jump_count_[kJumpTables] = {};
  bool has_low_jumps_[kJumpTables] = {};  // some active entry may be of the lower half
  ModeKey table_mode_[kJumpTables] = {};
  bool has_large_page_[kJumpTables / 2] = {};  // each holds two tables

  // Below 2 GiB.
  JumpEntry* jumps_[kJumpTables] = {};
  std::uint64_t* slots_ = nullptr;
  PageSlot* page_slots_ = nullptr;
  std::uint64_t* filled_slots_ = nullptr;  // a bit for each of them
  std::uint32_t* slot_patience_ = nullptr;
  std::uint32_t slot_thunks_[kAllPageSlots] = {};
  std::uint32_t most_fills_ = kSlotPatience;

  CacheStatistics statistics_;
};

}  // namespace bygone::cpu::translator::jit
