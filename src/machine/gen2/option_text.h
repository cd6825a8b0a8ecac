// Options of a machine as people write them, on command lines and in definitions. Threading: pure functions, but for a look at files.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "machine/gen2/machine.h"

namespace bygone::machine::gen2 {

/// "none" (or nothing), "null", "pty", "file:PATH", "socket:PATH". Errors: kInvalidArgument.
[[nodiscard]] Result<SerialOptions> parse_serial(const std::string& text);
/// "linux", "windows", "legacy-windows". Errors: kInvalidArgument.
[[nodiscard]] Result<GuestProfile> parse_profile(std::string_view text);
/// Drives such as "disk", "disk2" or "dvd", divided by commas, as their places in MachineOptions::disks, where the disks come before the
/// DVD drives. Errors: kInvalidArgument, also for a drive that a machine with so many of each has not got.
[[nodiscard]] Result<std::vector<std::uint8_t>> parse_boot_order(std::string_view text, std::size_t disks, std::size_t dvds);
/// The firmware to start when none is named: the installed one, or the one that a build tree's firmware/build made. Errors: kNotFound.
[[nodiscard]] Result<std::string> find_firmware();

}  // namespace bygone::machine::gen2
