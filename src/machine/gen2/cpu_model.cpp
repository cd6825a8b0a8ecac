#include "machine/gen2/cpu_model.h"

#include <bit>

namespace bygone::machine::gen2 {
namespace {

// Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E.
constexpr std::uint32_t kLeafFeatures = 1, kLeafCaches = 4, kLeafTopology = 0xB, kLeafTopologyV2 = 0x1F, kLeafSizes = 0x80000008;
constexpr std::uint32_t kHypervisorBit = 1U << 31, kHyperThreadingBit = 1U << 28;
constexpr std::uint32_t kTopologyThread = 1U << 8, kTopologyCore = 2U << 8;
constexpr std::uint32_t kHypervisorLeaves = 0x40000000, kHypervisorLeavesEnd = 0x40100000;

// The model `legacy`: processors of 2008 that XP, Vista and 7 all know by name.
constexpr std::uint32_t kPhenom = 0x0010'0F42, kPenryn = 0x0001'067A;
constexpr std::uint32_t kAmdVendorEnd = 0x444D'4163;  // "cAMD"
constexpr std::uint32_t kExtended = 0x8000'0000, kExtendedEnd = 0x8000'0008;
constexpr std::uint32_t kBasicEnd = 5;                // what these systems do not ask for is not there: 7, 0xB, 0xD
/// SSE3, SSSE3, CX16, SSE4.1, SSE4.2, POPCNT, hypervisor.
constexpr std::uint32_t kLegacyFeatures = 1U << 0 | 1U << 9 | 1U << 13 | 1U << 19 | 1U << 20 | 1U << 23 | kHypervisorBit;
/// LAHF, CMP, LZCNT, misaligned SSE, PREFETCHW.
constexpr std::uint32_t kLegacyExtendedFeatures = 1U << 0 | 1U << 1 | 1U << 5 | 1U << 7 | 1U << 8;
// What some hosts' KVM has and the software processor does not (self-snoop; SSE4A, above; AMD's MMX extensions and 3DNow!): a
// machine of this model is the same on either engine, and a saved one goes on on the other.
constexpr std::uint32_t kSelfSnoop = 1U << 27, kThreeDNow = 1U << 22 | 1U << 30 | 1U << 31;
constexpr std::uint32_t kGiantPages = 1U << 26;
constexpr std::uint32_t kLegacyAddresses = 0x3028;    // 40 bits physical, 48 linear

bool is_replaced(std::uint32_t leaf) {
  return leaf == kLeafTopology || leaf == kLeafTopologyV2 || (leaf >= kHypervisorLeaves && leaf < kHypervisorLeavesEnd);
}

}  // namespace

std::string_view to_string(CpuModel model) { return model == CpuModel::kLegacy ? "legacy" : "host"; }

Result<CpuModel> parse_cpu_model(std::string_view text) {
  for (const CpuModel model : {CpuModel::kHost, CpuModel::kLegacy}) {
    if (text == to_string(model)) return model;
  }
  return fail(ErrorCode::kInvalidArgument, "\"{}\" is no processor model; there are host and legacy", text);
}

cpu::CpuidTable apply_cpu_model(const cpu::CpuidTable& engine, CpuModel model) {
  if (model == CpuModel::kHost) return engine;
  const bool is_amd = engine.query(0, 0).ecx == kAmdVendorEnd;
  cpu::CpuidTable table;
  for (cpu::CpuidEntry entry : engine.entries()) {
    cpu::CpuidResult& result = entry.result;
    const bool is_extended = entry.leaf >= kExtended;
    if (entry.leaf > (is_extended ? kExtendedEnd : kBasicEnd)) continue;
    switch (entry.leaf) {
      case 0: result.eax = kBasicEnd; break;
      case kLeafFeatures:
        result.eax = is_amd ? kPhenom : kPenryn;
        result.ecx &= kLegacyFeatures;
        result.edx &= ~kSelfSnoop;
        break;
      case kExtended: result.eax = kExtendedEnd; break;
      case kExtended + 1:
        if (is_amd) result.eax = kPhenom;
        result.ecx &= kLegacyExtendedFeatures;
        result.edx &= ~(kGiantPages | kThreeDNow);
        break;
      case kLeafSizes:
        result.eax = kLegacyAddresses;
        result.ebx = 0;
        break;
      default: break;
    }
    table.set(entry);
  }
  return table;
}

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
