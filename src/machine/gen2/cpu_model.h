// The CPUID table of a machine: the engine's features, as far as the machine's processor model has them, and the machine's
// topology.
// Threading: pure functions.
#pragma once

#include <cstdint>
#include <string_view>

#include "cpu/cpuid.h"
#include "support/result.h"

namespace bygone::machine::gen2 {

enum class CpuModel : std::uint8_t {
  kHost,    ///< all that the engine and this host carry
  kLegacy,  ///< what systems of 2001 to 2009 know: a processor of their time, without anything that came after it
};
/// "host", "legacy".
[[nodiscard]] std::string_view to_string(CpuModel model);
/// Errors: kInvalidArgument, naming the models.
[[nodiscard]] Result<CpuModel> parse_cpu_model(std::string_view text);
/// The part of an engine's table that the model has.
[[nodiscard]] cpu::CpuidTable apply_cpu_model(const cpu::CpuidTable& engine, CpuModel model);

/// Turns an engine's table into that of a machine with `processors` in one socket, one thread a core: leaves 1, 4, 0xB,
/// 0x1F, 0x80000008, the hypervisor bit; hypervisor leaves of other makers (0x40000000-0x400FFFFF) are taken out.
[[nodiscard]] cpu::CpuidTable make_machine_cpuid(const cpu::CpuidTable& engine, std::uint32_t processors);

}  // namespace bygone::machine::gen2
