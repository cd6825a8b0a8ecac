// The DSDT of the machine: the VMBus module, its windows, the few chipset devices, processors, sleep states.
#pragma once

#include "firmware/acpi/aml.h"
#include "firmware/acpi/tables.h"

namespace bygone::firmware {

/// The definition block without its header.
[[nodiscard]] aml::Bytes build_dsdt(const AcpiMachine& machine);

}  // namespace bygone::firmware
