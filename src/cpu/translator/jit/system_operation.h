// System instructions that the run time carries out: what their sites hold.
#pragma once

#include <cstdint>

namespace bygone::cpu::translator::jit {

enum class SystemOperation : std::uint32_t { kSystemCall, kSystemReturn, kInterruptReturn, kSetAccessCheck, kClearAccessCheck };

}  // namespace bygone::cpu::translator::jit
