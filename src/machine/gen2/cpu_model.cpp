#include "machine/gen2/cpu_model.h"

#include <bit>

namespace bygone::machine::gen2 {
namespace {

// Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E.
constexpr std::uint32_t kLeafFeatures = 1, kLeafCaches = 4, kLeafTopology = 0xB, kLeafTopologyV2 = 0x1F, kLeafSizes = 0x80000008;
constexpr std::uint32_t kHypervisorBit = 1U << 31, kHyperThreadingBit = 1U << 28;
constexpr std::uint32_t kTopologyThread = 1U << 8, kTopologyCore = 2U << 8;
constexpr std::uint32_t kHypervisorLeaves = 0x40000000, kHypervisorLeavesEnd = 0x40100000;

bool is_replaced(std::uint32_t leaf) {
  return leaf == kLeafTopology || leaf == kLeafTopologyV2 || (leaf >= kHypervisorLeaves && leaf < kHypervisorLeavesEnd);
}

}  // namespace

cpu::CpuidTable make_machine_cpuid(const cpu::CpuidTable& engine, std::uint32_t processors) {
  cpu::CpuidTable table;
  for (cpu::CpuidEntry entry : engine.entries()) {
    if (is_replaced(entry.leaf)) continue;
    if (entry.leaf == kLeafFeatures) {
      entry.result.ebx = (entry.result.ebx & 0xFF00FFFF) | (processors << 16);
      entry.result.ecx |= kHypervisorBit;
      entry.result.edx = (entry.result.edx & ~kHyperThreadingBit) | (processors > 1 ? kHyperThreadingBit : 0);
    }
    if (entry.leaf == kLeafCaches) {
      // Cores that share the package and threads that share this cache, each less one; only the last level is shared.
      const std::uint32_t level = (entry.result.eax >> 5) & 7;
      entry.result.eax = (entry.result.eax & 0x3FFF) | ((std::bit_ceil(processors) - 1) << 26) |
                         (level >= 3 ? (std::bit_ceil(processors) - 1) << 14 : 0);
    }
    if (entry.leaf == kLeafSizes) entry.result.ecx = processors - 1;
    table.set(entry);
  }
  if (engine.query(0, 0).eax >= kLeafTopology) {
    const auto core_shift = static_cast<std::uint32_t>(std::bit_width(processors - 1));
    table.set({kLeafTopology, 0, {0, 1, kTopologyThread | 0, 0}});
    table.set({kLeafTopology, 1, {core_shift, processors, kTopologyCore | 1, 0}});
  }
  return table;
}

}  // namespace bygone::machine::gen2
