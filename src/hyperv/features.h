// Which enlightenments a guest is told of: single features by name, profiles for kinds of guests, and the CPUID leaves that
// announce them. docs/hyperv.md describes each.
//
// Threading: values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/cpuid.h"
#include "support/result.h"

namespace bygone::hyperv {

enum class Feature : std::uint8_t {
  kReferenceTsc,      ///< the page from which guests compute time without an exit
  kFrequencies,       ///< TSC and APIC rates as registers
  kDirectTimers,      ///< synthetic timers that interrupt without a message
  kXmmHypercalls,     ///< hypercall input in XMM registers
  kTlbFlush,          ///< remote TLB flush recommended
  kClusterIpi,        ///< IPI hypercalls recommended
  kExtendedMasks,     ///< sparse processor sets recommended
  kApicRegisters,     ///< EOI, ICR and TPR as registers
  kCrashReport,       ///< crash registers
  kReset,             ///< reset register
  kRelaxedTiming,     ///< watchdogs that expect timely interrupts are to be turned off
  kAutoEoi,           ///< SynIC interrupts end themselves
  kSpinNotify,        ///< long spins are to be reported
  kTscInvariant,      ///< guests may trust the TSC as their clock for good
};

/// Threading: value.
class FeatureSet {
 public:
  constexpr FeatureSet() = default;
  [[nodiscard]] constexpr bool has(Feature feature) const { return (bits_ >> static_cast<unsigned>(feature) & 1U) != 0; }
  constexpr FeatureSet& add(Feature feature) {
    bits_ |= 1U << static_cast<unsigned>(feature);
    return *this;
  }
  constexpr FeatureSet& remove(Feature feature) {
    bits_ &= ~(1U << static_cast<unsigned>(feature));
    return *this;
  }
  [[nodiscard]] constexpr bool is_empty() const { return bits_ == 0; }
  /// What this has and `other` has not.
  [[nodiscard]] constexpr FeatureSet without(FeatureSet other) const {
    FeatureSet rest;
    rest.bits_ = bits_ & ~other.bits_;
    return rest;
  }
  friend constexpr bool operator==(FeatureSet, FeatureSet) = default;

  /// `linux`, `windows`, `legacy-windows` (XP, Vista, 7) or `none`. Errors: kNotFound with the names there are.
  [[nodiscard]] static Result<FeatureSet> profile(std::string_view name);
  /// A profile and changes, such as "linux,-tlb-flush,+tsc-invariant"; without a profile, changes to `otherwise`.
  /// Errors: kNotFound, kInvalidArgument.
  [[nodiscard]] static Result<FeatureSet> parse(std::string_view text, std::string_view otherwise = "none");
  /// Of such a text only what it adds by name. Errors: as parse().
  [[nodiscard]] static Result<FeatureSet> parse_additions(std::string_view text);
  [[nodiscard]] std::vector<std::string_view> names() const;

 private:
  std::uint32_t bits_ = 0;
};

[[nodiscard]] std::string_view to_string(Feature feature);
/// Errors: kNotFound with the names there are.
[[nodiscard]] Result<Feature> feature_named(std::string_view name);

/// Puts the hypervisor's leaves into a table and sets the hypervisor bit in leaf 1. Foreign hypervisor leaves
/// (0x40000000-0x4FFFFFFF) are removed: guests take the highest base that they find.
void add_cpuid_leaves(cpu::CpuidTable& table, FeatureSet features);

}  // namespace bygone::hyperv
