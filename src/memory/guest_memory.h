// Guest memory: the machine's RAM as slots of guest physical addresses. Ordinary RAM is this process's own, so that the host can make huge
// pages of it, which it seldom does of shared memory; what another process shows is a memfd.
//
// Everything that comes out of it is hostile and may change at any moment: copy in once, validate the copy, use the copy.
// Payload (disk, network) may instead be reached in place through host_ranges(), never parsed there.
//
// Threading: reads and writes from any thread. Slots are added before the machine runs and live until the object's end, so
// host addresses stay valid. Concurrent guest accesses are the guest's own business (plain bytes, no torn-read promises);
// ring indexes go through load_u32 and store_u32, which are atomic.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "support/result.h"
#include "support/unique_fd.h"

namespace bygone::memory {

inline constexpr std::uint64_t kPageSize = 4096;

/// A guest physical address.
struct Gpa {
  std::uint64_t value = 0;
  friend constexpr auto operator<=>(Gpa, Gpa) = default;
  friend constexpr Gpa operator+(Gpa address, std::uint64_t offset) { return {address.value + offset}; }
  [[nodiscard]] constexpr std::uint64_t page() const { return value / kPageSize; }
  [[nodiscard]] static constexpr Gpa from_page(std::uint64_t page) { return {page * kPageSize}; }
};

/// One contiguous piece of RAM.
struct Slot {
  Gpa base;
  std::uint64_t size = 0;      ///< bytes, a multiple of the page size
  std::byte* host = nullptr;   ///< where it is mapped in this process
  int memfd = -1;              ///< kShared: the file behind it, from its start on
  bool is_reserved = false;    ///< huge pages of the host's pool
};

enum class RamKind {
  kPrivate,   ///< this process's own, in huge pages (2 MiB) where the host makes them
  kReserved,  ///< the same, out of the host's pool of huge pages (nr_hugepages) if that holds all of it
  kShared,    ///< can be mapped by another process: pictures
};

class GuestMemory {
 public:
  GuestMemory() = default;
  virtual ~GuestMemory();
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  /// Adds zeroed RAM at [base, base + size). Host pages are taken when first touched.
  /// Errors: kInvalidArgument (not page aligned, zero, wraps), kAlreadyExists (overlaps), kExhausted (host refuses).
  [[nodiscard]] Result<void> add_ram(Gpa base, std::uint64_t size, RamKind kind = RamKind::kPrivate);
  [[nodiscard]] const std::vector<Slot>& slots() const { return slots_; }
  [[nodiscard]] std::uint64_t total_bytes() const;

  /// Copies out of or into RAM; a range may cross slots that touch. Errors: kOutOfRange when any byte is not RAM (nothing is
  /// copied then).
  [[nodiscard]] Result<void> read(Gpa address, std::span<std::byte> into) const;
  [[nodiscard]] Result<void> write(Gpa address, std::span<const std::byte> from);
  [[nodiscard]] Result<void> fill(Gpa address, std::uint64_t length, std::byte value);

  template <typename T>
    requires std::is_trivially_copyable_v<T>
  [[nodiscard]] Result<T> read_object(Gpa address) const {
    T object;
    BYGONE_CHECK(read(address, std::as_writable_bytes(std::span<T, 1>(&object, 1))));
    return object;
  }
  template <typename T>
    requires std::is_trivially_copyable_v<T>
  [[nodiscard]] Result<void> write_object(Gpa address, const T& object) {
    return write(address, std::as_bytes(std::span<const T, 1>(&object, 1)));
  }

  /// The host bytes behind [address, address + length) when they lie in one slot; an empty span otherwise.
  /// Marks nothing dirty: writers call mark_dirty.
  [[nodiscard]] std::span<std::byte> host_span(Gpa address, std::uint64_t length) const;
  /// Appends the host ranges behind a guest range to `ranges`. Errors: kOutOfRange.
  [[nodiscard]] Result<void> host_ranges(Gpa address, std::uint64_t length, std::vector<iovec>& ranges) const;

  /// Takes the host's pages for [address, address + length) at once and as huge ones (2 MiB), for a guest that is about to touch most of
  /// it: else each fault there costs an exit from the guest. Only whole huge pages inside the range, and a wish: shared memory is left
  /// alone before Linux 6.1. What the memory holds stays. Before the machine runs.
  void take_now(Gpa address, std::uint64_t length) const;

  /// Tells that the host wrote [address, address + length) in place (device input, DMA): engines that cache translations of
  /// guest code and the dirty log must know. Call it after the bytes are written. write() and fill() do it themselves.
  void mark_dirty(Gpa address, std::uint64_t length);

  /// Called after every host write with the range. Set once, before the machine runs.
  class WriteObserver {
   public:
    virtual ~WriteObserver() = default;
    /// Threading: any thread, often; must be quick.
    virtual void host_wrote(Gpa address, std::uint64_t length) = 0;
  };
  void add_write_observer(WriteObserver& observer) { observers_.push_back(&observer); }
  /// After the machine stopped, before the observer goes.
  void remove_write_observer(WriteObserver& observer) { std::erase(observers_, &observer); }

 private:
  [[nodiscard]] const Slot* find(Gpa address) const;
  template <typename Work>
  Result<void> for_each_piece(Gpa address, std::uint64_t length, Work work) const;

  std::vector<Slot> slots_;  // by base
  std::vector<UniqueFd> files_;
  std::vector<WriteObserver*> observers_;
};

}  // namespace bygone::memory
