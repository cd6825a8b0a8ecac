// The KVM engine: guest code runs on the host's processor, local APICs live in the kernel (split irqchip), the I/O APIC and the
// devices in user space. The kernel's own Hyper-V emulation is offered as facilities (cpu/facilities.h).
// Threading: create_engine() and the Engine from one thread at a time.
#pragma once

#include <memory>
#include <string>

#include "cpu/partition.h"

namespace bygone::cpu::kvm {

struct EngineOptions {
  std::string device_path = "/dev/kvm";
};

[[nodiscard]] std::unique_ptr<Engine> create_engine(EngineOptions options = {});

}  // namespace bygone::cpu::kvm
