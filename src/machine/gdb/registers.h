// A processor's registers in the order of GDB's description of x86-64, and that description itself.
// Threading: pure functions.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "cpu/state.h"
#include "support/result.h"

namespace bygone::machine::gdb {

/// The target description (XML) whose register order the other functions follow.
[[nodiscard]] const std::string& target_description();
[[nodiscard]] std::size_t register_count();
/// The register's bytes, little-endian; empty: there is no such register.
[[nodiscard]] std::string read_register(const cpu::VcpuState& state, std::size_t number);
/// False: there is none, it has another size, or it can't be written.
[[nodiscard]] bool write_register(cpu::VcpuState& state, std::size_t number, std::string_view bytes);
/// All of them, one after the other, as the packets g and G carry them.
[[nodiscard]] std::string read_all_registers(const cpu::VcpuState& state);
[[nodiscard]] bool write_all_registers(cpu::VcpuState& state, std::string_view bytes);

}  // namespace bygone::machine::gdb
