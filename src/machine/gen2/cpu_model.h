// The CPUID table of a machine: the engine's features, the machine's topology, and the hypervisor's leaves.
// Threading: pure functions.
#pragma once

#include <cstdint>

#include "cpu/cpuid.h"

namespace bygone::machine::gen2 {

/// Turns an engine's table into that of a machine with `processors` in one socket, one thread a core: leaves 1, 4, 0xB,
/// 0x1F, 0x80000008, the hypervisor bit; hypervisor leaves of other makers (0x40000000-0x400FFFFF) are taken out.
[[nodiscard]] cpu::CpuidTable make_machine_cpuid(const cpu::CpuidTable& engine, std::uint32_t processors);

}  // namespace bygone::machine::gen2
