#include "memory/guest_memory.h"

#include <linux/memfd.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace bygone::memory {
namespace {

constexpr std::uint64_t kHugePage = 2 << 20;
constexpr int kCollapse = 25;       // MADV_COLLAPSE, Linux 6.1
constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, Linux 5.14
constexpr char kName[] = "bygone-ram";  // in /proc/PID/maps

/// All of `size` from the host's pool, or MAP_FAILED.
void* map_reserved_huge_pages(std::uint64_t size) {
  if (size % kHugePage != 0) return MAP_FAILED;
  // Without MAP_NORESERVE the pool must hold all of it now, so that no later touch can fail.
  return ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
}

/// The file, or memory of our own where there is none, at a host address that is as far from a 2 MiB boundary as `base` is: only so can
/// a huge page of the host's be one for the guest. Errors: MAP_FAILED.
void* map_like(Gpa base, std::uint64_t size, int file) {
  constexpr int kProtection = PROT_READ | PROT_WRITE;
  const int kFlags = MAP_NORESERVE | (file >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
  if (size < kHugePage) return ::mmap(nullptr, size, kProtection, kFlags, file, 0);
  void* room = ::mmap(nullptr, size + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return MAP_FAILED;
  const std::uint64_t start = std::bit_cast<std::uint64_t>(room);
  const std::uint64_t before = (base.value - start) % kHugePage;
  std::byte* place = static_cast<std::byte*>(room) + before;
  if (before != 0) ::munmap(room, before);
  if (before != kHugePage) ::munmap(place + size, kHugePage - before);
  void* host = ::mmap(place, size, kProtection, kFlags | MAP_FIXED, file, 0);
  if (host == MAP_FAILED) ::munmap(place, size);
  return host;
}

}  // namespace

GuestMemory::~GuestMemory() {
  for (const Slot& slot : slots_) ::munmap(slot.host, slot.size);
}

Result<void> GuestMemory::add_ram(Gpa base, std::uint64_t size, RamKind kind) {
  if (size == 0 || size % kPageSize != 0 || base.value % kPageSize != 0 || base.value + size < base.value) {
    return fail(ErrorCode::kInvalidArgument, "RAM at {:#x} of {:#x} bytes is not a run of whole pages", base.value, size);
  }
  for (const Slot& slot : slots_) {
    if (base.value < slot.base.value + slot.size && slot.base.value < base.value + size) {
      return fail(ErrorCode::kAlreadyExists, "RAM at {:#x} overlaps RAM at {:#x}", base.value, slot.base.value);
    }
  }
  UniqueFd file;
  if (kind == RamKind::kShared) {
    file.reset(::memfd_create(kName, MFD_CLOEXEC));
    if (!file) return fail_errno(errno, "creating guest memory");
    if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0) {
      return fail_errno(errno, fmt::format("sizing guest memory to {} MiB", size >> 20));
    }
  }
  void* host = kind == RamKind::kReserved ? map_reserved_huge_pages(size) : MAP_FAILED;
  const bool is_reserved = host != MAP_FAILED;
  if (!is_reserved) host = map_like(base, size, file.get());
  if (host == MAP_FAILED) return fail_errno(errno, fmt::format("mapping {} MiB of guest memory", size >> 20));
  // All of these are wishes: the kernel may say no.
  if (!file && !is_reserved) ::madvise(host, size, MADV_HUGEPAGE);
  if (!file) ::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, host, size, kName);
  ::madvise(host, size, MADV_DONTDUMP);
  ::madvise(host, size, MADV_DONTFORK);  // a child has no use for it, and would make each page that is written a copy
  const Slot slot{base, size, static_cast<std::byte*>(host), file.get(), is_reserved};
  files_.push_back(std::move(file));
  slots_.insert(std::ranges::upper_bound(slots_, base, {}, &Slot::base), slot);
  return {};
}

std::uint64_t GuestMemory::total_bytes() const {
  std::uint64_t total = 0;
  for (const Slot& slot : slots_) total += slot.size;
  return total;
}

