// Memory types, where the host has not set them: write back by default, so that one variable range a gap is enough; a gap that is not a
// power of two or not aligned takes the largest ranges that fit.
// SPDX-License-Identifier: Apache-2.0
#include "Sec.h"

#include <BygoneMtrr.h>

namespace bygone::sec {
namespace {

/// The largest power of two that a range at `base` may have and that is not above `length`.
UINT64 largest_range(UINT64 base, UINT64 length) {
  const UINT64 size = GetPowerOfTwo64(length);
  const UINT64 alignment = base & (~base + 1);
  return base != 0 && alignment < size ? alignment : size;
}

}  // namespace

void set_memory_types(blob::Span<const blob::MmioRange> gaps, UINT8 address_bits) {
  if (!mtrr::are_there()) return;
  for (const mtrr::FixedRanges& ranges : mtrr::kFixedRanges) AsmWriteMsr64(ranges.msr, mtrr::kWriteBackEight);
  const UINT64 address_mask = (UINT64{1} << address_bits) - 1;
  const UINT32 count = mtrr::variable_count();
  UINT32 range = 0;
  for (const blob::MmioRange& gap : gaps) {
    UINT64 size = 0;
    for (UINT64 base = gap.base(); base != gap.end() && range < count; base += size) {
      size = largest_range(base, gap.end() - base);
      AsmWriteMsr64(mtrr::base_msr(range), base);
      AsmWriteMsr64(mtrr::mask_msr(range), (~(size - 1) & address_mask) | mtrr::kRangeValid);
      ++range;
    }
  }
  AsmWriteMsr64(MSR_IA32_MTRR_DEF_TYPE, mtrr::kEnabled | mtrr::kFixedEnabled | mtrr::kWriteBack);
}

}  // namespace bygone::sec
