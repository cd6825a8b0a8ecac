// XSAVE images from and to the block's register file (Intel SDM volume 1, chapter 13).
//
// A component lies where the host's CPUID says, in the standard format; in the compacted one they follow each other.
// Threading: pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "cpu/translator/state.h"

namespace bygone::cpu::translator::xsave {

inline constexpr std::uint64_t kX87 = 1, kSse = 2, kAvx = 4, kOpmask = 1U << 5, kZmmHigh = 1U << 6, kZmmMore = 1U << 7;
inline constexpr std::uint64_t kAvx512 = kOpmask | kZmmHigh | kZmmMore;
inline constexpr std::uint32_t kLegacySize = 512, kHeaderSize = 64, kAvxOffset = 576, kAvxSize = 256;
inline constexpr std::uint32_t kHeaderEnd = kLegacySize + kHeaderSize;
inline constexpr std::uint32_t kLargestImage = 4096;
inline constexpr unsigned kFirstExtended = 2, kComponentEnd = 8;

/// What translations and the interpreter carry on this host.
[[nodiscard]] std::uint64_t offered();
/// The host has AVX-512 as the software processor offers it: F, CD, BW, DQ and VL together.
[[nodiscard]] bool host_has_avx512();

struct Place {
  std::uint32_t offset = 0, size = 0;
};
/// Of extended component `number` (2, 5, 6 or 7; others have no size) in the standard format.
[[nodiscard]] Place place_of(unsigned number);
/// Where the components lie in the compacted format; `components` has its bits as XCOMP_BV.
[[nodiscard]] std::array<Place, kComponentEnd> compacted_places(std::uint64_t components);
[[nodiscard]] std::uint32_t standard_size(std::uint64_t components);
[[nodiscard]] std::uint32_t compacted_size(std::uint64_t components);

/// Components that are not in their initial state; x87 and SSE always count as used.
[[nodiscard]] std::uint64_t in_use(const VcpuBlock& block);
/// One extended component to and from its place; outside 64-bit code the upper registers stay as they are.
void store_component(const VcpuBlock& block, unsigned number, std::uint8_t* at, bool is_64);
void load_component(VcpuBlock& block, unsigned number, const std::uint8_t* at, bool is_64);
void clear_component(VcpuBlock& block, unsigned number, bool is_64);

/// The 512 bytes of FXSAVE; `wide` is the 64-bit form. XMM8-15 only when `xmm_count` is 16.
void to_fxsave(const VcpuBlock& block, std::uint8_t* image, unsigned xmm_count, bool with_xmm);
/// False: MXCSR has reserved bits (#GP), nothing is changed.
[[nodiscard]] bool from_fxsave(VcpuBlock& block, const std::uint8_t* image, unsigned xmm_count, bool with_xmm);

inline constexpr std::uint32_t kMxcsrMask = 0xFFFF;

}  // namespace bygone::cpu::translator::xsave
