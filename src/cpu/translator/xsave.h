// XSAVE images from and to the block's register file (Intel SDM volume 1, chapter 13).
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/translator/state.h"

namespace bygone::cpu::translator::xsave {

inline constexpr std::uint64_t kX87 = 1, kSse = 2, kAvx = 4;
inline constexpr std::uint64_t kOffered = kX87 | kSse | kAvx;
inline constexpr std::uint32_t kLegacySize = 512, kHeaderSize = 64, kAvxOffset = 576, kAvxSize = 256;

[[nodiscard]] constexpr std::uint32_t standard_size(std::uint64_t xcr0) {
  return (xcr0 & kAvx) != 0 ? kAvxOffset + kAvxSize : kAvxOffset;
}
[[nodiscard]] constexpr std::uint32_t compacted_size(std::uint64_t components) { return standard_size(components); }

/// The 512 bytes of FXSAVE; `wide` is the 64-bit form. XMM8-15 only when `xmm_count` is 16.
void to_fxsave(const VcpuBlock& block, std::uint8_t* image, unsigned xmm_count, bool with_xmm);
/// False: MXCSR has reserved bits (#GP), nothing is changed.
[[nodiscard]] bool from_fxsave(VcpuBlock& block, const std::uint8_t* image, unsigned xmm_count, bool with_xmm);

inline constexpr std::uint32_t kMxcsrMask = 0xFFFF;

}  // namespace bygone::cpu::translator::xsave
