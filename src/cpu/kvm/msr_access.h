// One MSR of a vCPU by KVM_GET_MSRS and KVM_SET_MSRS. Threading: the vCPU's thread.
#pragma once

#include <cstdint>
#include <optional>

#include "cpu/state.h"

namespace bygone::cpu::kvm {

/// nullopt when this kernel or this guest has no such register.
[[nodiscard]] std::optional<std::uint64_t> read_one_msr(int vcpu, std::uint32_t index);
/// False when the kernel refuses the register or the value.
[[nodiscard]] bool write_one_msr(int vcpu, const MsrValue& msr);

}  // namespace bygone::cpu::kvm
