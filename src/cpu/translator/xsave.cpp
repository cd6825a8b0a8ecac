#include "cpu/translator/xsave.h"

#include <algorithm>
#include <cstring>

#include "cpu/cpuid.h"

namespace bygone::cpu::translator::xsave {
namespace {

constexpr std::size_t kMxcsr = 24, kMxcsrMaskPlace = 28, kXmm = 160;

bool is_zero(const std::uint8_t* bytes, std::size_t count) {
  return std::all_of(bytes, bytes + count, [](std::uint8_t byte) { return byte == 0; });
}

/// Registers [first, last), bytes [from, from + size) of each, are component `number`.
struct Slice {
  unsigned first = 0, last = 0;
  std::size_t from = 0, size = 0;
};

Slice slice_of(unsigned number, bool is_64) {
  switch (number) {
    case 2: return {0, is_64 ? 16U : 8U, 16, 16};
    case 6: return {0, is_64 ? 16U : 8U, 32, 32};
    case 7: return {16, is_64 ? 32U : 16U, 0, 64};
    default: return {};
  }
}

}  // namespace

bool host_has_avx512() {
  static const bool has = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512cd") != 0 &&
                          __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
                          __builtin_cpu_supports("avx512vl") != 0;
  return has;
}

std::uint64_t offered() { return kX87 | kSse | kAvx | (host_has_avx512() ? kAvx512 : 0); }

Place place_of(unsigned number) {
  static const std::array<Place, kComponentEnd> places = [] {
    std::array<Place, kComponentEnd> made;
    for (unsigned i = kFirstExtended; i < kComponentEnd; ++i) {
      if ((offered() >> i & 1) == 0) continue;
      const CpuidResult host = host_cpuid(0xD, i);
      made[i] = {host.ebx, host.eax};
    }
    made[2] = {kAvxOffset, kAvxSize};
    return made;
  }();
  return places[number];
}

std::array<Place, kComponentEnd> compacted_places(std::uint64_t components) {
  std::array<Place, kComponentEnd> places;
  std::uint32_t at = kHeaderEnd;
  for (unsigned i = kFirstExtended; i < kComponentEnd; ++i) {
    if ((components >> i & 1) == 0) continue;
    places[i] = {at, place_of(i).size};
    at += places[i].size;
  }
  return places;
}

std::uint32_t standard_size(std::uint64_t components) {
  std::uint32_t size = kHeaderEnd;
  for (unsigned i = kFirstExtended; i < kComponentEnd; ++i) {
    if ((components >> i & 1) != 0) size = std::max(size, place_of(i).offset + place_of(i).size);
  }
  return size;
}

std::uint32_t compacted_size(std::uint64_t components) {
  std::uint32_t size = kHeaderEnd;
  for (const Place& place : compacted_places(components)) size += place.size;
  return size;
}

std::uint64_t in_use(const VcpuBlock& block) {
  const VectorState& state = block.vector;
  std::uint64_t used = kX87 | kSse;
  if (!is_zero(reinterpret_cast<const std::uint8_t*>(state.opmask.data()), sizeof state.opmask)) used |= kOpmask;
  for (const unsigned number : {2U, 6U, 7U}) {
    const Slice slice = slice_of(number, true);
    for (unsigned i = slice.first; i < slice.last; ++i) {
      if (!is_zero(state.zmm[i].data() + slice.from, slice.size)) used |= std::uint64_t{1} << number;
    }
  }
  return used;
}

void store_component(const VcpuBlock& block, unsigned number, std::uint8_t* at, bool is_64) {
  if (number == 5) std::memcpy(at, block.vector.opmask.data(), sizeof block.vector.opmask);
  const Slice slice = slice_of(number, is_64);
  for (unsigned i = slice.first; i < slice.last; ++i) {
    std::memcpy(at + (i - slice.first) * slice.size, block.vector.zmm[i].data() + slice.from, slice.size);
  }
}

void load_component(VcpuBlock& block, unsigned number, const std::uint8_t* at, bool is_64) {
  if (number == 5) std::memcpy(block.vector.opmask.data(), at, sizeof block.vector.opmask);
  const Slice slice = slice_of(number, is_64);
  for (unsigned i = slice.first; i < slice.last; ++i) {
    std::memcpy(block.vector.zmm[i].data() + slice.from, at + (i - slice.first) * slice.size, slice.size);
  }
}

void clear_component(VcpuBlock& block, unsigned number, bool is_64) {
  if (number == 5) block.vector.opmask = {};
  const Slice slice = slice_of(number, is_64);
  for (unsigned i = slice.first; i < slice.last; ++i) std::memset(block.vector.zmm[i].data() + slice.from, 0, slice.size);
}

void to_fxsave(const VcpuBlock& block, std::uint8_t* image, unsigned xmm_count, bool with_xmm) {
  std::memcpy(image, block.vector.x87.data(), kMxcsr);
  std::memcpy(image + 32, block.vector.x87.data() + 32, 128);
  if (!with_xmm) return;
  std::memcpy(image + kMxcsr, &block.vector.mxcsr, 4);
  std::memcpy(image + kMxcsrMaskPlace, &kMxcsrMask, 4);
  for (unsigned i = 0; i < xmm_count; ++i) std::memcpy(image + kXmm + 16ULL * i, block.vector.zmm[i].data(), 16);
}

bool from_fxsave(VcpuBlock& block, const std::uint8_t* image, unsigned xmm_count, bool with_xmm) {
  if (with_xmm) {
    std::uint32_t mxcsr = 0;
    std::memcpy(&mxcsr, image + kMxcsr, 4);
    if ((mxcsr & ~kMxcsrMask) != 0) return false;
    block.vector.mxcsr = mxcsr;
    for (unsigned i = 0; i < xmm_count; ++i) std::memcpy(block.vector.zmm[i].data(), image + kXmm + 16ULL * i, 16);
  }
  std::memcpy(block.vector.x87.data(), image, kMxcsr);
  std::memcpy(block.vector.x87.data() + 32, image + 32, 128);
  return true;
}

}  // namespace bygone::cpu::translator::xsave
