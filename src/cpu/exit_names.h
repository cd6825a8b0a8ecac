// What exits are called in statistics.
// Threading: constants.
#pragma once

#include <array>
#include <string_view>

#include "cpu/exit.h"

namespace bygone::cpu {

/// By Exit::index().
inline constexpr std::array<std::string_view, std::variant_size_v<Exit>> kExitNames = {
    "interrupted", "port", "mmio", "msr", "hypercall", "io_apic_eoi", "halt", "shutdown", "debug", "unrecoverable"};

}  // namespace bygone::cpu
