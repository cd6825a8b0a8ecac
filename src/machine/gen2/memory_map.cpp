#include "machine/gen2/memory_map.h"

#include <algorithm>

namespace bygone::machine::gen2 {

Result<MemoryLayout> lay_out_memory(std::uint64_t bytes) {
  if (bytes < kMinimumMemory || bytes > kMaximumMemory || bytes % (1 << 20) != 0) {
    return std::unexpected(Error{ErrorCode::kInvalidArgument, fmt::format("a machine cannot have {} bytes of memory", bytes),
                                 fmt::format("Give it whole mebibytes, from {}M to {}G", kMinimumMemory >> 20, kMaximumMemory >> 30)});
  }
  MemoryLayout layout;
  const std::uint64_t low = std::min(bytes, kLowGapBase);
  layout.ram.push_back({0, low});
  if (bytes > low) layout.ram.push_back({kFourGiB, bytes - low});
  const std::uint64_t top = std::max(kFourGiB, layout.ram.back().base + layout.ram.back().size);
  layout.high_mmio = {(top + kHighMmioAlignment - 1) / kHighMmioAlignment * kHighMmioAlignment, kHighMmioSize};
  return layout;
}

std::vector<AddressRange> framebuffer_memory(const MemoryLayout& layout, std::uint16_t vram_megabytes) {
  constexpr std::uint64_t kAlignment = 2ULL << 20;
  std::vector<AddressRange> ranges = {kLowMmioWindow};
  if (vram_megabytes > kMaximumLowVramMegabytes) {
    const std::uint64_t bytes = std::uint64_t{vram_megabytes} << 20;
    ranges.push_back({layout.high_mmio.base, (bytes + kAlignment - 1) / kAlignment * kAlignment});
  }
  return ranges;
}

}  // namespace bygone::machine::gen2
