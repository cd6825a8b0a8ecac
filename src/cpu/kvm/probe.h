// Is KVM here real? A ring-0 loop (cpu/speed_probe.h) is timed on it and beside it on the bare processor: some hosts offer
// /dev/kvm and emulate the guest's kernel mode, hundreds of times slower.
// Threading: any thread.
#pragma once

#include <string>

#include "cpu/partition.h"

namespace bygone::cpu::kvm {

/// Measures for at most 300 ms, beside what making a machine takes (a few milliseconds on a host that is not itself emulated).
[[nodiscard]] EngineStatus probe(const std::string& device_path);

}  // namespace bygone::cpu::kvm
