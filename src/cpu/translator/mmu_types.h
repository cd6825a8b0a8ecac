// The software TLB's layout: what translated code compares and adds on every memory access. Behaviour is in mmu.h.
//
// One table per context, so that a change of ring or of RFLAGS.AC flushes nothing. An entry maps one 4 KiB page:
//   hit:  linear - entry.X_tag <= 4096 - size       X: read, write, exec; rejects page crossing in the same comparison
//   host: entry.host + (linear - entry.X_tag)
// An access that crosses a page, or misses, goes the slow way (mmu.h). Pages that are not RAM, and writes to pages that hold
// translated code, never have a tag and so always go that way.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace bygone::cpu::translator {

enum class Access : std::uint8_t { kRead, kWrite, kExecute };

/// Index of a table in Tlb::contexts.
enum TlbContext : std::uint32_t {
  kTlbSupervisor = 0,    ///< CPL 0-2 with AC clear while SMAP is on; implicit system accesses of any CPL
  kTlbUser = 1,          ///< CPL 3
  kTlbSupervisorAc = 2,  ///< CPL 0-2 with AC set, or SMAP off
  kTlbContextCount = 3,
};

inline constexpr unsigned kTlbIndexBits = 10;
inline constexpr std::size_t kTlbEntries = std::size_t{1} << kTlbIndexBits;

/// What an entry holds for a page that it does not map: a page that would be looked up in another entry, so that no linear
/// address which indexes this entry, canonical or not, is within 4 KiB above it.
[[nodiscard]] constexpr std::uint64_t tlb_invalid_tag(std::size_t index) { return static_cast<std::uint64_t>(index ^ 1) << 12; }

struct TlbEntry {
  std::uint64_t read_tag = 0;
  std::uint64_t write_tag = 0;
  std::uint64_t exec_tag = 0;
  std::uint8_t* host = nullptr;  ///< the page's first byte
};
static_assert(sizeof(TlbEntry) == 32);

/// Byte offset of the entry in its table: (linear >> kTlbIndexShift) & kTlbIndexMask.
inline constexpr unsigned kTlbIndexShift = 12 - 5;
inline constexpr std::uint64_t kTlbIndexMask = (kTlbEntries - 1) << 5;
[[nodiscard]] constexpr std::size_t tlb_index(std::uint64_t linear) { return (linear >> 12) & (kTlbEntries - 1); }

struct TlbTable {
  constexpr TlbTable() {
    for (std::size_t i = 0; i < kTlbEntries; ++i) clear(i);
  }
  constexpr void clear(std::size_t index) {
    const std::uint64_t tag = tlb_invalid_tag(index);
    entries[index] = {tag, tag, tag, nullptr};
  }
  std::array<TlbEntry, kTlbEntries> entries;
};
inline constexpr std::size_t kTlbTableBytes = sizeof(TlbTable);

/// What flushes need to know about the entries of a table: one bit an entry.
struct TlbBookkeeping {
  std::array<std::uint64_t, kTlbEntries / 64> used = {};
  std::array<std::uint64_t, kTlbEntries / 64> global = {};
  std::array<std::uint64_t, kTlbEntries / 64> large = {};  ///< piece of a 2 MiB, 4 MiB or 1 GiB page
};

/// Entries of address spaces (PCIDs) that are not the present one: taken out of the tables when CR3 changes, put back when it
/// returns to them with the wish to keep them (CR3 bit 63). Never holds global entries, which stay in the tables.
struct TlbArchive {
  struct Entry {
    TlbEntry entry;
    std::uint16_t index = 0;
    std::uint8_t context = 0;
    std::uint8_t is_large = 0;
  };
  struct Space {
    std::uint16_t pcid = 0;
    bool valid = false;
    std::uint32_t count = 0;
    std::uint64_t last_use = 0;
    std::array<Entry, 512> entries;
  };
  std::array<Space, 6> spaces;  ///< Linux keeps six
  std::uint64_t clock = 0;
  std::uint64_t kept = 0;       ///< entries put back, for statistics
};

struct alignas(64) Tlb {
  std::array<TlbTable, kTlbContextCount> contexts = {};
  std::array<TlbBookkeeping, kTlbContextCount> bookkeeping = {};
  std::uint64_t fills = 0;
  std::uint64_t flushes = 0;
  /// Since everything was flushed, code in the upper half of the address space was seen that is not global.
  bool has_private_high_code = false;
  TlbArchive archive;
};

}  // namespace bygone::cpu::translator
