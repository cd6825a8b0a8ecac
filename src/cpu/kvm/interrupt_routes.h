// The kernel's table of interrupt routes: level-triggered messages whose end of interrupt is to be told, and synthetic interrupt
// sources that are raised through an eventfd.
//
//   entries 0 … kIoApicPins-1   level-triggered messages, in turn
//   then 16 for each processor  its synthetic sources, each entered when it is first raised
//
// A source's eventfd has no second one for its acknowledgement: KVM refuses those with a split irqchip, so the guest's
// end-of-message register is left to user space instead.
//
// Threading: any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "cpu/kvm/abi.h"
#include "cpu/state.h"
#include "support/result.h"
#include "support/unique_fd.h"

namespace bygone::cpu::kvm {

/// Pins that the kernel is told to watch for level-triggered EOIs: those of the I/O APIC (gen2: 24).
inline constexpr std::size_t kIoApicPins = 24;

class InterruptRoutes {
 public:
  InterruptRoutes(int vm, std::uint32_t vcpu_count);
  ~InterruptRoutes();

  /// Makes the kernel report EOIs of this level-triggered message.
  [[nodiscard]] Result<void> watch_level(const kvm_msi& message);
  [[nodiscard]] bool watches_levels() const { return watches_levels_.load(std::memory_order_relaxed); }
  /// Raises a synthetic interrupt source as its register says.
  [[nodiscard]] Result<void> raise(VpIndex vp, std::uint8_t source);

 private:
  static constexpr std::uint32_t kSources = 16;  // of each processor, TLFS 11.3
  [[nodiscard]] Result<int> connect(std::uint32_t slot);
  [[nodiscard]] Result<void> write_table();

  int vm_;
  std::mutex mutex_;
  std::atomic<bool> watches_levels_ = false;
  std::vector<kvm_msi> levels_;  // guarded by mutex_
  std::size_t next_level_ = 0;   // guarded by mutex_
  std::vector<bool> is_routed_;  // guarded by mutex_
  /// Descriptors by processor * kSources + source; -1 until first raised, then for good.
  std::vector<std::atomic<int>> sources_;
  std::vector<UniqueFd> descriptors_;  // guarded by mutex_
};

}  // namespace bygone::cpu::kvm
