// A processor's whole state as JSON and back, and what a saved machine demands of the processors that it resumes on.
// Threading: pure functions.
#pragma once

#include <nlohmann/json.hpp>

#include "cpu/cpuid.h"
#include "cpu/state.h"
#include "support/result.h"

namespace bygone::machine::saved_state {

[[nodiscard]] nlohmann::json processor_to_json(const cpu::VcpuState& state);
/// Errors: kCorrupt, kUnsupported.
[[nodiscard]] Result<cpu::VcpuState> processor_from_json(const nlohmann::json& state);

[[nodiscard]] nlohmann::json cpuid_to_json(const cpu::CpuidTable& table);
/// Errors: kCorrupt.
[[nodiscard]] Result<cpu::CpuidTable> cpuid_from_json(const nlohmann::json& table);

/// Whether software that has seen the processor `saved` can go on with what `offered` can do: same vendor, every feature that
/// software may use still there, the same layout of extended state. Errors: kUnsupported, with what is missing.
[[nodiscard]] Result<void> check_processor(const cpu::CpuidTable& saved, const cpu::CpuidTable& offered);

}  // namespace bygone::machine::saved_state
