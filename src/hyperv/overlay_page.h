// A page of the hypervisor's that the guest places over its memory (TLFS 5.2.1). The RAM beneath is kept and comes back when
// the page goes away; the page's own content moves with it.
//
// The overlay is the RAM itself, filled with the page's content, so guests reach it without an exit. Two overlays on one
// page, which no guest does, see each other's writes.
//
// Threading: the owner's lock.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>
#include <vector>

#include "memory/guest_memory.h"
#include "support/saved_fields.h"

namespace bygone::hyperv {

class OverlayPage {
 public:
  explicit OverlayPage(memory::GuestMemory& memory) : memory_(&memory) {}

  /// Shows the page at `page`, moving it there if it is elsewhere. False: that page is not RAM; nothing changed.
  [[nodiscard]] bool place(std::uint64_t page);
  void remove();
  [[nodiscard]] bool is_placed() const { return !bytes_.empty(); }
  [[nodiscard]] memory::Gpa address() const { return memory::Gpa::from_page(page_); }

  /// The page in guest memory, to be read and written atomically; empty when it is not placed.
  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  /// The host wrote `length` bytes at `offset`.
  void wrote(std::size_t offset, std::size_t length) { memory_->mark_dirty(address() + offset, length); }
  /// Fills the page with `content` and zeros, wherever it is.
  void set_content(std::span<const std::byte> content);

  /// Forgets the RAM beneath: the machine was reset and its memory starts anew.
  void reset();
  [[nodiscard]] nlohmann::json save() const;
  /// Reads what save() wrote; guest memory holds the content already.
  [[nodiscard]] static Result<OverlayPage> restore(memory::GuestMemory& memory, const nlohmann::json& state);

 private:
  memory::GuestMemory* memory_;
  std::uint64_t page_ = 0;
  std::span<std::byte> bytes_;
  std::vector<std::byte> beneath_;  // RAM under the placed page
  std::vector<std::byte> own_;      // the page's content while it is not placed; empty: zeros
};

}  // namespace bygone::hyperv
