#include "cpu/time_stamps.h"

namespace bygone::cpu {

std::optional<std::uint64_t> time_stamp_of(const VcpuState& processor) {
  for (const MsrValue& msr : processor.msrs) {
    if (msr.index == kMsrTimeStampCounter) return msr.value;
  }
  return std::nullopt;
}

void align_time_stamps(std::span<VcpuState> processors, std::uint64_t tolerance) {
  std::optional<std::uint64_t> first;
  for (VcpuState& processor : processors) {
    for (MsrValue& msr : processor.msrs) {
      if (msr.index != kMsrTimeStampCounter) continue;
      if (!first) first = msr.value;
      if (msr.value - *first < tolerance || *first - msr.value < tolerance) msr.value = *first;
    }
  }
}

std::uint64_t TimeStampOffsets::offset_for(VpIndex vp, std::uint64_t value, std::uint64_t now) {
  if (vp.value != 0 && first_value_ == value) return first_offset_;
  const std::uint64_t offset = value - now;
  if (vp.value == 0) {
    first_value_ = value;
    first_offset_ = offset;
  }
  return offset;
}

}  // namespace bygone::cpu
