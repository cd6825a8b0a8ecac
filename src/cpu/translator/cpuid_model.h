// What the software processor says of itself in CPUID.
//
// It calls itself an AMD processor that needs no kernel page-table isolation and offers automatic IBRS: no speculation crosses
// from guest code into anything but its own translation, and mitigations would only cost time.
#pragma once

#include "cpu/cpuid.h"

namespace bygone::cpu::translator {

/// Every feature that both the engine and this host carry.
[[nodiscard]] CpuidTable host_model();
/// The fields that depend on the number of processors.
void set_processor_count(CpuidTable& table, std::uint32_t count);

/// RDRAND and RDSEED give nothing that a second processor could repeat.
void hide_random_numbers(CpuidTable& table);

}  // namespace bygone::cpu::translator