const Slot* GuestMemory::find(Gpa address) const {
  for (const Slot& slot : slots_) {
    if (address.value - slot.base.value < slot.size && address >= slot.base) return &slot;
  }
  return nullptr;
}

template <typename Work>
Result<void> GuestMemory::for_each_piece(Gpa address, std::uint64_t length, Work work) const {
  // First pass: is every byte RAM? Nothing may be half done.
  for (int pass = 0; pass < 2; ++pass) {
    std::uint64_t done = 0;
    while (done < length) {
      const Gpa here = address + done;
      const Slot* slot = here.value < address.value ? nullptr : find(here);
      if (slot == nullptr) {
        return fail(ErrorCode::kOutOfRange, "guest physical range {:#x}+{:#x} is not all RAM", address.value, length);
      }
      const std::uint64_t offset = here.value - slot->base.value;
      const std::uint64_t piece = std::min(length - done, slot->size - offset);
      if (pass == 1) work(slot->host + offset, done, piece);
      done += piece;
    }
  }
  return {};
}

Result<void> GuestMemory::read(Gpa address, std::span<std::byte> into) const {
  return for_each_piece(address, into.size(), [&](const std::byte* host, std::uint64_t offset, std::uint64_t length) {
    std::memcpy(into.data() + offset, host, length);
  });
}

Result<void> GuestMemory::write(Gpa address, std::span<const std::byte> from) {
  BYGONE_CHECK(for_each_piece(address, from.size(), [&](std::byte* host, std::uint64_t offset, std::uint64_t length) {
    std::memcpy(host, from.data() + offset, length);
  }));
  mark_dirty(address, from.size());
  return {};
}

Result<void> GuestMemory::fill(Gpa address, std::uint64_t length, std::byte value) {
  BYGONE_CHECK(for_each_piece(address, length, [&](std::byte* host, std::uint64_t, std::uint64_t piece) {
    std::memset(host, std::to_integer<int>(value), piece);
  }));
  mark_dirty(address, length);
  return {};
}

std::span<std::byte> GuestMemory::host_span(Gpa address, std::uint64_t length) const {
  const Slot* slot = find(address);
  if (slot == nullptr) return {};
  const std::uint64_t offset = address.value - slot->base.value;
  if (length > slot->size - offset) return {};
  return {slot->host + offset, length};
}

Result<void> GuestMemory::host_ranges(Gpa address, std::uint64_t length, std::vector<iovec>& ranges) const {
  return for_each_piece(address, length, [&](std::byte* host, std::uint64_t, std::uint64_t piece) {
    if (!ranges.empty() && static_cast<std::byte*>(ranges.back().iov_base) + ranges.back().iov_len == host) {
      ranges.back().iov_len += piece;
    } else {
      ranges.push_back({host, piece});
    }
  });
}

void GuestMemory::take_now(Gpa address, std::uint64_t length) const {
  for (const Slot& slot : slots_) {
    const std::uint64_t first = std::max(address.value, slot.base.value), last = std::min(address.value + length, slot.base.value + slot.size);
    if (first >= last) continue;
    const std::uint64_t begin = (first + kHugePage - 1) / kHugePage * kHugePage, end = last / kHugePage * kHugePage;
    if (begin >= end) continue;
    std::byte* place = slot.host + (begin - slot.base.value);
    if (slot.memfd < 0) {
      static_cast<void>(::madvise(place, end - begin, kPopulateWrite));
      continue;
    }
    for (std::uint64_t at = 0; at < end - begin; at += kHugePage) {  // of a place without any page the kernel makes none
      static_cast<void>(*static_cast<volatile const std::byte*>(place + at));
    }
    static_cast<void>(::madvise(place, end - begin, kCollapse));
  }
}

void GuestMemory::mark_dirty(Gpa address, std::uint64_t length) {
  if (length == 0) return;
  for (WriteObserver* observer : observers_) observer->host_wrote(address, length);
}

}  // namespace bygone::memory
