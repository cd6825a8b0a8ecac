// The state of a processor after power-on reset, the same on every engine (Intel SDM volume 3, table 10-1).
#pragma once

#include "cpu/cpuid.h"
#include "cpu/state.h"

namespace bygone::cpu {

/// Processor 0 is the bootstrap processor and runs at 0xFFFFFFF0; the others wait for INIT and SIPI. `cpuid` gives the
/// signature that reset leaves in EDX. The extended state is empty, which means reset values; `msrs` holds those whose reset
/// value matters to system software (EFER is in the system registers).
[[nodiscard]] VcpuState reset_state(VpIndex vp, const CpuidTable& cpuid);

}  // namespace bygone::cpu
