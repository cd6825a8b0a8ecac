// The VM generation counter: 16 bytes in guest memory that change whenever the machine's past is not what the guest
// remembers (a checkpoint applied, a copy started). Virtual Machine Generation ID, Microsoft, 2012.
//
// Threading: any thread.
#pragma once

#include <array>
#include <functional>
#include <mutex>

#include "chipset/savable.h"
#include "memory/guest_memory.h"

namespace bygone::chipset {

class GenerationCounter final : public Savable {
 public:
  using Id = std::array<std::uint8_t, 16>;
  /// `notify` raises the general purpose event of the ACPI device.
  GenerationCounter(memory::GuestMemory& memory, std::function<void()> notify) : memory_(memory), notify_(std::move(notify)) {}

  /// The guest's firmware, or the loader, says where the id lives; 0: nowhere. A place that is not RAM is refused.
  [[nodiscard]] Result<void> place(memory::Gpa address);
  /// A new past. Writes the id and tells the guest.
  void change(const Id& id);

  [[nodiscard]] nlohmann::json save() const override;
  [[nodiscard]] Result<void> restore(const nlohmann::json& state) override;
  void reset() override;

 private:
  memory::GuestMemory& memory_;
  std::function<void()> notify_;
  mutable std::mutex mutex_;
  memory::Gpa address_{};
  Id id_ = {};
};

}  // namespace bygone::chipset
