// The two buffers that a guest shares with its network adapter: one that we fill and lend out section by section, one that it
// fills.
//
// Threading: none; the adapter's loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "memory/guest_memory.h"
#include "support/result.h"
#include "vmbus/channel.h"

namespace bygone::devices::network {

/// Sections of equal size, each lent to the guest with what was received until it says that it is done.
class ReceiveBuffer {
 public:
  /// Errors: kInvalidArgument (it holds no section).
  [[nodiscard]] static Result<ReceiveBuffer> create(std::shared_ptr<const vmbus::Gpadl> gpadl, vmbus::GpadlId id,
                                                    std::uint16_t page_set, std::uint32_t section_bytes);

  [[nodiscard]] vmbus::GpadlId id() const { return id_; }
  [[nodiscard]] std::uint16_t page_set() const { return page_set_; }
  [[nodiscard]] std::uint32_t section_bytes() const { return section_bytes_; }
  [[nodiscard]] std::uint32_t section_count() const { return static_cast<std::uint32_t>(is_free_.size()); }
  [[nodiscard]] std::size_t free_sections() const { return free_.size(); }

  /// Only when free_sections() is not zero.
  [[nodiscard]] std::uint32_t take();
  void give_back(std::uint32_t section);
  /// Takes this very section. False: there is no such one, or it is taken.
  [[nodiscard]] bool take_again(std::uint32_t section);
  [[nodiscard]] Result<void> write(memory::GuestMemory& memory, std::uint32_t section, std::uint32_t offset,
                                   std::span<const std::byte> bytes) const;

 private:
  ReceiveBuffer() = default;
  std::shared_ptr<const vmbus::Gpadl> gpadl_;
  vmbus::GpadlId id_;
  std::uint16_t page_set_ = 0;
  std::uint32_t section_bytes_ = 0;
  std::vector<std::uint32_t> free_;  ///< the last one is warmest
  std::vector<bool> is_free_;
};

/// What the guest sends small messages through.
class SendBuffer {
 public:
  /// Errors: kInvalidArgument (it holds no section).
  [[nodiscard]] static Result<SendBuffer> create(std::shared_ptr<const vmbus::Gpadl> gpadl, vmbus::GpadlId id,
                                                 std::uint32_t section_bytes);
  [[nodiscard]] vmbus::GpadlId id() const { return id_; }
  [[nodiscard]] std::uint32_t section_bytes() const { return section_bytes_; }
  /// Copies the start of a section out. Errors: kOutOfRange.
  [[nodiscard]] Result<void> read(const memory::GuestMemory& memory, std::uint32_t section, std::span<std::byte> into) const;

 private:
  SendBuffer() = default;
  std::shared_ptr<const vmbus::Gpadl> gpadl_;
  vmbus::GpadlId id_;
  std::uint32_t section_bytes_ = 0;
};

}  // namespace bygone::devices::network
