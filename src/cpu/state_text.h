// A processor's registers as lines of text, for the dumps that go into the log.
// Threading: plain functions.
#pragma once

#include <string>

#include "cpu/state.h"

namespace bygone::cpu {

[[nodiscard]] std::string to_text(const GeneralRegisters& registers);
[[nodiscard]] std::string to_text(const SystemRegisters& registers);
/// Everything: general, system, debug and extended registers, MSRs, the local APIC, what is pending.
[[nodiscard]] std::string to_text(const VcpuState& state);

}  // namespace bygone::cpu
