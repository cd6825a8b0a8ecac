// Is KVM here real? A ring-0 loop (cpu/speed_probe.h) is timed on it and beside it on the bare processor: some hosts offer
// /dev/kvm and emulate the guest's kernel mode, hundreds of times slower.
// Threading: any thread.
#pragma once

#include <string>

#include "cpu/partition.h"

namespace bygone::cpu::kvm {

/// Takes at most 300 ms, and what the host makes of it when it is busy.
[[nodiscard]] EngineStatus probe(const std::string& device_path);

}  // namespace bygone::cpu::kvm
