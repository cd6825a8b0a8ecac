#include "hyperv/features.h"

#include <algorithm>
#include <array>

#include "spec/tlfs/features.h"

namespace bygone::hyperv {

namespace {

namespace tlfs = spec::tlfs;

struct Description {
  Feature feature;
  std::string_view name;
  std::uint32_t access = 0;     // 0x40000003 EAX
  std::uint32_t misc = 0;       // 0x40000003 EDX
  std::uint32_t recommend = 0;  // 0x40000004 EAX
};

constexpr std::array kDescriptions = {
    Description{Feature::kReferenceTsc, "reference-tsc", tlfs::kAccessReferenceTsc},
    Description{Feature::kFrequencies, "frequencies", tlfs::kAccessFrequencies, tlfs::kFrequencyRegisters},
    Description{Feature::kDirectTimers, "direct-timers", 0, tlfs::kDirectSyntheticTimers},
    Description{Feature::kXmmHypercalls, "xmm-hypercalls", 0, tlfs::kXmmHypercallInput},
    Description{Feature::kTlbFlush, "tlb-flush", 0, 0, tlfs::kRecommendRemoteTlbFlush},
    Description{Feature::kClusterIpi, "cluster-ipi", 0, 0, tlfs::kRecommendClusterIpi},
    Description{Feature::kExtendedMasks, "extended-masks", 0, 0, tlfs::kRecommendExtendedMasks},
    Description{Feature::kApicRegisters, "apic-registers", tlfs::kAccessApicRegisters, 0, tlfs::kRecommendApicRegisters},
    Description{Feature::kCrashReport, "crash-report", 0, tlfs::kCrashRegisters},
    Description{Feature::kReset, "reset", tlfs::kAccessReset},
    Description{Feature::kRelaxedTiming, "relaxed-timing", 0, 0, tlfs::kRecommendRelaxedTiming},
    Description{Feature::kAutoEoi, "auto-eoi"},        // announced by the absence of a recommendation
    Description{Feature::kSpinNotify, "spin-notify"},  // announced by a number
    Description{Feature::kTscInvariant, "tsc-invariant", tlfs::kAccessTscInvariant},
};

struct Profile {
  std::string_view name;
  std::array<Feature, kDescriptions.size()> features;
  std::size_t count;
};

template <typename... Features>
constexpr Profile make_profile(std::string_view name, Features... features) {
  return {name, {features...}, sizeof...(features)};
}

constexpr std::array kProfiles = {
    make_profile("linux", Feature::kReferenceTsc, Feature::kFrequencies, Feature::kDirectTimers, Feature::kXmmHypercalls,
                 Feature::kTlbFlush, Feature::kClusterIpi, Feature::kExtendedMasks, Feature::kApicRegisters, Feature::kCrashReport,
                 Feature::kReset, Feature::kRelaxedTiming, Feature::kSpinNotify),
    make_profile("windows", Feature::kReferenceTsc, Feature::kFrequencies, Feature::kDirectTimers, Feature::kXmmHypercalls,
                 Feature::kTlbFlush, Feature::kClusterIpi, Feature::kExtendedMasks, Feature::kApicRegisters, Feature::kCrashReport,
                 Feature::kReset, Feature::kRelaxedTiming, Feature::kSpinNotify),
    // What the hypervisor of 2008 offered; these guests were never tested with more.
    make_profile("legacy-windows", Feature::kTlbFlush, Feature::kReset, Feature::kRelaxedTiming, Feature::kCrashReport,
                 Feature::kSpinNotify),
    make_profile("none"),
};

constexpr std::uint32_t kSpinRetries = 4095;
constexpr std::uint32_t kMaximumProcessors = 64;
// The interface of build 22621, service branch 0.
constexpr std::uint32_t kBuild = 22621;
constexpr std::uint32_t kMajorMinor = 10U << 16;

}  // namespace

Result<Feature> feature_named(std::string_view name) {
  std::string known;
  for (const Description& description : kDescriptions) {
    if (description.name == name) return description.feature;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", description.name);
  }
  return std::unexpected(Error{ErrorCode::kNotFound, fmt::format("there is no enlightenment named {}", name),
                               fmt::format("The enlightenments are {}", known)});
}

std::string_view to_string(Feature feature) {
  for (const Description& description : kDescriptions) {
    if (description.feature == feature) return description.name;
  }
  return "unknown";
}

std::vector<std::string_view> FeatureSet::names() const {
  std::vector<std::string_view> names;
  for (const Description& description : kDescriptions) {
    if (has(description.feature)) names.push_back(description.name);
  }
  return names;
}

Result<FeatureSet> FeatureSet::profile(std::string_view name) {
  std::string known;
  for (const Profile& profile : kProfiles) {
    if (profile.name == name) {
      FeatureSet set;
      for (std::size_t i = 0; i < profile.count; ++i) set.add(profile.features[i]);
      return set;
    }
    known += fmt::format("{}{}", known.empty() ? "" : ", ", profile.name);
  }
  return std::unexpected(Error{ErrorCode::kNotFound, fmt::format("there is no enlightenment profile named {}", name),
                               fmt::format("The profiles are {}", known)});
}

Result<FeatureSet> FeatureSet::parse(std::string_view text, std::string_view otherwise) {
  const bool has_profile = !text.empty() && text[0] != '+' && text[0] != '-';
  const std::size_t comma = has_profile ? text.find(',') : 0;
  BYGONE_ASSIGN(FeatureSet set, profile(has_profile ? text.substr(0, comma) : otherwise));
  std::string_view rest = comma == std::string_view::npos ? std::string_view() : text.substr(has_profile ? comma + 1 : 0);
  while (!rest.empty()) {
    const std::size_t end = rest.find(',');
    const std::string_view change = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (change.size() < 2 || (change[0] != '+' && change[0] != '-')) {
      return fail(ErrorCode::kInvalidArgument, "\"{}\" does not add (+) or remove (-) an enlightenment", change);
    }
    BYGONE_ASSIGN(const Feature found, feature_named(change.substr(1)));
    if (change[0] == '+') {
      set.add(found);
    } else {
      set.remove(found);
    }
  }
  return set;
}

Result<FeatureSet> FeatureSet::parse_additions(std::string_view text) {
  const bool has_profile = !text.empty() && text[0] != '+' && text[0] != '-';
  if (has_profile) text = text.substr(std::min(text.find(','), text.size() - 1) + 1);
  return parse(text);
}

void add_cpuid_leaves(cpu::CpuidTable& table, FeatureSet features) {
  std::vector<std::uint32_t> foreign;
  for (const cpu::CpuidEntry& entry : table.entries()) {
    if (entry.leaf >> 28 == 4) foreign.push_back(entry.leaf);
  }
  for (const std::uint32_t leaf : foreign) table.remove(leaf);

  std::uint32_t access = tlfs::kAccessReferenceCounter | tlfs::kAccessSynic | tlfs::kAccessSyntheticTimers |
                         tlfs::kAccessHypercallRegisters | tlfs::kAccessVpIndex;
  std::uint32_t misc = 0, recommend = 0;
  for (const Description& description : kDescriptions) {
    if (!features.has(description.feature)) continue;
    access |= description.access;
    misc |= description.misc;
    recommend |= description.recommend;
  }
  if (!features.has(Feature::kAutoEoi)) recommend |= tlfs::kRecommendNoAutoEoi;
  const std::uint32_t spins = features.has(Feature::kSpinNotify) ? kSpinRetries : tlfs::kNeverNotifyLongSpin;

  const auto add = [&](std::uint32_t leaf, cpu::CpuidResult result) { table.set({leaf, std::nullopt, result}); };
  // "Microsoft Hv"
  add(tlfs::kLeafVendor, {.eax = tlfs::kLastLeaf, .ebx = 0x7263694D, .ecx = 0x666F736F, .edx = 0x76482074});
  add(tlfs::kLeafInterface, {.eax = tlfs::kInterfaceSignature});
  add(tlfs::kLeafVersion, {.eax = kBuild, .ebx = kMajorMinor});
  add(tlfs::kLeafFeatures, {.eax = access, .ebx = tlfs::kPostMessages | tlfs::kSignalEvents, .edx = misc});
  add(tlfs::kLeafRecommendations, {.eax = recommend, .ebx = spins});
  add(tlfs::kLeafLimits, {.eax = kMaximumProcessors, .ebx = kMaximumProcessors});
  add(tlfs::kLeafHardware, {});

  cpu::CpuidResult leaf1 = table.query(1, 0);
  leaf1.ecx |= tlfs::kLeaf1EcxHypervisorPresent;
  const cpu::CpuidEntry* old = table.find(1, 0);
  table.set({1, old != nullptr ? old->subleaf : std::nullopt, leaf1});
}

}  // namespace bygone::hyperv
