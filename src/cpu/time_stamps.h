// The processors' time stamp counters in a saved state: read one after the other, they differ by the moments in between, and set
// one after the other they would again. A guest that compares its processors' counters must see neither.
// Threading: none of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "cpu/state.h"

namespace bygone::cpu {

inline constexpr std::uint32_t kMsrTimeStampCounter = 0x10;  // IA32_TIME_STAMP_COUNTER, Intel SDM volume 4

[[nodiscard]] std::optional<std::uint64_t> time_stamp_of(const VcpuState& processor);

/// Gives those whose counters differ from the first one's by less than `tolerance` the first one's: further apart is the guest's
/// own doing.
void align_time_stamps(std::span<VcpuState> processors, std::uint64_t tolerance);

/// What a guest's counter adds to the host's, for processors that are restored one after the other: those with the counter of
/// processor 0, which comes first, get its offset too and so count as one.
class TimeStampOffsets {
 public:
  /// `now` is the host's counter.
  [[nodiscard]] std::uint64_t offset_for(VpIndex vp, std::uint64_t value, std::uint64_t now);

 private:
  std::optional<std::uint64_t> first_value_;
  std::uint64_t first_offset_ = 0;
};

}  // namespace bygone::cpu
