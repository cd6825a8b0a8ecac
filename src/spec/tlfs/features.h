// CPUID leaves of the hypervisor interface. Hypervisor Top-Level Functional Specification 6.0b, section 2.4.
#pragma once

#include <cstdint>

namespace bygone::spec::tlfs {

inline constexpr std::uint32_t kLeafVendor = 0x40000000;
inline constexpr std::uint32_t kLeafInterface = 0x40000001;
inline constexpr std::uint32_t kLeafVersion = 0x40000002;
inline constexpr std::uint32_t kLeafFeatures = 0x40000003;
inline constexpr std::uint32_t kLeafRecommendations = 0x40000004;
inline constexpr std::uint32_t kLeafLimits = 0x40000005;
inline constexpr std::uint32_t kLeafHardware = 0x40000006;
inline constexpr std::uint32_t kLastLeaf = kLeafHardware;

inline constexpr std::uint32_t kInterfaceSignature = 0x31237648;  ///< "Hv#1"
inline constexpr std::uint32_t kLeaf1EcxHypervisorPresent = 1U << 31;

// Leaf 0x40000003 EAX: registers that the partition may use (HV_PARTITION_PRIVILEGE_MASK, low half).
inline constexpr std::uint32_t kAccessReferenceCounter = 1U << 1;
inline constexpr std::uint32_t kAccessSynic = 1U << 2;
inline constexpr std::uint32_t kAccessSyntheticTimers = 1U << 3;
inline constexpr std::uint32_t kAccessApicRegisters = 1U << 4;
inline constexpr std::uint32_t kAccessHypercallRegisters = 1U << 5;
inline constexpr std::uint32_t kAccessVpIndex = 1U << 6;
inline constexpr std::uint32_t kAccessReset = 1U << 7;
inline constexpr std::uint32_t kAccessReferenceTsc = 1U << 9;
inline constexpr std::uint32_t kAccessFrequencies = 1U << 11;
inline constexpr std::uint32_t kAccessTscInvariant = 1U << 15;
// EBX: hypercalls (high half of the mask).
inline constexpr std::uint32_t kPostMessages = 1U << 4;
inline constexpr std::uint32_t kSignalEvents = 1U << 5;
// EDX: miscellaneous features.
inline constexpr std::uint32_t kXmmHypercallInput = 1U << 4;
inline constexpr std::uint32_t kFrequencyRegisters = 1U << 8;
inline constexpr std::uint32_t kCrashRegisters = 1U << 10;
inline constexpr std::uint32_t kDirectSyntheticTimers = 1U << 19;

// Leaf 0x40000004 EAX: recommendations.
inline constexpr std::uint32_t kRecommendRemoteTlbFlush = 1U << 2;
inline constexpr std::uint32_t kRecommendApicRegisters = 1U << 3;
inline constexpr std::uint32_t kRecommendRelaxedTiming = 1U << 5;
inline constexpr std::uint32_t kRecommendNoAutoEoi = 1U << 9;
inline constexpr std::uint32_t kRecommendClusterIpi = 1U << 10;
inline constexpr std::uint32_t kRecommendExtendedMasks = 1U << 11;
/// EBX when guests should never report long spins.
inline constexpr std::uint32_t kNeverNotifyLongSpin = 0xFFFFFFFF;

}  // namespace bygone::spec::tlfs
