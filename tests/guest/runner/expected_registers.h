// The registers that an assembly guest shall end with, as the head of its source names them:
//   // expects: rax=0x12 r9=5 flags=0x44
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "support/result.h"

namespace bygone::guest_tests {

using Registers = std::map<std::string, std::uint64_t>;

/// From the comment lines that the source begins with. Errors: kCorrupt: a word is no NAME=NUMBER, or no register is named.
[[nodiscard]] Result<Registers> parse_expected_registers(std::string_view source);

/// What differs, in words; empty when nothing does.
[[nodiscard]] std::string compare_registers(const Registers& expected, const Registers& found);

}  // namespace bygone::guest_tests
