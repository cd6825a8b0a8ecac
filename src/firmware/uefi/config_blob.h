// The configuration blob: what the host tells the firmware about the machine. docs/firmware-interface.md, "Configuration blob".
// Threading: pure function.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "firmware/acpi/tables.h"
#include "support/guid.h"

namespace bygone::firmware {

struct UefiMachine {
  AcpiMachine acpi;
  AddressRange low_gap, high_gap;  ///< the MMIO windows as the firmware sees them: all of the gap
  Guid system_id;
  std::array<std::byte, 64> entropy = {};
  bool stop_at_front_page = true;  ///< false: reset instead of a menu when nothing boots
};

[[nodiscard]] std::vector<std::byte> build_config_blob(const UefiMachine& machine);

}  // namespace bygone::firmware
